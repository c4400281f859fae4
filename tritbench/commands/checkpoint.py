"""What `tritbench inspect` says of an FP32 checkpoint."""

from typing import Any

from torch import nn

from tritbench.models import Checkpoint, describe


def describe_checkpoint(checkpoint: Checkpoint, file_bytes: int) -> dict[str, Any]:
    """The facts of a .trit file as far as FP32 has them; `bytes` counts all that training left."""
    named = zip(checkpoint.model.named_children(), describe(checkpoint.model), strict=True)
    layers = [about | _float_layer(module) for (_, module), about in named]
    weighted = [layer for layer in layers if "weights" in layer]
    stored = sum(tensor.nbytes for tensor in checkpoint.model.state_dict().values())
    weights = sum(layer["weights"] for layer in weighted)
    return {
        "codec": "float32",
        "input": vars(checkpoint.input),
        "classes": checkpoint.classes,
        "layers": layers,
        "weights": weights,
        "bits_per_weight": 8 * stored / max(weights, 1),
        "bytes": stored,
        "file_bytes": file_bytes,
        "float32_bytes": 4 * (weights + sum(layer["out"] for layer in weighted)),
        "provenance": checkpoint.provenance,
    }


def _float_layer(module: nn.Module) -> dict[str, Any]:
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return {}
    weight = module.weight.detach()
    return {
        "weights": weight.numel(),
        "bytes": sum(tensor.nbytes for tensor in module.state_dict().values()),
        "bits_per_weight": 8 * weight.itemsize,
        "zeros": float((weight == 0).double().mean()),
    }
