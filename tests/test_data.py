"""Loading images: split by seed, and what does not fit refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_sources import be_alone, params
from tiny import write_tiny_dataset

from tritbench.data import calibration_images, fetch, load
from tritbench.data.description import TEST_LABELS, TRAIN_IMAGES
from tritbench.data.sources import idx_files
from tritbench.data.split import split
from tritbench.errors import TritbenchError
from tritbench.idx import idx_bytes
from tritbench.shapes import InputSpec


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_alone(monkeypatch, tmp_path)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_tiny_dataset(tmp_path / "mine")


def test_parts_are_stratified_disjoint_and_complete() -> None:
    label = np.repeat(np.arange(3), [500, 300, 203])
    train, validation = split(label, 101, seed=0)
    assert len(validation) == 101
    assert np.bincount(label[validation]).tolist() == [50, 30, 21]  # of 50.35, 30.21 and 20.44
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(1003))


def test_the_split_depends_on_the_seed_alone() -> None:
    label = np.arange(1000) % 10
    first, again, other = (split(label, 100, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[:5].tolist() == [6, 24, 29, 33, 40]  # on every platform and NumPy version


@given(st.data())
def test_any_split_has_the_asked_size_and_fair_shares(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(2, 60), min_size=2, max_size=8))
    label = np.repeat(np.arange(len(sizes)), sizes)
    asked = data.draw(st.integers(len(sizes), max(len(sizes), len(label) // 2)))
    try:
        train, validation = split(label, asked, data.draw(st.integers(0, 2**32 - 1)))
    except TritbenchError:
        return
    held = np.bincount(label[validation], minlength=len(sizes))
    assert held.sum() == asked
    assert len(train) == len(label) - asked
    assert np.abs(held - asked * np.array(sizes) / len(label)).max() < 1


@pytest.mark.parametrize("validation", [2, 298, 300, 1000])
def test_an_impossible_split_names_its_parameter(validation: int) -> None:
    with pytest.raises(TritbenchError, match=rf"^data\.validation: {validation} images"):
        split(np.arange(300) % 3, validation, 0)


def test_more_classes_than_a_sixth_of_the_images_name_that_limit() -> None:
    message = r"200 images \(at most a sixth of the 1200 images\), .* each of the 250 classes"
    with pytest.raises(TritbenchError, match=message):
        split(np.arange(1200) % 250, 200, 0)


def test_at_most_a_sixth_of_the_training_images_is_for_validation(mine: Path) -> None:
    dataset = load(mine, 10_000, 0)
    assert (len(dataset.train), len(dataset.validation)) == (250, 50)


def test_mean_and_std_are_of_the_training_part(mine: Path) -> None:
    dataset = load(mine, 30, 0)
    pixels = dataset.train.pixels.double() / 255
    assert dataset.mean == pytest.approx((pixels.mean().item(),), rel=1e-12)
    assert dataset.std == pytest.approx((pixels.std(correction=0).item(),), rel=1e-12)


def test_every_channel_has_its_mean_and_std(tmp_path: Path) -> None:
    mine = write_tiny_dataset(tmp_path / "mine")
    for file, count in ((idx_files.TRAIN_IMAGES, 300), (idx_files.TEST_IMAGES, 100)):
        pixels = np.random.default_rng(0).integers(0, (100, 200, 256), (count, 8, 6, 3), np.uint8)
        (mine / file).unlink()
        (mine / file.replace("idx3", "idx4")).write_bytes(idx_bytes(pixels))
    dataset = load(fetch(params(f"path:{mine}"), 0), 30, 0)
    pixels = dataset.train.pixels.double() / 255
    assert dataset.image_shape == (3, 8, 6)
    assert dataset.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert dataset.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-12)
    spec = InputSpec(dataset.image_shape, dataset.mean, dataset.std)
    normalized = spec.normalize(dataset.train.pixels).double()
    assert normalized.mean((0, 2, 3)).abs().max() < 1e-5
    with pytest.raises(TritbenchError, match="mean and std of 1 and 1 channels, expected 3"):
        InputSpec(dataset.image_shape, (0.5,), (0.5,))


def test_images_without_contrast_are_refused(mine: Path) -> None:
    (mine / idx_files.TRAIN_IMAGES).write_bytes(idx_bytes(np.full((300, 8, 8), 7, np.uint8)))
    with pytest.raises(TritbenchError, match=f"{TRAIN_IMAGES}: every pixel is 7"):
        load(fetch(params(f"path:{mine}"), 0), 30, 0)


def test_shapes_types_and_selection(mine: Path) -> None:
    images = load(mine, 30, 0).train
    assert len(images) == 270
    assert (images.pixels.dtype, tuple(images.pixels.shape)) == (torch.uint8, (270, 1, 8, 8))
    assert images.labels.dtype == torch.int64
    some = images.select(torch.tensor([5, 2]))
    assert len(some) == 2
    assert torch.equal(some.pixels[1], images.pixels[2])


def test_calibration_images_are_drawn_by_seed(mine: Path) -> None:
    dataset = load(mine, 30, 0)
    first, again, other = (calibration_images(dataset, 20, seed) for seed in (0, 0, 1))
    assert tuple(first.shape) == (20, 1, 8, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    everything = calibration_images(dataset, 270, 0)
    assert everything.long().sum() == dataset.train.pixels.long().sum()
    assert torch.equal(calibration_images(dataset, 271, 0), everything)


def test_a_changed_file_is_named(mine: Path) -> None:
    np.save(mine / TEST_LABELS, np.zeros(100, np.int64))
    with pytest.raises(TritbenchError, match=f"{TEST_LABELS}: found .*, expected SHA-256"):
        load(mine, 30, 0)
    (mine / TEST_LABELS).unlink()
    with pytest.raises(TritbenchError, match=f"{TEST_LABELS}: found no such file"):
        load(mine, 30, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "no such file"),
        ("{", "Invalid JSON"),
        ("{}", "name: Field required"),
        ({"classes": ["a", "b"]}, "describes .* 2 classes"),
        ({"counts": {"train": 1, "test": 100}}, "describes"),
        ({"image": "8x8"}, "image: "),
        ({"sha256": {}}, "sha256 names"),
    ],
)
def test_a_damaged_description_is_named(
    mine: Path, change: str | dict[str, object] | None, message: str
) -> None:
    path = mine / "dataset.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(path.read_text()) | change)
    path.unlink()
    if change is not None:
        path.write_text(change)
    with pytest.raises(TritbenchError, match=rf"dataset\.json: .*{message}") as caught:
        load(mine, 30, 0)
    assert "\n" not in str(caught.value)
