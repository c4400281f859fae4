"""What docs/format.md describes, from bytes to logits in NumPy; it checks nothing."""

import json

import numpy as np
from format_operations import OPERATIONS


def logits(data, images):
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    about = json.loads(header.pop("__metadata__")["tritbench"])
    arrays = {}
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        kinds = {"F32": "<f4", "F16": "<f2", "U8": "u1", "I8": "i1", "I64": "<i8"}
        dtype = kinds[entry["dtype"]]
        arrays[name] = np.frombuffer(data[end + begin : end + stop], dtype).reshape(entry["shape"])
    return (run_layers if about["format_version"] == 1 else run_graph)(about, arrays, images)


def run_layers(about, arrays, images):
    x = (images / 255 - about["input"]["mean"]) / about["input"]["std"]
    for i, layer in enumerate(about["layers"]):
        packed, scale, bias = (arrays.get(f"layers.{i}.{k}") for k in ("trits", "scale", "bias"))
        if packed is not None:
            columns = layer["in"] * np.prod(layer.get("kernel", [1, 1]))
            groups = np.arange(columns) // layer.get("group_size", columns)
            w = unpack(about["codec"], packed, layer["out"], columns)
            negative = arrays.get(f"layers.{i}.negative_scale", scale)
            w = w * np.where(w < 0, negative[:, groups], scale[:, groups])
        if "kernel" in layer:
            x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in layer.get("padding", (0, 0)))])
            x = np.lib.stride_tricks.sliding_window_view(x, layer["kernel"], (2, 3))
            x = x[:, :, :: layer["stride"][0], :: layer["stride"][1]]
        if layer["type"] == "linear":
            x = x @ w.T + bias
        elif layer["type"] == "conv2d":
            w = w.reshape(layer["out"], -1, *layer["kernel"])
            x = np.einsum("nchwij,ocij->nohw", x, w) + bias[:, None, None]
        elif layer["type"] == "affine":
            x = (x.swapaxes(1, -1) * scale + bias).swapaxes(1, -1)
        elif layer["type"] == "relu":
            x = np.maximum(x, 0)
        elif layer["type"] == "flatten":
            x = x.reshape(len(x), -1)
        else:
            x = x.max((4, 5)) if layer["type"] == "maxpool2d" else x.mean((4, 5))
    return x


def run_graph(about, arrays, batch):
    ((name, _),) = about["inputs"].items()
    if "mean" in about:
        wide = (-1, *[1] * (batch.ndim - 2))
        mean, std = (np.reshape(about[key], wide) for key in ("mean", "std"))
        batch = (batch / 255 - mean) / std
    values = arrays | {name: batch}
    for name, entry in about["weights"].items():
        shape = [size for size in entry if isinstance(size, int)]
        columns = int(np.prod(shape[1:]))
        scale = arrays[f"{name}.scale"]
        if f"{name}.int8" in arrays:
            w = arrays[f"{name}.int8"] * scale
        else:
            group_size = entry[-1]["group_size"] if entry != shape else columns
            groups = np.arange(columns) // group_size
            w = unpack(about.get("codec", "base3"), arrays[f"{name}.trits"], shape[0], columns)
            negative = arrays.get(f"{name}.negative_scale", scale)
            w = w * np.where(w < 0, negative[:, groups], scale[:, groups])
        values[name] = w.reshape(shape)
    for number, (op, *rest) in enumerate(about["nodes"]):
        attributes = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        inputs = [None if key is None else values[key] for key in rest]
        if op == "reshape":
            shape = [-size * len(batch) if size < 0 else size for size in attributes["shape"]]
            values[number] = inputs[0].reshape(shape)
        else:
            missing = [None] * ({"conv2d": 3, "layer_norm": 3}.get(op, 0) - len(inputs))
            values[number] = OPERATIONS[op](*inputs, *missing, **attributes)
    return values[number]


def unpack(codec, packed, rows, columns):
    if codec == "entropy":
        return decode(packed.view("<u4").tolist(), rows, columns)
    base, count = {"base3": (3, 5), "t81": (3, 3), "2bit": (4, 4)}[codec]
    digits = packed.reshape(rows, -1, 1) // base ** np.arange(count) % base
    trits = np.array([-1, 0, 1] if base == 3 else [0, 1, 2, -1])[digits]
    return trits.reshape(rows, -1)[:, :columns]


def decode(words, rows, columns):
    lag, state = words[0], 0
    contexts = [(-1, 3), (0, 1), (1, 5)] if lag < columns else [(0, 1)]
    stack = words[1 + 2 * len(contexts) :]
    trits = np.zeros((rows, lag + columns), int)  # the zeros before a row are its first contexts
    for start in range(lag, lag + columns, lag):
        for context, at in contexts:
            sums = [0, words[at], 2**24 - words[at + 1], 2**24]
            for row, place in np.argwhere(trits[:, start - lag : min(start, columns)] == context):
                while state < 2**32 and stack:
                    state = state << 32 | stack.pop()
                rest, q = divmod(state, 2**24)
                digit = (q >= sums[1]) + (q >= sums[2])
                state = (sums[digit + 1] - sums[digit]) * rest + q - sums[digit]
                trits[row, start + place] = digit - 1
    return trits[:, lag:]
