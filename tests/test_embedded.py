"""The embedded data set: the same bytes everywhere, balanced, and learnable."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from tritbench.data.sources.embedded import CLASSES, draw

Part = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

# SHA-256 of train images, train labels, test images and test labels. Another value on another
# platform or NumPy version means that `draw` is not portable; do not just record it.
DIGESTS_OF_SEED_0 = [
    "cc1cfa92338643012e1ee37b969862811153371654b88f4599447a3b3ee2f6e1",
    "af41236fe20ab5fbb7491138b3aa06985daadc0fe0450979d3f02fbf1fe24b2f",
    "be6084de8abbb5df1f03b6a9709945710f35709078fac5b860d488d8d157617a",
    "7cfc1b235b4951c21d1cdc22cdab7f31548070c2f7fa6386a8602a2c8145bf36",
]


@pytest.fixture(scope="module")
def seed_0() -> Part:
    return draw(0)


def test_bytes_are_the_recorded_ones(seed_0: Part) -> None:
    assert [hashlib.sha256(array.tobytes()).hexdigest() for array in seed_0] == DIGESTS_OF_SEED_0


def test_shapes_and_types(seed_0: Part) -> None:
    assert [array.shape for array in seed_0] == [
        (12_000, 28, 28),
        (12_000,),
        (2_000, 28, 28),
        (2_000,),
    ]
    assert all(array.dtype == np.uint8 for array in seed_0)


def test_classes_are_balanced_and_shuffled(seed_0: Part) -> None:
    _, train_labels, _, test_labels = seed_0
    assert len(CLASSES) == 10
    assert np.bincount(train_labels).tolist() == [1_200] * 10
    assert np.bincount(test_labels).tolist() == [200] * 10
    assert len(np.unique(train_labels[:100])) == 10


def test_every_image_has_contrast_and_is_unique(seed_0: Part) -> None:
    images = np.concatenate([seed_0[0], seed_0[2]]).reshape(-1, 28 * 28)
    assert np.ptp(images, axis=1).min() >= 50
    assert images.min() == 0
    assert images.max() == 255
    assert len(np.unique(images, axis=0)) == len(images)


def test_same_seed_same_data_and_other_seed_other_data() -> None:
    first, again, other = (draw(seed, train=50, test=20) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_smaller_counts() -> None:
    train_images, train_labels, test_images, test_labels = draw(1, train=200, test=50)
    assert (train_images.shape, test_images.shape) == ((200, 28, 28), (50, 28, 28))
    assert np.bincount(train_labels).tolist() == [20] * 10
    assert np.bincount(test_labels).tolist() == [5] * 10
    assert [len(array) for array in draw(1, train=7, test=1)] == [7, 7, 1, 1]


def test_test_images_do_not_depend_on_the_number_of_training_images() -> None:
    assert np.array_equal(draw(1, train=200, test=50)[2], draw(1, train=10, test=50)[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "train must be at least 1, got 0"),
        ({"test": -5}, "test must be at least 1, got -5"),
        ({"seed": -1}, r"seed must be in .*, got -1"),
        ({"seed": 2**64}, f"seed must be in .*, got {2**64}"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(**{"seed": 0, "train": 10, "test": 10, **arguments})


def test_nearest_class_mean_learns_something_but_not_everything() -> None:
    train_images, train_labels, test_images, test_labels = draw(0, train=2_000, test=500)
    means = np.stack([train_images[train_labels == label].mean(axis=0) for label in range(10)])
    distances = np.square(test_images[:, None] - means).sum(axis=(2, 3))
    accuracy = np.mean(distances.argmin(axis=1) == test_labels)
    assert 0.4 < accuracy < 0.9
