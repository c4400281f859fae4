"""A network of one's own in three lines."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import write_tiny_dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tritbench
from tritbench.data import load
from tritbench.errors import TritbenchError

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Residual(nn.Module):
    """A small network that is no chain."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        return self.head((x + self.body(x)).mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(64, 3, 6, 5, generator=torch.Generator().manual_seed(1))


def test_quantize_save_and_load(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ternary = tritbench.quantize(model, images)
    ternary.save(tmp_path / "mine.trit")
    logits = tritbench.load(tmp_path / "mine.trit")(images)
    assert tuple(logits.shape) == (64, 4)
    assert torch.equal(logits, ternary(images))
    assert np.array_equal(logits, ternary(images.numpy()))
    assert ternary.classes == ["0", "1", "2", "3"]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    expected = model(images).detach()
    assert (logits - expected).norm() < 0.7 * (expected - expected.mean(0)).norm()


@pytest.mark.parametrize(
    "given",
    [
        lambda x: TensorDataset(x, torch.zeros(len(x))),
        lambda x: DataLoader(TensorDataset(x, torch.zeros(len(x))), 64),
        lambda x: DataLoader(x, 64),
        list,
    ],
    ids=["a Dataset", "a DataLoader", "a DataLoader without labels", "a list"],
)
def test_images_may_come_in_any_form(
    model: nn.Module, images: Tensor, given: Callable[[Tensor], Any]
) -> None:
    expected = tritbench.quantize(model, images, method="threshold")
    assert tritbench.quantize(model, given(images), method="threshold").content == expected.content


def test_pixels_are_normalized_then_and_later(model: nn.Module, images: Tensor) -> None:
    pixels = (images * 50 + 128).clamp(0, 255).to(torch.uint8)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
    floats = (pixels / 255 - mean) / std
    expected = tritbench.quantize(model, floats, method="optimal")(floats)
    found = tritbench.quantize(model, pixels, mean=MEAN, std=STD, method="optimal")(pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)  # activations have 8 bits


def test_a_data_set_of_tritbench_brings_its_normalization_and_classes(tmp_path: Path) -> None:
    dataset = load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    ternary = tritbench.quantize(model, dataset)
    assert ternary.classes == dataset.classes
    pixels = dataset.test.pixels
    by_hand = tritbench.quantize(
        model, dataset.train.pixels, mean=dataset.mean, std=dataset.std, classes=dataset.classes
    )
    torch.testing.assert_close(ternary(pixels), by_hand(pixels), rtol=0.2, atol=0.2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(15, 3, 6, 5), "images: 15 given, expected at least 16"),
        (torch.zeros(16, 3, 6, 5, dtype=torch.int64), r"images: torch\.int64 .*expected uint8"),
        ([torch.zeros(3, 6, 5)] * 8 + ["no image"], "images: str given, expected tensors"),
        (torch.zeros(16, 3, 6, 5, dtype=torch.uint8), "mean and std of 2 and 3 channels"),
    ],
)
def test_wrong_images_are_named(model: nn.Module, images: Any, message: str) -> None:
    with pytest.raises(TritbenchError, match=message):
        tritbench.quantize(model, images, mean=(0.1, 0.2))


def test_importing_tritbench_brings_nothing_with_it() -> None:
    code = (
        "import sys, tritbench; print({'numpy', 'torch'} & set(sys.modules)); "
        "tritbench.load; print('torch' in sys.modules); "
        "tritbench.quantize; print(callable(tritbench.quantize))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["set()", "False", "True"]
