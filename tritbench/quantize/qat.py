"""Quantization-aware training: fake-quantized weights under the ordinary training loop."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tritbench.data import Images
from tritbench.models import InputSpec, check_layers, describe, weight_layers
from tritbench.params import PtqParams, QatParams, QuantizeParams
from tritbench.quantize.fake import FakeQuantize, LearnedStep, StraightThrough, TrainedScales
from tritbench.quantize.ptq import quantize_ptq, search_layer
from tritbench.quantize.ternary import Quantized, require_finite
from tritbench.train import Epoch, Recipe, fit

START_IMAGES = 8192  # that PTQ looks at where training starts from its result

METHODS: dict[str, type[FakeQuantize]] = {
    "ste": StraightThrough,
    "ttq": TrainedScales,
    "lsq": LearnedStep,
}


def fake_quantize(module: nn.Module, settings: QuantizeParams, qat: QatParams) -> FakeQuantize:
    """Put `qat.method`'s parametrization on any module's `weight` and return it."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    parametrization = METHODS[qat.method](weight, settings, qat.stochastic_rounding)
    parametrize.register_parametrization(module, "weight", parametrization)
    return parametrization


def train_qat(
    model: nn.Sequential,
    train: Images,
    validation: Images,
    spec: InputSpec,
    settings: QuantizeParams,
    qat: QatParams,
    recipe: Recipe,
    teacher: nn.Sequential | None = None,
    label: str = "qat",
) -> tuple[Quantized, list[Epoch]]:
    """Train a ternary network from a float one, which stays as it is.

    Args:
        model: float network; its weights are the start, or those of the PTQ method in `qat.start`.
        train: uint8 pixels and labels.
        validation: scored after each epoch.
        spec: how pixels are normalized.
        settings: threshold, reference, granularity, backend.
        qat: method and its options; how to train is the recipe's.
        recipe: epochs, learning rate and all else of the training loop.
        teacher: where recipe.distill is above 0, the trained float network to follow.
        label: what the progress bar says.

    Raises:
        TritbenchError: naming a weight that is not finite, or as `fit`.
    """
    check_layers(model)
    student = copy.deepcopy(model)
    if qat.start != "fp32" and qat.start != "scratch":
        ptq = PtqParams(method=qat.start, calibration={}, bias_correction=True, batchnorm=True)
        student = quantize_ptq(model, train.pixels[:START_IMAGES], spec, settings, ptq).model
    layers = weight_layers(student)
    for name, module in layers.items():
        require_finite(module.weight, f"{name}.weight")
    first = next(iter(layers))
    searched = None
    if qat.frozen_first and qat.start != "scratch" and isinstance(layers[first], nn.Conv2d):
        images = spec.normalize(train.pixels[:START_IMAGES])
        searched = search_layer(student, int(first), images, settings)
    parametrizations = {n: fake_quantize(m, settings, qat) for n, m in layers.items()}
    if searched is not None:
        parametrizations[first].hold(searched)

    def latent(name: str) -> Tensor:
        original = layers[name].parametrizations["weight"].original  # type: ignore[index,union-attr]
        assert isinstance(original, Tensor)
        return original

    def on_step(step: int, steps: int) -> None:
        reached = min(1.0, (step + 1) / qat.threshold_warmup) if qat.threshold_warmup else 1.0
        freeze = step == steps * (recipe.epochs - qat.frozen_epochs) // recipe.epochs
        for name, parametrization in parametrizations.items():
            parametrization.threshold = parametrization.full_threshold * reached
            if freeze and parametrization.frozen is None:
                parametrization.freeze(latent(name))

    curve = fit(student, train, validation, spec, recipe, teacher, on_step, label)
    weights = {}
    with torch.no_grad():
        for name, parametrization in parametrizations.items():
            parametrization.threshold = parametrization.full_threshold
            weights[name] = parametrization.ternary(latent(name))
            parametrize.remove_parametrizations(layers[name], "weight")
            layers[name].weight.copy_(weights[name].dequantize())
    return Quantized(student, weights), curve


def train_ternary(
    model: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    *,
    threshold: float = 0.7,
    epochs: int = 3,
    learning_rate: float = 0.001,
    batch_size: int = 128,
    threshold_warmup: int = 0,
    stochastic_rounding: bool = False,
    seed: int = 0,
) -> Quantized:
    """Quantization-aware training of any packable network on two tensors.

    Args:
        model: nn.Sequential of the layers that can be packed; stays as it is.
        images: uint8 [n, c, h, w], or float in 0..1.
        labels: int64 [n].
        threshold: of the mean absolute weight of each output channel.
        epochs, learning_rate, batch_size, seed: of the training loop.
        threshold_warmup: steps in which the threshold rises to its value.
        stochastic_rounding: round weights at random in training.

    Raises:
        TritbenchError: naming layers that cannot be packed.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images = torch.tensor([[0, 0, 255, 255], [255, 255, 0, 0]] * 64).byte().view(-1, 1, 2, 2)
    >>> labels = torch.tensor([0, 1] * 64)
    >>> ternary = train_ternary(model, images, labels, epochs=5, learning_rate=0.1)
    qat: 5 epochs in ... s, validation 100.00%
    >>> set(ternary.weights["1"].trits.unique().tolist()) <= {-1, 0, 1}
    True
    """
    describe(model)
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    spec = InputSpec(shape, float(pixels.mean()), float(pixels.std()))
    settings = QuantizeParams(
        threshold=threshold, reference="absmean", granularity="channel", backend="native"
    )
    qat = QatParams(
        method="ste",
        start="fp32",
        epochs=epochs,
        learning_rate=learning_rate,
        distill=0.0,
        threshold_warmup=threshold_warmup,
        stochastic_rounding=stochastic_rounding,
        frozen_epochs=0,
        frozen_first=True,
    )
    recipe = Recipe(epochs, learning_rate, batch_size, seed=seed)
    data = Images(images, labels)
    return train_qat(model, data, data, spec, settings, qat, recipe)[0]
