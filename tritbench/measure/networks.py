"""Residual, depthwise and attention networks with random weights, as cases of `kernels`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tritbench.measure.kernels import PIXELS, Case, float_and_ternary
from tritbench.models import InputSpec, make

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Described:
    size: int  # of an image, square
    batches: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    classes: int = 1000
    gray: bool = False


def _timm(name: str) -> dict[str, Any]:
    return {"factory": "timm:create_model", "model_name": name}


NETWORKS = {
    "resnet18": _Described(224, (1, 16), _timm("resnet18")),
    "mobilenetv2_100": _Described(224, (1, 16), _timm("mobilenetv2_100")),
    "vit_tiny_patch16_224": _Described(224, (1, 16), _timm("vit_tiny_patch16_224")),
    "convnext_atto": _Described(224, (1, 16), _timm("convnext_atto")),
    "resnet18 at 32": _Described(32, (1, 128), _timm("resnet18")),
    "resnet": _Described(32, (1, 128), {"depth": 20}, 10),
    "dscnn": _Described(28, (1, 128), {}, 10, gray=True),
    "vit": _Described(28, (1, 128), {}, 10, gray=True),
}


def network_cases(names: Sequence[str]) -> Iterator[Case]:
    """At each batch size: weights made ternary, those of depthwise convolutions in 8 bits.

    Raises:
        TritbenchError: where timm, which makes those of its names, is not installed.
    """
    random = torch.Generator().manual_seed(0)
    for name in names:
        about = NETWORKS[name]
        spec = PIXELS if about.gray else InputSpec((3, about.size, about.size), *IMAGENET)
        model = make(name.partition(" ")[0], about.settings, spec.shape, about.classes, seed=0)
        float_network, network = float_and_ternary(model, spec)
        for batch in about.batches:
            x = torch.randint(0, 256, (batch, *spec.shape), generator=random).to(torch.uint8)
            yield Case(name, float_network, network, x, spec.normalize(x))
