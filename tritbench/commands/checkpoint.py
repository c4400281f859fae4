"""What `tritbench inspect` says of an FP32 checkpoint."""

from typing import Any

from tritbench.commands.inspect import describe_nodes, sizes
from tritbench.graph.passes import fold_batch_norm
from tritbench.models import Checkpoint


def describe_checkpoint(checkpoint: Checkpoint, file_bytes: int) -> dict[str, Any]:
    """The facts of a .trit file as far as FP32 has them; `bytes` counts all that training left."""
    spec = checkpoint.input
    graph = checkpoint.graph
    operations = describe_nodes(graph, {}, graph.parameters)
    stored = sum(tensor.nbytes for tensor in checkpoint.state.values())
    weights = sum(facts.get("weights", 0) for facts in operations)
    folded = fold_batch_norm(graph).graph.parameters.values()
    return {
        "codec": "float32",
        "inputs": {name: sizes(value.shape) for name, value in graph.inputs.items()},
        "normalization": {"mean": spec.mean, "std": spec.std},
        "classes": checkpoint.classes,
        "operations": operations,
        "weights": weights,
        "products": graph.products(),
        "bits_per_weight": 8 * stored / max(weights, 1),
        "bytes": stored,
        "file_bytes": file_bytes,
        "float32_bytes": 4 * sum(array.size for array in folded),
        "provenance": checkpoint.provenance,
    }
