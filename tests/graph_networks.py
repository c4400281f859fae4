"""Small networks of many kinds, each with an example input; they use what people's networks use."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """In-place activations and additions, reflected padding, one activation used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=1, groups=2)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        y = self.down(x)
        y += F.max_pool2d(x, 3, 2, 1)
        return self.head(self.act(y).mean((2, 3)))


class SqueezeShuffle(nn.Module):
    """Squeeze-and-excitation, channel shuffle, chunks, concatenation, even kernels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, padding="same")
        self.squeeze, self.excite = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x):
        x = self.conv(x)
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        n, c, h, w = x.shape
        x = (x * gate).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([F.hardswish(a), F.leaky_relu(b, 0.2), F.relu6(a - 2 * b)], 1)
        return F.avg_pool2d(x, 3, 2, 1, ceil_mode=True).amax((2, 3))


class Tokens(nn.Module):
    """Embeddings, a class token for each sequence, an encoder layer whose weights are tied."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 9, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], 1)
        x = self.layer(x + self.position[:, : x.shape[1]])
        return F.log_softmax(self.head(x[:, 0]), -1)


class Windows(nn.Module):
    """Rolled windows of a map as in Swin, with a mask that is written in place."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(3, 9)
        self.norm = nn.LayerNorm(3)

    def forward(self, x):
        n = x.shape[0]
        x = self.norm(x.permute(0, 2, 3, 1)).roll((-1, -1), (1, 2))
        x = x.view(n, 2, 4, 2, 4, 3).permute(0, 1, 3, 2, 4, 5).reshape(n * 4, 16, 3)
        mask = x.new_zeros(16, 16)
        mask[:8, 8:] = -100.0
        q, k, v = self.qkv(x).split(3, -1)
        scores = (q @ k.transpose(-2, -1)) / 3**0.5 + mask
        return (scores.softmax(-1) @ v).reshape(n, -1, 3).mean(1)


class Signals(nn.Module):
    """1-d convolutions, group and instance normalization, einsum, weight_norm, powers."""

    def __init__(self):
        super().__init__()
        self.instance = nn.InstanceNorm1d(3, affine=True)
        self.conv = nn.Conv1d(3, 4, 3, stride=2, padding="valid")
        self.group, self.slope = nn.GroupNorm(2, 4), nn.PReLU(4)
        self.mix = nn.Parameter(torch.randn(4, 6))
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(6, 5))

    def forward(self, x):
        x = self.slope(self.group(self.conv(self.instance(x))))
        x = F.normalize(torch.einsum("ncl,cd->nld", x, self.mix), dim=-1)
        x = F.max_pool1d(x.transpose(1, 2), 2).mean(-1)
        return self.head(1 / (1 + x**2) - x.abs().sqrt())


class Attention(nn.Module):
    """Whole attention with a mask that does not depend on the input."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 4)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x.transpose(1, 2).flatten(2))[:, -1]


class Views(nn.Module):
    """Changes a view of what it still needs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        x = self.conv(x)
        x[:, 1:3].mul_(3)
        x[:, 0].relu_()
        return torch.stack([x.mean((2, 3)), x.flatten(2).amin(-1)], 1).repeat(1, 1, 2).flatten(1)


class Function(nn.Module):
    """Several results of one input, flattened side by side."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(6, 3, 3, 3))

    def forward(self, x):
        results = self.function(x, self.weight)
        return torch.cat([r.reshape(x.shape[0], -1) for r in results], 1)


FUNCTIONS = {
    "activations": lambda x, _: [
        *(f(x) for f in (F.hardsigmoid, F.hardtanh, F.mish, F.selu, F.softsign, F.tanh)),
        *(F.elu(x, 0.5), F.celu(x, 2.0), F.softplus(x, 2.0), F.gelu(x, approximate="tanh")),
        *(torch.erf(x), F.glu(x[:, :2], 1)),
    ],
    "arithmetic": lambda x, _: [
        *(2 - x, x - 2, 3 / (x.abs() + 1), x / 3, torch.add(x, x * 2, alpha=3), -x, x.square()),
        *(torch.maximum(x, x * 0.5), torch.minimum(x, -x), x.exp(), (x.abs() + 1).log()),
        *((x.abs() + 1).rsqrt(), x.clamp(max=0.5), x.clamp_min(-0.5), x.abs() ** 1.5),
    ],
    "pools": lambda x, _: [
        F.max_pool2d(x, (3, 2), (2, 3), (1, 0), ceil_mode=True),
        F.max_pool2d(x, 2, 3, 1, dilation=2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        F.avg_pool2d(x, (2, 3), 3, 1, divisor_override=5),
        F.adaptive_avg_pool2d(x, (3, None)),
        F.adaptive_avg_pool2d(x, (2, 4)),
        F.adaptive_max_pool2d(x, (3, 4)),
        F.adaptive_avg_pool1d(x.flatten(2), 7),
        F.avg_pool1d(x.flatten(2), 3, 2, 1, True, False),
    ],
    "reductions": lambda x, _: [
        *(
            x.mean(1),
            x.sum((2, 3)),
            x.amax(-1, keepdim=True),
            x.amin((1, 2)),
            x.flatten(1).mean(-1),
        ),
        *(x.norm(dim=1), x.norm(1, dim=(2, 3)), x.norm(3, dim=-1), x.softmax(1)),
    ],
    "paddings": lambda x, w: [
        F.pad(x, (1, 2, 0, 3), value=0.5),
        F.pad(x, (-1, 2)),
        F.pad(x, (2, 1, 1, 2), mode="replicate"),
        F.pad(x, (2, 1, 1, 2), mode="circular"),
        F.conv2d(x, w, stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    ],
    "moves": lambda x, _: [
        *(x[:, 1], x[:, :, ::2], x[:, :, 1:-1, -3:], x[:, [2, 0]], x.narrow(2, 1, 4)),
        *(x.movedim(1, -1), x.mT, x.roll(3, 2), torch.stack([x, x], 2)),
        *x.split([1, 2], 1),
        *x.unbind(2)[:2],
        F.pixel_unshuffle(x, 2),
        F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
    ],
    "products": lambda x, w: [
        x @ x.mT,
        x.flatten(2) @ w.flatten(1)[0, :1].expand(64),
        torch.einsum("nchw,ndhw->ncd", x, x),
        F.linear(x, w[:, 0, 0].repeat(1, 3)[:, :8]),
        F.scaled_dot_product_attention(x, x, x, scale=0.3),
        F.scaled_dot_product_attention(
            x[:, :2].repeat(1, 2, 1, 1), x[:, :2], x[:, :2], enable_gqa=True
        ),
        F.rms_norm(x, (8,)),
        F.layer_norm(x, (8, 8)),
        F.group_norm(x, 3),
    ],
}


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """By name, with random weights and statistics, and an input of batch 2."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    made: dict[str, tuple[nn.Module, Tensor]] = {
        "residual": (Residual(), images),
        "squeeze_shuffle": (SqueezeShuffle(), images),
        "tokens": (Tokens(), torch.randint(0, 50, (2, 8))),
        "windows": (Windows(), images),
        "signals": (Signals(), torch.randn(2, 3, 12)),
        "attention": (Attention(), torch.randn(2, 6, 8)),
        "views": (Views(), images),
    }
    made |= {name: (Function(function), images) for name, function in FUNCTIONS.items()}
    for module, _ in made.values():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.5, 2)
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    return made
