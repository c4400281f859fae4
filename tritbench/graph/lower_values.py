"""Lowerings of what computes values."""

from typing import Any

from torch import Tensor

from tritbench.errors import TritbenchError
from tritbench.graph.lower import (
    Arguments,
    Lowering,
    Name,
    Reader,
    UnsupportedError,
    as_list,
    plainly,
    read_shape,
    reshaped,
    sliced,
)
from tritbench.graph.shapes import axis


def _clamp(reader: Reader, name: str, arguments: Arguments, _: Any) -> Any:
    bounds = {
        "hardtanh": ("min_val", "max_val"),
        "clamp": ("min", "max"),
        "clamp_min": ("min", None),
        "clamp_max": (None, "max"),
    }
    low, high = (arguments[k] if k else None for k in bounds[name])
    if isinstance(low, Tensor | Name) or isinstance(high, Tensor | Name):
        raise UnsupportedError(f"{name} by a tensor")
    return reader.add("clamp", [arguments["self"]], min=low, max=high)


def _relu6(reader: Reader, _: str, arguments: Arguments, __: Any) -> Any:
    return reader.add("clamp", [arguments["self"]], min=0, max=6)


def _add(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    """add, sub and rsub with their factor `alpha`."""
    left, right, alpha = arguments["self"], arguments["other"], arguments["alpha"]
    if name == "rsub":
        name = "sub"
        if not isinstance(right, Tensor | Name):
            left = reader.add("mul", [left], other=-alpha if alpha != 1 else -1)
            return reader.add("add", [left], other=right)
        left, right = right, left
    if alpha != 1:
        if isinstance(right, Tensor | Name):
            right = reader.add("mul", [right], other=alpha)
        else:
            right = right * alpha
    return plainly(reader, name, {"self": left, "other": right}, value)


def _divide(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    if arguments.get("rounding_mode") is not None:
        raise UnsupportedError(f"{name} with rounding_mode={arguments['rounding_mode']}")
    return plainly(reader, name, {k: arguments[k] for k in ("self", "other")}, value)


def _pool(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    rank = 1 if name.endswith("1d") else 2
    settings = dict(arguments)
    for key in ("kernel_size", "stride", "padding", "dilation"):
        if key in settings:
            settings[key] = as_list(settings[key] or settings["kernel_size"], rank)
    found = _batched(reader, name.removesuffix("_with_indices"), settings, value, rank)
    return [found] if isinstance(value, list | tuple) else found


def _adaptive_pool(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    rank = 1 if name.endswith("1d") else 2
    result = value[0] if isinstance(value, list | tuple) else value
    settings = {"self": arguments["self"], "output_size": list(read_shape(result))[-rank:]}
    found = _batched(reader, name, settings, result, rank)
    return [found] if isinstance(value, list | tuple) else found


def _batched(reader: Reader, name: str, arguments: Arguments, value: Any, rank: int) -> Any:
    if len(reader.shape_of(arguments["self"])) != rank + 2:
        raise TritbenchError(f"{name} of {list(reader.shape_of(arguments['self']))}")
    return plainly(reader, name, arguments, value)


def _convolution(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    rank = 1 if name == "conv1d" else 2
    settings = dict(arguments)
    for key in ("stride", "dilation"):
        settings[key] = as_list(settings[key], rank)
    padding = settings["padding"]
    if isinstance(padding, str):
        kernel = reader.shape_of(settings["weight"])[2:]
        total = [
            d * (k - 1) if padding == "same" else 0
            for d, k in zip(settings["dilation"], kernel, strict=True)
        ]
        padding = [n // 2 for n in total]
        if any(n % 2 for n in total):  # PyTorch pads one more behind
            more = [n for t in reversed(total) for n in (0, t % 2)]
            settings["input"] = reader.add("pad", [settings["input"]], pad=more)
    settings["padding"] = as_list(padding, rank)
    return plainly(reader, name, settings, value)


def _batch_norm(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    if arguments.get("running_mean") is None or arguments.get("training"):
        raise TritbenchError("BatchNorm without running statistics cannot be run image by image")
    found = plainly(reader, "batch_norm", arguments, value)
    return [found] if name.startswith("_native") else found


def _instance_norm(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    if not arguments["use_input_stats"]:
        return _batch_norm(reader, name, arguments, value)
    settings = {key: arguments[key] for key in ("input", "weight", "bias", "eps")}
    settings["num_groups"] = reader.shape_of(settings["input"])[1]
    return plainly(reader, "group_norm", settings, value)


def _reduce(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    source = arguments["self"]
    rank = len(reader.shape_of(source))
    dims = arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or range(rank))
    settings = {"dim": sorted(axis(d, rank) for d in dims), "keepdim": False}
    settings |= {k: arguments[k] for k in ("keepdim", "ord") if k in arguments}
    return plainly(reader, name, {"self": source, **settings}, value)


def _along(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    name = name.removeprefix("_")
    rank = len(reader.shape_of(arguments["self"]))
    settings = {"self": arguments["self"], "dim": axis(arguments["dim"], rank)}
    return plainly(reader, name, settings, value)


def _power(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    if name == "square":
        return reader.add("pow", [arguments["self"]], exponent=2)
    if isinstance(arguments["exponent"], Tensor | Name) or not isinstance(arguments["self"], Name):
        raise UnsupportedError("pow by a tensor")
    return plainly(reader, name, arguments, value)


def _matmul(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    left, right = arguments["self"], arguments.get("other", arguments.get("mat2"))
    ranks = [len(reader.shape_of(x)) for x in (left, right)]
    if ranks[0] == 1:
        left = reshaped(reader, left, (1, *reader.shape_of(left)))
    if ranks[1] == 1:
        right = reshaped(reader, right, (*reader.shape_of(right), 1))
    return reshaped(reader, reader.add("matmul", [left, right]), read_shape(value))


def _addmm(reader: Reader, _: str, arguments: Arguments, value: Any) -> Any:
    if not (arguments["beta"] == arguments["alpha"] == 1):
        raise UnsupportedError("addmm with alpha or beta")
    product = reader.add("matmul", [arguments["mat1"], arguments["mat2"]])
    return reader.add("add", [product, arguments["self"]])


def _embedding(reader: Reader, name: str, arguments: Arguments, value: Any) -> Any:
    return plainly(reader, name, {k: arguments[k] for k in ("weight", "indices")}, value)


def _celu(reader: Reader, _: str, arguments: Arguments, __: Any) -> Any:
    alpha = arguments["alpha"]
    return reader.add("elu", [arguments["self"]], alpha=alpha, input_scale=1 / alpha)


def _glu(reader: Reader, _: str, arguments: Arguments, __: Any) -> Any:
    source = arguments["self"]
    shape = reader.shape_of(source)
    at = axis(arguments["dim"], len(shape))
    half = shape[at] // 2
    gate = reader.add("sigmoid", [sliced(reader, source, at, half, shape[at])])
    return reader.add("mul", [sliced(reader, source, at, 0, half), gate])


VALUE_LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(("hardtanh", "clamp", "clamp_min", "clamp_max"), _clamp),
    "relu6": _relu6,
    "celu": _celu,
    "glu": _glu,
    **dict.fromkeys(("add", "sub", "rsub"), _add),
    "div": _divide,
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "avg_pool1d", "avg_pool2d"), _pool
    ),
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive_pool
    ),
    **dict.fromkeys(("conv1d", "conv2d"), _convolution),
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    "instance_norm": _instance_norm,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "linalg_vector_norm"), _reduce),
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax"), _along),
    **dict.fromkeys(("pow", "square"), _power),
    **dict.fromkeys(("matmul", "mm", "bmm"), _matmul),
    "addmm": _addmm,
    "embedding": _embedding,
}
