"""Which images are held out: stratified by class, by seed, the same on every platform."""

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError

# Streams of random numbers, apart from each other and from the embedded set's 0 and 1.
SPLIT_STREAM, CALIBRATION_STREAM, TEST_STREAM = 2, 3, 4
ONE_IN = 6  # of all training images, at most, for validation


def split(
    labels: NDArray[np.int64],
    count: int,
    seed: int,
    stream: int = SPLIT_STREAM,
    key: str = "data.validation",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices that are kept and `count` indices held out, ascending, stratified by class.

    Raises:
        TritbenchError: `key`, as errors call the count, is less than the number of classes, or
            leaves a class without an image.
    """
    sizes = np.bincount(labels)
    if count < len(sizes):
        cap = len(labels) // ONE_IN
        limit = f" (at most a sixth of the {len(labels)} images)" if count == cap else ""
        raise TritbenchError(
            f"{key}: {count} images{limit}, expected at least one of each of the "
            f"{len(sizes)} classes"
        )
    # Largest remainder: every class gets its share rounded down, and those that lost most one more.
    quotas, remainders = np.divmod(count * sizes.astype(np.int64), len(labels))
    short = count - quotas.sum()
    quotas[np.argsort(-remainders, kind="stable")[:short]] += 1
    bare = np.flatnonzero(quotas >= sizes)
    if len(bare):
        raise TritbenchError(
            f"{key}: {count} images leave no training image of class {bare[0]}, "
            f"expected less of the {len(labels)} images"
        )
    order = permutation(len(labels), stream, seed)
    held_out = np.zeros(len(labels), bool)
    for label, quota in enumerate(quotas):
        held_out[order[labels[order] == label][:quota]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def permutation(count: int, stream: int, seed: int) -> NDArray[np.int64]:
    """A permutation from a bit generator's raw output, which NumPy keeps stable over versions."""
    raw = np.asarray(np.random.Philox(key=stream * 2**64 + seed).random_raw(count), np.uint64)
    return np.argsort(raw, kind="stable").astype(np.int64)
