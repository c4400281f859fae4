"""Small trainings for test_parallel.py; torchrun runs this file: `parallel_cases.py OUTPUT`."""

import sys

import torch
from safetensors.torch import save_file
from torch import nn

from tritbench import parallel
from tritbench.data import Images
from tritbench.devices import use_device
from tritbench.models import InputSpec
from tritbench.params import QatParams, QuantizeParams
from tritbench.quantize import train_qat
from tritbench.train import Recipe, fit

SPEC = InputSpec((1, 8, 8), (0.5,), (0.25,))
CASES = ["fp32", "bfloat16", "ste", "ttq", "lsq"]


def network(dropout):
    """Convolution, both BatchNorms, and Dropout, which every process must draw alike."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(96, 12, bias=False),
        nn.BatchNorm1d(12, momentum=None),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


def images(count):
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 128, (count, 1, 8, 8), generator=generator)
    for image, label in zip(pixels, labels, strict=True):
        image[:, :, 2 * label : 2 * label + 3] += 100
    return Images(pixels.to(torch.uint8), labels)


def train(case, keep=None):
    """The trained network's state and its curve, [epochs, columns]."""
    precision = "bfloat16" if case == "bfloat16" else "float32"
    recipe = Recipe(3, 0.01, 16, 0.1, augment=("flip",), label_smoothing=0.1, precision=precision)
    if case in ("fp32", "bfloat16"):
        model = network(dropout=0.2)
        curve = fit(model, images(50), images(31), SPEC, recipe, label=case, keep=keep)
        found = model.state_dict()
    else:
        teacher = network(dropout=0.2).eval()
        settings = QuantizeParams(
            threshold="auto", reference="absmean", granularity="channel", backend="native"
        )
        options = {"method": case, "start": "fp32", "epochs": 3, "learning_rate": 0.01}
        options |= {"distill": 0.5, "threshold_warmup": 2, "stochastic_rounding": case == "ste"}
        qat = QatParams(**options, frozen_epochs=1, frozen_first=case == "lsq")
        recipe = Recipe(3, 0.01, 16, 0.1, augment=("flip",), distill=0.5)
        quantized, curve = train_qat(
            *(network(dropout=0.2), images(50), images(31), SPEC, settings, qat, recipe, teacher),
            label=case,
            keep=keep,
        )
        found = {name: torch.from_numpy(a) for name, a in quantized.graph.parameters.items()}
    rows = [[e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy] for e in curve]
    return {**found, "curve": torch.tensor(rows)}


def main(output):
    use_device("cpu", 1)
    states = {f"{case}/{key}": v for case in CASES for key, v in train(case).items()}
    save_file(states, f"{output}/{parallel.group().rank}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
