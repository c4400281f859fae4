"""ggml: the same trits in its format TQ2_0."""

import ctypes
import importlib
import weakref
from typing import Any

import numpy as np
from torch import Tensor

from tritbench.measure.peers.peer import Call, UnavailableError, need
from tritbench.packing.weights import PackedGraph

BLOCK = 256  # weights that share a scale; a row has no other length than multiples


def linear(network: PackedGraph, x: Tensor) -> tuple[str, Call]:
    """A network of one linear layer, without the bias, of x float32 [n, ...].

    Returns:
        what of the inputs it takes, where not all, in words; and what runs it.
    """
    need("ggml")
    weights = list(network.weights.values())
    if [node.op for node in network.graph.nodes] != ["reshape", "linear"] or len(weights) != 1:
        raise UnavailableError("it runs single linear layers")
    x = x.flatten(1)
    inputs = x.shape[1] // BLOCK * BLOCK
    if not inputs:
        raise UnavailableError(f"{x.shape[1]} inputs; a row has a multiple of {BLOCK}")
    note = "" if inputs == x.shape[1] else f" (K={inputs})"
    return note, multiply(weights[0].dequantize()[:, :inputs], x.numpy()[:, :inputs])


def multiply(weight: np.ndarray, x: np.ndarray) -> Call:
    """What multiplies x float32 [n, in] by ternary weights, on the calling thread.

    The graph, its plan and the weights in TQ2_0 are made here. A call computes the graph: it
    quantizes x to 8 bits (Q8_K) and multiplies, as every call of ggml does.

    Args:
        weight: float32 [out, in], `in` a multiple of 256, with one magnitude besides 0 in each row.
        x: float32 [n, in].

    Returns:
        a callable that gives float32 [n, out], the same array at each call.
    """
    ggml: Any = importlib.import_module("ggml")

    x, weight = (np.ascontiguousarray(array, np.float32) for array in (x, weight))
    (images, inputs), outputs = x.shape, len(weight)
    kind = ggml.GGML_TYPE_TQ2_0
    packed = np.empty(outputs * ggml.ggml_row_size(kind, inputs), np.uint8)
    source = weight.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    ggml.ggml_quantize_chunk(kind, source, packed.ctypes.data, 0, outputs, inputs, None)
    result = np.empty((images, outputs), np.float32)

    # The context holds the graph alone: the tensors' data are the arrays above.
    size = ggml.ggml_graph_overhead() + 8 * ggml.ggml_tensor_overhead()
    context = ggml.ggml_init(ggml.ggml_init_params(size, None, True))
    a = ggml.ggml_new_tensor_2d(context, kind, inputs, outputs)
    b = ggml.ggml_new_tensor_2d(context, ggml.GGML_TYPE_F32, inputs, images)
    product = ggml.ggml_mul_mat(context, a, b)
    for tensor, array in ((a, packed), (b, x), (product, result)):
        tensor.contents.data = array.ctypes.data
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, product)
    # A pool of one is the calling thread: none is started that would spin beside other engines.
    # Without a pool ggml makes one at each call.
    settings = ggml.ggml_threadpool_params_default(1)
    pool = ggml.ggml_threadpool_new(ctypes.byref(settings))
    plan = ggml.ggml_graph_plan(graph, 1, pool)
    plan.work_data = (ctypes.c_uint8 * plan.work_size)()
    compute, reference = ggml.ggml_graph_compute, ctypes.byref(plan)
    arrays = packed, x, result  # kept alive with the call

    def call(_: Any) -> np.ndarray:
        if compute(graph, reference) != ggml.GGML_STATUS_SUCCESS:
            raise RuntimeError("ggml could not compute the product")
        return arrays[-1]

    weakref.finalize(call, ggml.ggml_free, context)
    weakref.finalize(call, ggml.ggml_threadpool_free, pool)
    return call
