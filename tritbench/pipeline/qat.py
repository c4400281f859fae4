"""Quantization-aware training from a checkpoint."""

from tritbench import models, train
from tritbench.data import Dataset
from tritbench.devices import use_device
from tritbench.models import Checkpoint
from tritbench.params import Params
from tritbench.quantize import Quantized
from tritbench.quantize import train_qat as train_ternary
from tritbench.train import Epoch
from tritbench.training_state import state_file


def train_qat(
    params: Params, name: str, dataset: Dataset, checkpoint: Checkpoint, label: str
) -> tuple[Quantized, list[Epoch]]:
    """Train a network with ternary weights from its FP32 checkpoint, or from scratch.

    Raises:
        TritbenchError: where params.yaml makes a network that the checkpoint does not fit, or as
            `tritbench.quantize.train_qat`.
    """
    own = params.of(name)
    device = use_device(own.train.device, own.train.threads)
    settings = own.model[name]
    network = teacher = checkpoint.module(name, settings)
    if own.qat.start == "scratch":
        shape, classes = checkpoint.input.shape, len(checkpoint.classes)
        network = models.make(name, settings, shape, classes, own.seed)
    return train_ternary(
        network,
        dataset.train,
        dataset.validation,
        checkpoint.input,
        own.quantize,
        own.qat,
        train.qat_recipe(own, device),
        teacher=teacher,
        label=label,
        keep=state_file(label),
    )
