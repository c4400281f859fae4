"""Float to trit, exactly as t81lib 0.1.0 defines it, here or by t81lib itself."""

import importlib
from collections.abc import Mapping
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tritbench.errors import TritbenchError
from tritbench.params import expected_backend


@overload
def quantize_to_trits(x: Tensor, threshold: float) -> Tensor: ...
@overload
def quantize_to_trits(x: NDArray[np.floating], threshold: float) -> NDArray[np.int8]: ...
def quantize_to_trits(
    x: Tensor | NDArray[np.floating], threshold: float
) -> Tensor | NDArray[np.int8]:
    """Trits of `x` clamped to [-1, 1]: +1 from `threshold` on, -1 from -threshold on, else 0.

    Args:
        x: floats of any shape but 0-d; NaN gives 0.
        threshold: in (0, 1], compared in float32.

    Returns:
        int8 in the same shape, a tensor for a tensor and an array for an array.

    Raises:
        ValueError: for a threshold outside (0, 1] or a 0-d input.

    >>> quantize_to_trits(np.array([-2.0, -0.5, 0.4, 0.5], np.float32), 0.5)
    array([-1, -1,  0,  1], dtype=int8)
    """
    if not 0 < threshold <= 1:  # also refuses NaN
        raise ValueError(f"threshold = {threshold}: expected a number in (0, 1]")
    if x.ndim == 0:
        raise ValueError("x is 0-d: expected at least one dimension")
    bound = float(np.float32(threshold))
    if isinstance(x, Tensor):
        # Several times faster than comparisons: what lies above the float before the bound stays.
        below = float(np.nextafter(np.float32(bound), np.float32(0)))
        return F.hardshrink(x.float(), below).sign_().to(torch.int8)
    array = np.asarray(x, dtype=np.float32)
    return (array >= bound).astype(np.int8) - (array <= -bound).astype(np.int8)


def t81lib_trits(x: Tensor, threshold: float) -> Tensor:
    """The same trits from t81lib."""
    t81lib = importlib.import_module("t81lib")
    values = np.ascontiguousarray(x.detach().float().numpy())
    return torch.from_numpy(np.asarray(t81lib.quantize_to_trits(values, threshold), np.int8))


def check_backend(backend: str, methods: Mapping[str, str]) -> None:
    """Refuse a backend that is absent, or that methods, by their keys, would not use.

    Raises:
        TritbenchError: naming the key and what was expected.
    """
    if (expected := expected_backend(backend, methods)) is not None:
        raise TritbenchError(f"quantize.backend = {backend!r}: expected {expected}")


BACKENDS = {"native": quantize_to_trits, "t81lib": t81lib_trits}
