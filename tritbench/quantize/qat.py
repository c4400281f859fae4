"""Quantization-aware training: fake-quantized weights under the ordinary training loop."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.graph import Graph, capture
from tritbench.models import InputSpec, check_network
from tritbench.params import PtqParams, QatParams, QuantizeParams
from tritbench.quantize.fake import METHODS, FakeInteger, FakeQuantize
from tritbench.quantize.kept import (
    IntegerWeight,
    by_half,
    integer_scale,
    kept_weights,
    to_integers,
)
from tritbench.quantize.layer import BATCH
from tritbench.quantize.ptq import quantize_ptq, search_layer
from tritbench.quantize.ternary import Quantized, QuantizedWeight, require_alive, require_finite
from tritbench.quantize.trits import check_backend
from tritbench.train import Epoch, Recipe, fit, steps_per_epoch
from tritbench.validation import describe as describe_errors
from tritbench.values import Kept

START_IMAGES = 8192  # that PTQ looks at where training starts from its result


@dataclass(frozen=True)
class Place:
    """Where a parameter is: an attribute of a module."""

    module: nn.Module
    attribute: str

    @property
    def value(self) -> Tensor:
        """What the module sees there."""
        found = getattr(self.module, self.attribute)
        assert isinstance(found, Tensor)
        return found


@dataclass(frozen=True)
class Latent:
    """A float weight that trains as a ternary one.

    Attributes:
        places: all where it is, several where it is tied; they share what follows.
        quantizer: what the modules see it through.
    """

    places: tuple[Place, ...]
    quantizer: FakeQuantize

    @property
    def value(self) -> Tensor:
        """What the quantizer sees."""
        place = self.places[0]
        original = place.module.parametrizations[place.attribute].original  # type: ignore[index,union-attr]
        assert isinstance(original, Tensor)
        return original


def fake_quantize(
    places: Iterable[Place], settings: QuantizeParams, qat: QatParams
) -> FakeQuantize:
    """Put `qat.method`'s parametrization on a parameter, in all places where it is; return it."""
    first, *tied = places
    quantizer = METHODS[qat.method](first.value, settings, qat.stochastic_rounding)
    for place in (first, *tied):
        parametrize.register_parametrization(place.module, place.attribute, quantizer)
    return quantizer


def find_places(model: nn.Module, names: Iterable[str]) -> dict[str, tuple[Place, ...]]:
    """Where the parameters of these qualified names are, ties included.

    Raises:
        TritbenchError: naming those that the model has no parameter for.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    if computed := [name for name in names if name not in own]:
        raise TritbenchError(
            f"{', '.join(computed)}: computed from other parameters (weight_norm or the like), "
            "expected parameters to train as ternary; PTQ takes them"
        )
    places = {}
    for name in names:
        tied = [name, *(n for n, p in own.items() if p is own[name] and n != name)]
        parts = (n.rpartition(".") for n in tied)
        places[name] = tuple(Place(model.get_submodule(path), last) for path, _, last in parts)
    return places


def train_qat(
    model: nn.Module,
    train: Images,
    validation: Images,
    spec: InputSpec,
    settings: QuantizeParams,
    qat: QatParams,
    recipe: Recipe,
    teacher: nn.Module | None = None,
    label: str = "qat",
    keep: Path | None = None,
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
        keep: file that holds the training while it lasts, as of `fit`.

    Raises:
        TritbenchError: before training, naming a setting that the training is too short for, what
            cannot become ternary, or a weight that is not finite; in training, naming a weight that
            became all zero, or as `fit`.
    """
    check_schedule(qat, recipe, len(train))
    check_backend(settings.backend, {"qat.method": qat.method, "qat.start": qat.start})
    student = copy.deepcopy(model)
    for name, parameter in student.named_parameters():
        require_finite(parameter, name)
    graph = check_network(student, label, spec.shape)
    places = find_places(student, graph.weights())
    kept = kept_weights(places, settings.keep)
    weights = _parametrized(
        student, graph, places, kept, train.pixels[:START_IMAGES], spec, settings, qat
    )
    asleep = {n for n, w in weights.items() if not w.value.any()}  # start from zeros, and learn

    @torch.no_grad()
    def check_alive() -> None:
        for name, weight in weights.items():
            ternary = weight.quantizer.ternary(weight.value)
            if name not in asleep or ternary.trits.any():
                asleep.discard(name)
                require_alive(_layer(name), weight.value, ternary, settings)

    def on_step(step: int, steps: int) -> bool:
        reached = min(1.0, (step + 1) / qat.threshold_warmup) if qat.threshold_warmup else 1.0
        freeze = step == steps // recipe.epochs * (recipe.epochs - qat.frozen_epochs)
        warming = step < qat.threshold_warmup
        for weight in weights.values():
            weight.quantizer.threshold = weight.quantizer.full_threshold * reached
            if freeze and weight.quantizer.frozen is None:
                weight.quantizer.freeze(weight.value)
        if step % (steps // recipe.epochs) == 0:
            check_alive()
        return warming or freeze

    by = (settings, qat)
    curve = fit(student, train, validation, spec, recipe, teacher, on_step, label, keep, by)
    found = _final(weights, places, kept, settings)
    return Quantized(capture(student, spec.normalize(train.pixels[:2])), found), curve


@torch.no_grad()
def _final(
    weights: Mapping[str, Latent],
    places: Mapping[str, tuple[Place, ...]],
    kept: Mapping[str, Kept],
    settings: QuantizeParams,
) -> dict[str, QuantizedWeight]:
    """What training ends with; the modules have it in place of what they were trained through."""
    found: dict[str, QuantizedWeight] = {}
    for name, weight in weights.items():
        weight.quantizer.threshold = weight.quantizer.full_threshold
        found[name] = ternary = weight.quantizer.ternary(weight.value)
        require_alive(_layer(name), weight.value, ternary, settings)
    for name, of in places.items():
        if kept.get(name) != "float16":
            for place in of:
                parametrize.remove_parametrizations(place.module, place.attribute, False)
        if name in kept:
            found[name] = _keep(of[0].value, name, kept[name])
        of[0].value.copy_(found[name].dequantize())
    return {name: found[name] for name in places}


def _keep(weight: Tensor, name: str, kind: Kept) -> QuantizedWeight:
    """A trained weight that stays int8 or float16."""
    if kind == "float16":
        return by_half(weight.detach(), name)
    scale = integer_scale(weight)
    return IntegerWeight(to_integers(weight, scale).to(torch.int8), scale)


def _layer(name: str) -> str:
    return name.removesuffix(".weight")


def _parametrized(
    student: nn.Module,
    graph: Graph,
    places: dict[str, tuple[Place, ...]],
    kept: Mapping[str, Kept],
    images: Tensor,
    spec: InputSpec,
    settings: QuantizeParams,
    qat: QatParams,
) -> dict[str, Latent]:
    """The ternary weights as training starts with them; `images` are what PTQ may look at.

    Those kept as int8 are seen through a quantizer as well.
    """
    if qat.start != "fp32" and qat.start != "scratch":
        ptq = PtqParams(
            method=qat.start, calibration=START_IMAGES, bias_correction=True, batchnorm=True
        )
        graph = quantize_ptq(graph, images, spec, settings, ptq).graph
        state = student.state_dict()
        for name in state.keys() & graph.parameters.keys():
            state[name].copy_(torch.from_numpy(graph.parameters[name]).view_as(state[name]))
    (first, node), *_ = graph.weights().items()
    searched = None
    searches = qat.frozen_first and qat.start != "scratch" and first not in kept
    if searches and node.op == "conv2d":
        batches = [spec.normalize(batch) for batch in images.split(BATCH)]
        searched = search_layer(graph, first, batches, settings)
    for name, kind in kept.items():
        for place in places[name] if kind == "int8" else ():
            parametrize.register_parametrization(place.module, place.attribute, FakeInteger())
    ternary = {name: of for name, of in places.items() if name not in kept}
    weights = {n: Latent(of, fake_quantize(of, settings, qat)) for n, of in ternary.items()}
    if searched is not None:
        weights[first].quantizer.freeze_at(searched)
    return weights


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
    model: nn.Module,
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
) -> tuple[Quantized, InputSpec]:
    """Quantization-aware training of any network on two tensors.

    Images are normalized here by the mean and standard deviation of all their pixels. The result is
    the ternary network and how it takes images; `save_trit` of `tritbench.packing` takes both.

    Args:
        model: any module that gives logits [n, classes] of normalized images; stays as it is.
        images: [n, c, h, w], uint8 or floats in 0..1, not normalized.
        labels: integers [n], each below the number of the model's outputs.
        threshold: of the mean absolute weight of each output channel, in (0, 1].
        epochs, learning_rate, batch_size, seed: of the training loop.
        threshold_warmup: steps in which the threshold rises to its value.
        stochastic_rounding: round weights at random in training.

    Raises:
        TritbenchError: before training, naming the argument or the operations that are wrong, the
            value found and what was expected; in training, as `train_qat`.

    >>> from tritbench.graph import run
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images = torch.tensor([[0, 0, 255, 255], [255, 255, 0, 0]] * 64).byte().view(-1, 1, 2, 2)
    >>> labels = torch.tensor([0, 1] * 64)
    >>> ternary, spec = train_ternary(model, images, labels, epochs=5, learning_rate=0.1)
    qat: 5 epochs in ... s, validation 100.00%
    >>> set(ternary.weights["1.weight"].trits.unique().tolist()) <= {-1, 0, 1}
    True
    >>> run(ternary.graph, spec.normalize(images[:2])).argmax(1)
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
    graph = check_network(model, "train_ternary: model", spec.shape)
    outputs = graph.shapes()[graph.output][-1]
    least, greatest = int(data.labels.min()), int(data.labels.max())
    if least < 0 or greatest >= outputs:
        raise TritbenchError(
            f"train_ternary: labels from {least} to {greatest}, expected 0 to {outputs - 1}, the "
            "outputs of the model"
        )
    recipe = Recipe(epochs, learning_rate, batch_size, seed=seed)
    return train_qat(model, data, data, spec, settings, qat, recipe)[0], spec


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
