"""Quantization-aware training: fake-quantized weights under the ordinary training loop."""

import copy

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.graph import capture
from tritbench.models import InputSpec, check_layers, check_network, describe, weight_layers
from tritbench.params import PtqParams, QatParams, QuantizeParams
from tritbench.quantize.fake import FakeQuantize, LearnedStep, StraightThrough, TrainedScales
from tritbench.quantize.layer import BATCH
from tritbench.quantize.ptq import quantize_ptq, search_layer
from tritbench.quantize.ternary import QuantizedChain, require_alive, require_finite
from tritbench.quantize.trits import check_backend
from tritbench.shapes import follow
from tritbench.train import Epoch, Recipe, fit, steps_per_epoch
from tritbench.validation import describe as describe_errors

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
) -> tuple[QuantizedChain, list[Epoch]]:
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
        TritbenchError: before training, naming a setting that the training is too short for, a
            layer that cannot be packed, or a weight that is not finite; in training, naming a layer
            that became all zero, or as `fit`.
    """
    check_layers(model)
    check_schedule(qat, recipe, len(train))
    check_backend(settings.backend, {"qat.method": qat.method, "qat.start": qat.start})
    student = copy.deepcopy(model)
    layers = weight_layers(student)
    for name, module in layers.items():
        require_finite(module.weight, f"{name}.weight")
    images = train.pixels[:START_IMAGES]
    if qat.start != "fp32" and qat.start != "scratch":
        ptq = PtqParams(method=qat.start, calibration={}, bias_correction=True, batchnorm=True)
        graph = capture(student, spec.normalize(images[:2]))
        started = quantize_ptq(graph, images, spec, settings, ptq).graph.parameters
        state = student.state_dict()
        with torch.no_grad():
            for name in state.keys() & started.keys():
                state[name].copy_(torch.from_numpy(started[name]))
    first = next(iter(layers))
    searched = None
    if qat.frozen_first and qat.start != "scratch" and isinstance(layers[first], nn.Conv2d):
        graph = capture(student, spec.normalize(images[:2]))
        batches = [spec.normalize(batch) for batch in images.split(BATCH)]
        searched = search_layer(graph, f"{first}.weight", batches, settings)
    parametrizations = {n: fake_quantize(m, settings, qat) for n, m in layers.items()}
    if searched is not None:
        parametrizations[first].hold(searched)

    def latent(name: str) -> Tensor:
        original = layers[name].parametrizations["weight"].original  # type: ignore[index,union-attr]
        assert isinstance(original, Tensor)
        return original

    asleep = {name for name in layers if not latent(name).any()}  # may start from zeros, and learn

    @torch.no_grad()
    def check_alive() -> None:
        for name, parametrization in parametrizations.items():
            ternary = parametrization.ternary(latent(name))
            if name not in asleep or ternary.trits.any():
                asleep.discard(name)
                require_alive(name, latent(name), ternary, settings)

    def on_step(step: int, steps: int) -> None:
        reached = min(1.0, (step + 1) / qat.threshold_warmup) if qat.threshold_warmup else 1.0
        freeze = step == steps // recipe.epochs * (recipe.epochs - qat.frozen_epochs)
        for name, parametrization in parametrizations.items():
            parametrization.threshold = parametrization.full_threshold * reached
            if freeze and parametrization.frozen is None:
                parametrization.freeze(latent(name))
        if step % (steps // recipe.epochs) == 0:
            check_alive()

    curve = fit(student, train, validation, spec, recipe, teacher, on_step, label)
    weights = {}
    with torch.no_grad():
        for name, parametrization in parametrizations.items():
            parametrization.threshold = parametrization.full_threshold
            weights[name] = parametrization.ternary(latent(name))
            require_alive(name, latent(name), weights[name], settings)
            parametrize.remove_parametrizations(layers[name], "weight")
            layers[name].weight.copy_(weights[name].dequantize())
    return QuantizedChain(student, weights, spec), curve


def check_schedule(qat: QatParams, recipe: Recipe, images: int) -> None:
    """Refuse settings that contradict the number of steps that `images` give.

    Raises:
        TritbenchError: naming the key, its value and what was expected.
    """
    if qat.frozen_epochs > recipe.epochs:
        raise TritbenchError(
            f"qat.frozen_epochs = {qat.frozen_epochs}: expected at most the {recipe.epochs} epochs"
        )
    steps = steps_per_epoch(images, recipe) * (recipe.epochs - qat.frozen_epochs)
    if qat.threshold_warmup > steps:
        raise TritbenchError(
            f"qat.threshold_warmup = {qat.threshold_warmup}: expected at most {steps}, the steps "
            "before the trits are final"
        )


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
) -> QuantizedChain:
    """Quantization-aware training of any packable network on two tensors.

    Images are normalized here by their own mean and standard deviation, which the result's `input`
    holds; `save_trit` of `tritbench.packing` takes the result as it is.

    Args:
        model: nn.Sequential of the layers that can be packed; stays as it is.
        images: [n, c, h, w], uint8 or floats in 0..1, not normalized.
        labels: integers [n], each below the number of the model's outputs.
        threshold: of the mean absolute weight of each output channel, in (0, 1].
        epochs, learning_rate, batch_size, seed: of the training loop.
        threshold_warmup: steps in which the threshold rises to its value.
        stochastic_rounding: round weights at random in training.

    Raises:
        TritbenchError: before training, naming the argument or the layers that are wrong, the value
            found and what was expected; in training, as `train_qat`.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images = torch.tensor([[0, 0, 255, 255], [255, 255, 0, 0]] * 64).byte().view(-1, 1, 2, 2)
    >>> labels = torch.tensor([0, 1] * 64)
    >>> ternary = train_ternary(model, images, labels, epochs=5, learning_rate=0.1)
    qat: 5 epochs in ... s, validation 100.00%
    >>> set(ternary.weights["1"].trits.unique().tolist()) <= {-1, 0, 1}
    True
    >>> ternary.model(ternary.input.normalize(images[:2])).argmax(1)
    tensor([0, 1])
    """
    try:
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
    except ValidationError as error:
        raise TritbenchError(describe_errors(error, "train_ternary")) from None
    if batch_size < 2:
        raise TritbenchError(f"train_ternary: batch_size = {batch_size}: expected at least 2")
    data, spec = _data(images, labels)
    check_network(model, "train_ternary: model", spec.shape)
    outputs = follow(describe(model), spec.shape)[-1][0]
    least, greatest = int(data.labels.min()), int(data.labels.max())
    if least < 0 or greatest >= outputs:
        raise TritbenchError(
            f"train_ternary: labels from {least} to {greatest}, expected 0 to {outputs - 1}, the "
            "outputs of the model"
        )
    recipe = Recipe(epochs, learning_rate, batch_size, seed=seed)
    return train_qat(model, data, data, spec, settings, qat, recipe)[0]


def _data(images: Tensor, labels: Tensor) -> tuple[Images, InputSpec]:
    """Images with labels, and how a network takes them.

    Raises:
        TritbenchError: where the tensors are not such images and labels.
    """
    found = f"train_ternary: images are {images.dtype} {list(images.shape)}"
    if images.dim() != 4 or images.numel() == 0:
        raise TritbenchError(f"{found}, expected [n, c, h, w]")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TritbenchError(f"{found}, expected uint8, or floats in 0..1")
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise TritbenchError(
            f"train_ternary: labels are {labels.dtype} {list(labels.shape)}, expected integers "
            f"[{len(images)}], one for each image"
        )
    pixels = images.detach().cpu()
    scaled = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    least, greatest = float(scaled.min()), float(scaled.max())
    if not 0 <= least < greatest <= 1:  # also refuses NaN
        raise TritbenchError(
            f"{found} with values from {least:.4g} to {greatest:.4g}, expected uint8, or floats "
            "in 0..1, not all the same: train_ternary normalizes them itself"
        )
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    deviations, means = torch.std_mean(scaled, (0, 2, 3))
    if not deviations.all():
        raise TritbenchError(f"{found}, expected no channel that is the same everywhere")
    spec = InputSpec(shape, tuple(means.tolist()), tuple(deviations.tolist()))
    return Images(pixels, labels.detach().cpu().long()), spec
