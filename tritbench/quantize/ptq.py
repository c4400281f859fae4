"""Post-training quantization: no labels, no training, some calibration images."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tritbench.models import InputSpec, weight_layers
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize.ternary import Quantized, TernaryWeight, require_finite, ternarize

# A method turns a weight into trits and scales. It may ask for the layer's inputs on the
# calibration images, as the layers before it, already ternary, produce them.
Method = Callable[[Tensor, QuantizeParams, Callable[[], Tensor]], TernaryWeight]

BATCH = 256


def threshold(
    weight: Tensor, settings: QuantizeParams, inputs: Callable[[], Tensor]
) -> TernaryWeight:
    """Threshold × reference with a least-squares scale (TWN, arXiv 1605.04711)."""
    return ternarize(weight, settings, settings.threshold)


METHODS: dict[str, Method] = {"threshold": threshold}


@torch.no_grad()
def quantize_ptq(
    model: nn.Sequential,
    calibration: Tensor,
    spec: InputSpec,
    settings: QuantizeParams,
    ptq: PtqParams,
) -> Quantized:
    """Make every Linear and Conv2d of a trained network ternary, in order; `model` stays as it is.

    Args:
        model: float network.
        calibration: uint8 images [n, c, h, w] from the training split, without labels.
        spec: how they are normalized.
        settings: threshold, reference, granularity, backend.
        ptq: method, and whether BatchNorm statistics are re-estimated.

    Raises:
        TritbenchError: naming a weight that is not finite.
    """
    model = copy.deepcopy(model).eval()
    images = spec.normalize(calibration)
    weights = {}
    for name, module in weight_layers(model).items():
        require_finite(module.weight, f"{name}.weight")
        before = model[: int(name)]
        weights[name] = METHODS[ptq.method](module.weight, settings, partial(before, images))
        module.weight.copy_(weights[name].dequantize())
    if ptq.batchnorm:
        reestimate_batchnorm(model, images)
    return Quantized(model, weights)


@torch.no_grad()
def reestimate_batchnorm(model: nn.Sequential, images: Tensor) -> None:
    """Replace BatchNorm's running statistics by those of `images`, normalized [n, c, h, w]."""
    norms = [m for m in model if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    # Whole batches only: a short last one would weigh as much as the others.
    batch = min(BATCH, len(images))
    for start in range(0, len(images) - batch + 1, batch):
        model(images[start : start + batch])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
