"""Arrays of tables and of images in an .npz file become the data set that they hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_sources import be_alone, bring

from tritbench.errors import TritbenchError
from tritbench.shapes import InputSpec


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_alone(monkeypatch, tmp_path)


def arrays(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    content = {
        "x_train": random.normal(5, 3, (60, 4)) * [1, 10, 100, 0],
        "y_train": np.arange(60) % 3,
        "x_test": random.normal(5, 3, (12, 4)),
        "y_test": np.arange(12)[:, None] % 3,
    }
    content |= changes
    np.savez(folder / "it.npz", **{k: v for k, v in content.items() if v is not None})
    return folder


def test_tables_of_floats_are_normalized_column_by_column(tmp_path: Path) -> None:
    found = bring(arrays(tmp_path / "table"))
    assert found.image_shape == (4,)
    assert found.train.pixels.dtype == torch.float32
    assert found.std[3] == 1  # of a column that never changes
    spec = InputSpec(found.image_shape, found.mean, found.std)
    normalized = spec.normalize(found.train.pixels)
    torch.testing.assert_close(normalized.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.std(0, correction=0)[:3], torch.ones(3))


def test_arrays_of_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 5, 7, 3), np.uint8)
    found = bring(arrays(tmp_path / "images", x_train=pixels, x_test=pixels[:12]))
    assert found.image_shape == (3, 5, 7)
    assert np.array_equal(found.test.pixels.permute(0, 2, 3, 1), pixels[:12])
    gray = bring(arrays(tmp_path / "images", x_train=pixels[..., 0], x_test=None, y_test=None))
    assert gray.image_shape == (1, 5, 7)
    assert "held out" in gray.name
    sized = bring(tmp_path / "images", size=3)
    assert sized.image_shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, "no array y_train"),
        ({"y_train": np.arange(60) / 3}, r"y_train: float64 \[60\], expected integers"),
        ({"y_train": np.arange(59)}, "y_train: found 59 labels, expected 60"),
        ({"y_train": np.arange(60) % 3 - 1}, "y_train: found label -1"),
        ({"y_test": np.arange(12)}, "y_test: found label 11, expected 0 to 2"),
        ({"x_train": np.full((60, 4), np.nan)}, "x_train: holds NaN or infinity"),
        (
            {"x_train": np.zeros((60, 4), int)},
            r"x_train: int64 \[60, 4\], expected uint8",
        ),
        ({"x_test": np.zeros((12, 5))}, "x_test: images are 5 of float32, expected 4 of float32"),
        ({"x_test": np.array([None])}, "not an .npz file of numbers"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TritbenchError, match=message):
        bring(arrays(tmp_path / "table", **changes))
