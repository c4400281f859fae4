"""Networks that are more than a chain: a residual one, a depthwise-separable one, attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tritbench.errors import TritbenchError


class _Block(nn.Module):
    """Two 3×3 convolutions beside an identity, which a stride subsamples and fills with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            before = self.more // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, before))
        return F.relu(y + x)


class ResNet(nn.Module):
    """The CIFAR form (He et al., arXiv 1512.03385, 4.2): three stages of 16, 32 and 64 channels,
    identity shortcuts without parameters (option A). Names are those of published checkpoints."""

    def __init__(self, classes: int, channels: int, depth: int = 20) -> None:
        if depth < 8 or depth % 6 != 2:
            raise TritbenchError(f"depth = {depth}: expected 8, 14, 20, 26, 32, …")
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = depth // 6
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                _Block(inputs, outputs, outputs // inputs),
                *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)),
            )
            for inputs, outputs in ((16, 16), (16, 32), (32, 64))
        )
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images [n, channels, height, width]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))  # type: ignore[no-any-return]


def dscnn(classes: int, channels: int, width: int = 32) -> nn.Sequential:
    """Depthwise-separable convolutions (MobileNet, arXiv 1704.04861), from `width` channels on.

    Each 3×3 convolution of every channel by itself is followed by one of 1×1; both have BatchNorm
    and ReLU. Channels double where the image is halved.
    """

    def convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    layers = [convolution(channels, width, 3, 1, 1)]
    stages = ((1, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1))
    for inputs, outputs, stride in stages:
        layers.append(convolution(inputs * width, inputs * width, 3, stride, inputs * width))
        layers.append(convolution(inputs * width, outputs * width, 1, 1, 1))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))
    return nn.Sequential(*layers, *head)


class _Attention(nn.Module):
    """A pre-norm encoder block: attention, then two dense layers with GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, 2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.projection(mixed)
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """A vision transformer (arXiv 2010.11929) on patches of 4×4, with the mean of the tokens."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        width: int = 96,
        depth: int = 6,
        heads: int = 3,
    ) -> None:
        channels, height, columns = shape
        if height % 4 or columns % 4 or width % heads:
            raise TritbenchError(
                f"images of {height}×{columns}, width {width}, {heads} heads: expected multiples "
                "of 4, and of the heads"
            )
        super().__init__()
        self.patches = nn.Conv2d(channels, width, 4, 4)
        self.position = nn.Parameter(torch.randn(1, height * columns // 16, width) * 0.02)
        self.blocks = nn.Sequential(*(_Attention(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images `shape`."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))  # type: ignore[no-any-return]
