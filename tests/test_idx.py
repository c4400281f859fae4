"""IDX files: gzipped or not, of any shape, damaged in any way."""

import functools
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from tritbench.errors import TritbenchError
from tritbench.idx import idx_bytes, read_idx, read_images, read_labels

# Without the time of day, so that every worker of the test run names its cases alike.
compress = functools.partial(gzip.compress, mtime=0)


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40)))
def test_idx_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    path.write_bytes(idx_bytes(array))
    read = read_idx(path, [array.ndim])
    assert read.dtype == np.uint8
    assert np.array_equal(read, array)


@pytest.mark.parametrize("extra", [-1, 0, 1, 65_535])
def test_idx_bytes_fill_several_blocks(tmp_path: Path, extra: int) -> None:
    array = np.arange(65_535 - 8 + extra).astype(np.uint8)  # 8 bytes are the header
    path = tmp_path / "a.gz"
    path.write_bytes(idx_bytes(array))
    assert np.array_equal(read_idx(path, [1]), array)


def test_idx_bytes_take_bytes_only() -> None:
    with pytest.raises(ValueError, match="must be uint8, got int64"):
        idx_bytes(np.zeros(3, np.int64))  # type: ignore[arg-type]


HEADER = struct.pack(">HBBI", 0, 8, 1, 5)
GOOD = idx_bytes(np.arange(5, dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing, expected gzip"),
        (b"<html>", "starts with 3c68, expected gzip"),
        (GOOD[:-1], "damaged gzip"),
        (GOOD[:-8] + bytes(8), "damaged gzip"),
        (GOOD + b"rubbish", "damaged gzip"),
        (compress(b"\0\0"), "magic is 0x0000, expected 0x00000801"),
        (compress(b"\0\0\x0d\1\0\0\0\1abcd"), "magic is 0x00000d01, expected 0x00000801"),
        (idx_bytes(np.zeros((2, 2, 2), np.uint8)), "magic is 0x00000803, expected 0x00000801"),
        (compress(HEADER[:6]), "header ends early, expected 1 dimensions"),
        (compress(HEADER + b"1234"), "found 4 bytes, expected 5 for shape"),
        (compress(HEADER + bytes(2**22)), "found more than 5 bytes, expected 5"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(TritbenchError, match=message) as caught:
        read_idx(path, [1])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TritbenchError, match=r"none\.gz: no such file"):
        read_idx(tmp_path / "none.gz", [1])


def test_a_huge_declared_size_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(compress(struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3)))
    with pytest.raises(TritbenchError, match=f"header declares {(2**32 - 1) ** 3} bytes"):
        read_idx(path, [3])


@pytest.mark.parametrize("compressed", [True, False])
def test_compressed_or_not(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(GOOD if compressed else gzip.decompress(GOOD))
    assert read_idx(path, [1]).tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(gzip.decompress(GOOD)[:-1])
    with pytest.raises(TritbenchError, match="found 4 bytes, expected 5"):
        read_idx(path, [1])


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_first_or_last(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, channels, 4, 5), np.uint8)
    path = tmp_path / "a.gz"
    for array in (pixels, pixels.transpose(0, 2, 3, 1)):
        path.write_bytes(idx_bytes(array))
        assert np.array_equal(read_images(path), pixels)
    path.write_bytes(idx_bytes(pixels[:, 0]))
    assert np.array_equal(read_images(path), pixels[:, :1])


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (2, 3, 5, 3), (2, 1, 5, 3), (2, 2, 5, 4)])
def test_channels_that_cannot_be_told_are_refused(
    tmp_path: Path, shape: tuple[int, int, int, int]
) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(idx_bytes(np.zeros(shape, np.uint8)))
    found = " × ".join(map(str, shape[1:]))
    with pytest.raises(TritbenchError, match=f"images are {found}, expected 1 or 3 channels as"):
        read_images(path)


def int32_bytes(*labels: int) -> bytes:
    return struct.pack(f">HBBI{len(labels)}i", 0, 12, 1, len(labels), *labels)


def test_labels_may_be_int32(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(int32_bytes(0, 70_000))
    assert read_labels(path).tolist() == [0, 70_000]
    path.write_bytes(int32_bytes(0, -1))
    with pytest.raises(TritbenchError, match="found label -1, expected 0 and more"):
        read_labels(path)
    with pytest.raises(TritbenchError, match="expected 0x00000803 or 0x00000804"):
        read_images(path)
