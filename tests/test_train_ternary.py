"""The one call that trains a ternary network from tensors."""

import pytest
import torch
from torch import nn
from toys import toy_images, toy_network

from tritbench.errors import TritbenchError
from tritbench.graph import run
from tritbench.packing import save_trit
from tritbench.quantize import train_ternary
from tritbench.runtime import load_reference


def test_train_ternary_returns_what_its_network_needs_and_saves_in_one_call(tmp_path):
    images = toy_images()
    ternary, spec = train_ternary(
        toy_network(), images.pixels, images.labels, epochs=6, learning_rate=0.01, batch_size=32
    )
    scaled = images.pixels / 255
    assert spec.mean == pytest.approx((float(scaled.mean()),))
    assert spec.std == pytest.approx((float(scaled.std()),))
    predicted = run(ternary.graph, spec.normalize(images.pixels)).argmax(1)
    assert (predicted == images.labels).float().mean() > 0.9
    save_trit(tmp_path / "mine.trit", ternary, spec, ["dark", "light"], {})
    loaded = load_reference(tmp_path / "mine.trit")
    assert torch.equal(torch.as_tensor(loaded(images.pixels)).argmax(1), predicted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_train_ternary_takes_floats_of_0_to_1_and_any_integers(dtype):
    images = toy_images()
    given = {"epochs": 1, "batch_size": 32}
    one, _ = train_ternary(toy_network(), images.pixels, images.labels, **given)
    other, _ = train_ternary(
        toy_network(), (images.pixels.float() / 255).to(dtype), images.labels.int(), **given
    )
    assert torch.equal(one.weights["5.weight"].trits, other.weights["5.weight"].trits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.randn(64, 1, 4, 4)}, r"values from -\d.* expected uint8, or floats in 0"),
        ({"images": torch.full((64, 1, 4, 4), 255.0)}, "values from 255 to 255"),
        ({"images": torch.full((64, 1, 4, 4), torch.nan)}, "values from nan"),
        ({"images": torch.zeros(64, 1, 4, 4).byte()}, "not all the same"),
        ({"images": torch.zeros(64, 16)}, r"\[64, 16\], expected \[n, c, h, w\]"),
        ({"images": torch.zeros(64, 1, 4, 4).long()}, "images are torch.int64"),
        (
            {"images": torch.rand(64, 1, 5, 5)},
            r"model: it cannot run on images \[1, 5, 5\]",
        ),
        ({"labels": torch.zeros(64)}, r"labels are torch\.float32 \[64\], expected integers"),
        ({"labels": torch.zeros(63).long()}, r"labels are torch\.int64 \[63\]"),
        ({"labels": torch.arange(64)}, "labels from 0 to 63, expected 0 to 1"),
        ({"labels": torch.arange(64) % 2 - 1}, "labels from -1 to 0, expected 0 to 1"),
        ({"model": nn.Sequential(nn.Tanh())}, r"gives \[n, 1, 4, 4\], expected \[n, classes\]"),
        ({"model": toy_network().double()}, "torch.float64, expected torch.float32"),
        ({"threshold": 1.5}, r"train_ternary: threshold = 1\.5: expected auto or a number"),
        ({"epochs": 0}, "train_ternary: epochs = 0"),
        ({"batch_size": 1}, "batch_size = 1: expected at least 2"),
        ({"batch_size": 65}, "batch_size = 65: expected at most the 64"),
        ({"threshold_warmup": 4}, "threshold_warmup = 4: expected at most 3"),
    ],
)
def test_train_ternary_names_what_is_wrong_before_it_trains(changes, message):
    given = {
        "model": toy_network(),
        "images": torch.rand(64, 1, 4, 4),
        "labels": torch.arange(64) % 2,
        "epochs": 1,
        "batch_size": 20,
    }
    with pytest.raises(TritbenchError, match=message):
        train_ternary(**(given | changes))
