"""The FP32 network: trained here, or with weights that others trained."""

from pathlib import Path
from typing import Any

import torch

from tritbench import models, train
from tritbench.data import Dataset
from tritbench.devices import use_device
from tritbench.files import sha256
from tritbench.models import Checkpoint, InputSpec
from tritbench.params import Params
from tritbench.provenance import provenance
from tritbench.train import Epoch
from tritbench.training_state import state_file


def train_fp32(
    params: Params, name: str, dataset: Dataset, label: str
) -> tuple[Checkpoint, list[Epoch]]:
    """Train `name` in FP32, or import its `weights`; its checkpoint and its curve.

    Of imported weights the curve is one epoch, 0: what they give before any training here, on the
    validation images and as many training images.

    Raises:
        TritbenchError: before training, where the network cannot become ternary or the weights do
            not fit it; in training, as `train.fit`.
    """
    own = params.of(name)
    device = use_device(own.train.device, own.train.threads)
    settings = own.model[name]
    given: Any = settings.get("normalize", {"mean": dataset.mean, "std": dataset.std})
    spec = InputSpec(dataset.image_shape, tuple(given["mean"]), tuple(given["std"]))
    network = models.build(name, settings, spec.shape, len(dataset.classes), own.seed)
    recipe = train.recipe(own, device)
    if isinstance(weights := settings.get("weights"), str):
        models.load_state(network, models.read_state(Path(weights)), weights)
        held_out = dataset.validation
        some = dataset.train.select(torch.arange(min(len(dataset.train), len(held_out))))
        curve = [train.score(network.eval(), some, held_out, spec)]
        about = provenance(dataset, own, name, "float32")
        about["weights"] = {"file": Path(weights).name, "sha256": sha256(Path(weights))}
    else:
        images, held_out = dataset.train, dataset.validation
        keep = state_file(label)
        curve = train.fit(network, images, held_out, spec, recipe, label=label, keep=keep)
        about = provenance(dataset, own, name, recipe.precision, "train")
    return Checkpoint.of(network, spec, dataset.classes, about), curve
