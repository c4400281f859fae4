"""The engine's kernels of floats, called from Python: `native/float_kernels.h` in ctypes."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_float, c_int32, c_int64, c_void_p
from functools import cache

import numpy as np

Int, Float, Data = c_int64, c_float, c_void_p


class Sliding(Structure):
    _fields_ = [
        (name, Int)
        for name in (
            *("height", "width", "pixel", "kernel_y", "kernel_x", "stride_y", "stride_x"),
            *("padding_y", "padding_x", "dilation_y", "dilation_x", "out_width"),
        )
    ]


class DepthwiseBytes(Structure):
    _fields_ = [
        ("panels", Int),
        *((name, Data) for name in ("weights", "scales", "sums", "bias")),
        *((name, Float) for name in ("low", "high")),
    ]


class DepthwiseFloats(Structure):
    _fields_ = [
        ("panels", Int),
        *((name, Data) for name in ("weights", "bias")),
        *((name, Float) for name in ("low", "high")),
    ]


class FloatPanels(Structure):
    _fields_ = [
        *((name, Int) for name in ("outputs", "taps", "inputs")),
        *((name, Data) for name in ("offsets", "weights", "bias")),
        *((name, Float) for name in ("low", "high")),
    ]


class Attention(Structure):
    _fields_ = [
        *((name, Int) for name in ("queries", "keys", "size", "value_size")),
        *((name, Data) for name in ("query", "key", "value")),
        *((name, Int) for name in ("query_stride", "key_stride", "value_stride")),
        ("mask", Data),
        ("mask_stride", Int),
        ("causal", c_bool),
        ("scale", Float),
    ]


class Rows(Structure):
    _fields_ = [("data", Data), ("stride", Int), ("step", Int)]


def _function(*arguments):
    return CFUNCTYPE(None, *arguments)


_LINES = (Int, Int, Data)


class FloatKernels(Structure):
    _fields_ = [
        (
            "depthwise_bytes",
            _function(
                POINTER(DepthwiseBytes), POINTER(Sliding), Data, Float, c_int32, *_LINES, Int
            ),
        ),
        (
            "depthwise_floats",
            _function(POINTER(DepthwiseFloats), POINTER(Sliding), Data, *_LINES, Int),
        ),
        ("matmul", _function(POINTER(FloatPanels), Data, Int, Int, Data, Int)),
        ("pack_panels", _function(Data, Int, Int, Int, Int, Data)),
        ("attention", _function(POINTER(Attention), Int, Int, Data, Data, Int)),
        ("layer_norm", _function(Data, Int, Int, Int, Data, Data, Float, Data, Int)),
        ("softmax", _function(Data, Int, Int, Int, c_bool, Data, Int)),
        ("group_norm", _function(Data, Int, Int, Int, Int, Data, Data, Float, Data, Int)),
        ("unary", _function(c_int32, Data, Int, Data)),
        ("clamp", _function(Data, Int, Float, Float, Data)),
        ("binary", _function(c_int32, POINTER(Rows), POINTER(Rows), Int, Int, Data, Int)),
        ("max_pool", _function(POINTER(Sliding), Data, *_LINES)),
        ("average_pool", _function(POINTER(Sliding), c_bool, Int, Data, *_LINES)),
        ("mean", _function(Data, Int, Int, Int, Data)),
    ]


@cache
def kernels(isa):
    from tritbench.runtime import _engine

    return FloatKernels.from_address(_engine.float_kernels(isa))


def call(isa, name, *arguments):
    """Call a kernel; arrays give their addresses, structures those of their own."""
    passed = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            passed.append(argument.ctypes.data)
        elif isinstance(argument, Structure):
            passed.append(ctypes.byref(argument))
        else:
            passed.append(argument)
    getattr(kernels(isa), name)(*passed)


def aligned(values):
    """A copy at a multiple of 64 bytes, as the engine lays weights."""
    room = np.zeros(values.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[:] = values
    return copy


def in_panels(values, axis=-1):
    """The last axis [..., n] in panels of 16, filled up with zeros: [panels, ..., 16]."""
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % 16)]
    padded = np.pad(values, padding)
    return aligned(np.moveaxis(padded.reshape(*values.shape[:-1], -1, 16), -2, 0))
