"""Weights that do not become ternary: 8-bit integers, or float16."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.quantize.gptq import gptq
from tritbench.quantize.layer import Layer
from tritbench.values import Kept

LARGEST = 127  # symmetric: -128 is left out


@dataclass(frozen=True)
class IntegerWeight:
    """`weight ≈ scale × values`.

    Attributes:
        values: int8 in -127..127, the weight's shape [out, ...].
        scale: float32 [out, 1].
    """

    values: Tensor
    scale: Tensor

    def dequantize(self) -> Tensor:
        """float32 in the weight's shape."""
        return (self.values.flatten(1) * self.scale).reshape(self.values.shape)


@dataclass(frozen=True)
class HalfWeight:
    """A weight in float16, `values` [out, ...]."""

    values: Tensor

    def dequantize(self) -> Tensor:
        """float32 in the weight's shape."""
        return self.values.float()


def kept_weights(names: Iterable[str], keep: Mapping[str, Kept]) -> dict[str, Kept]:
    """What the weights are kept as that a pattern names, the first one that does.

    Args:
        names: qualified names of weights, such as `stem.conv.weight`.
        keep: `quantize.keep`; a pattern is held against the name with and without `.weight`.

    Raises:
        TritbenchError: naming a pattern that no weight has, and the weights there are.

    >>> kept_weights(["stem.weight", "head.weight"], {"stem": "float16", "*": "int8"})
    {'stem.weight': 'float16', 'head.weight': 'int8'}
    """
    names = list(names)
    found: dict[str, Kept] = {}
    for pattern, kind in keep.items():
        named = [n for n in names if _matches(n, pattern)]
        if not named:
            there = ", ".join(name.removesuffix(".weight") for name in names)
            raise TritbenchError(
                f"quantize.keep: no weight is called {pattern!r}; expected one of {there}, or a "
                "pattern such as 'layer1.*'"
            )
        found = dict.fromkeys(named, kind) | found
    return found


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(".weight"), pattern)


def integer_scale(weight: Tensor) -> Tensor:
    """A symmetric scale for each output, [out, 1]; 1 where all weights are 0."""
    peak = weight.detach().flatten(1).abs().amax(1, keepdim=True)
    return torch.where(peak > 0, peak / LARGEST, 1)


def to_integers(weight: Tensor, scale: Tensor) -> Tensor:
    """The nearest integers in -127..127, as floats in the weight's shape."""
    nearest = (weight.detach().flatten(1) / scale).round()
    return nearest.clamp(-LARGEST, LARGEST).reshape(weight.shape)


def by_integers(layer: Layer) -> IntegerWeight:
    """8-bit integers by GPTQ (arXiv 2210.17323), with the largest weight of an output as 127."""
    weight = layer.target
    scale = integer_scale(weight)
    values = gptq(weight, layer.moments.hessian, scale, None, LARGEST)
    return IntegerWeight(values.to(torch.int8), scale)


def by_half(weight: Tensor, name: str) -> HalfWeight:
    """The weight in float16.

    Raises:
        TritbenchError: naming a weight that float16 cannot hold.
    """
    half = weight.half()
    if not half.isfinite().all():
        peak = float(weight.abs().max())
        raise TritbenchError(f"{name}: holds {peak:.4g}, expected at most 65504 to keep as float16")
    return HalfWeight(half)
