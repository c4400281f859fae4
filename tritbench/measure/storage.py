"""What a model weighs: its arrays, its file, bits a weight."""

from dataclasses import dataclass
from pathlib import Path

from tritbench.packing import Network
from tritbench.packing.entropy import entropy
from tritbench.packing.weights import TernaryArray


@dataclass(frozen=True)
class Storage:
    """Sizes in bytes; `bytes` is that of the stored arrays, `zeros` the share of 0 trits, if any.

    `entropy_bits` are the bits a weight that trits with each layer's frequencies cannot go below
    when each is coded alone; scales and biases come on top.
    """

    bytes: int
    file_bytes: int
    bits_per_weight: float
    zeros: float | None = None
    entropy_bits: float | None = None


def ternary_storage(path: Path, network: Network) -> Storage:
    """Of a .trit file and what it holds; `bits_per_weight` also counts weights in more bits."""
    total = sum(array.nbytes for array in network.stored.values())
    parameters = network.packed.graph.parameters
    names = {*network.packed.weights, *network.packed.graph.weights()}
    bits_per_weight = 8 * total / sum(parameters[name].size for name in names)
    layers = [w.trits for w in network.packed.weights.values() if isinstance(w, TernaryArray)]
    trits = sum(layer.size for layer in layers)
    zeros = sum(int((layer == 0).sum()) for layer in layers)
    bits = sum(layer.size * entropy(layer) for layer in layers)
    shares = (zeros / trits, bits / trits) if trits else (None, None)
    return Storage(total, path.stat().st_size, bits_per_weight, *shares)


def float_storage(path: Path, weights: int, others: int) -> Storage:
    """Of a float32 network with so many weights and other parameters, 4 bytes each."""
    total = 4 * (weights + others)
    return Storage(total, path.stat().st_size, 8 * total / weights)
