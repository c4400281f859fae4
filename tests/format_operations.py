"""Operations of version 2 in NumPy, by name: of inputs (None where one is missing) and attributes.

Those of the built-in networks, and a few more; written from docs/format.md and ATen's definitions.
"""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])


def windows(x, kernel, stride, padding, dilation=(1, 1), fill=0.0):
    """[n, channels, height, width, *kernel]."""
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=fill)
    spread = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(x, spread, (2, 3))
    return found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def conv2d(x, weight, bias, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    found = windows(x, weight.shape[2:], stride, padding, dilation)
    parts = zip(np.split(found, groups, 1), np.split(weight, groups), strict=True)
    y = np.concatenate([np.einsum("nchwij,ocij->nohw", a, b) for a, b in parts], 1)
    return y if bias is None else y + bias[:, None, None]


def max_pool2d(x, kernel_size, stride, padding=(0, 0)):
    return windows(x, kernel_size, stride, padding, fill=-np.inf).max((4, 5))


def avg_pool2d(x, kernel_size, stride, padding=(0, 0)):
    return windows(x, kernel_size, stride, padding).mean((4, 5))


def layer_norm(x, weight, bias, normalized_shape, eps=1e-5):
    axes = tuple(range(-len(normalized_shape), 0))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def attention(query, key, value, mask=None):
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True) @ value


def pad(x, pad, value=None, mode="constant"):
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    amounts = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, amounts, constant_values=value or 0)
    return np.pad(x, amounts, mode={"reflect": "reflect", "replicate": "edge"}[mode])


def mean(x, dim=(), keepdim=False):
    return x.mean(tuple(dim) or None, keepdims=keepdim)


def slice_(x, dim, end, start=0, step=1):
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


OPERATIONS = {
    "linear": lambda x, w, bias=None: x @ w.T + (0 if bias is None else bias),
    "conv2d": conv2d,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "add": lambda x, y=None, other=None: x + (other if y is None else y),
    "mul": lambda x, y=None, other=None: x * (other if y is None else y),
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    # To one position alone.
    "adaptive_avg_pool2d": lambda x, output_size: x.mean((2, 3), keepdims=True),
    "layer_norm": layer_norm,
    "scaled_dot_product_attention": attention,
    "mean": mean,
    "slice": slice_,
    "pad": pad,
    "permute": lambda x, dims: x.transpose(dims),
}
