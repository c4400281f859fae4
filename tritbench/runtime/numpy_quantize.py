"""Activations of 8 bits in NumPy, bit for bit as the engine has them (`numpy_steps.py`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.runtime.float_reference import Floats
from tritbench.runtime.parts import Levels

LEAST_RANGE = np.float32(2.0**-100)
f32 = np.float32


def padded(x: NDArray[Any], padding: tuple[int, ...], value: int = 0) -> NDArray[Any]:
    """[..., height, width] with a value around."""
    top, left, bottom, right = padding
    around = [(0, 0)] * (x.ndim - 2) + [(top, bottom), (left, right)]
    return np.pad(x, around, constant_values=value)


def padded_maps(x: NDArray[Any], padding: tuple[int, ...], value: int = 0) -> NDArray[Any]:
    """[..., height, width, channels] with a value around."""
    return np.moveaxis(padded(np.moveaxis(x, -1, -3), padding, value), -3, -1)


def quantize(x: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """q, zero points and scales of maps [..., height, width, channels]; the latter [...]."""
    flat = x.reshape(*x.shape[:-3], -1)
    low, high = np.minimum(flat.min(-1), f32(0)), np.maximum(flat.max(-1), f32(0))
    with np.errstate(over="ignore"):
        span = np.asarray(high - low, f32)
    some = (span >= LEAST_RANGE) & np.isfinite(span)
    inverse = np.where(some, f32(255) / np.where(some, span, f32(1)), f32(0)).astype(f32)
    zero = np.minimum(np.rint(-low * inverse), 255)
    wide = (..., None, None, None)
    q = np.clip(np.rint(x * inverse[wide]) + zero[wide], 0, 255)
    scale = np.where(span >= LEAST_RANGE, span / f32(255), f32(0)).astype(f32)
    return q.astype(np.int64), zero.astype(np.int64), scale


def to_levels(x: Floats, levels: Levels) -> NDArray[np.int64]:
    """q of finite x."""
    with np.errstate(over="ignore"):
        scaled = x * f32(levels.inverse)
    inside = np.clip(scaled, f32(-levels.zero), f32(255 - levels.zero))
    return np.asarray(np.rint(inside), np.int64) + levels.zero
