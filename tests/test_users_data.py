"""The embedded set, and folders of one's own."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sources import assert_complete, be_alone, digest, params
from tiny import write_tiny_dataset

from tritbench.data import fetch, load, read_description
from tritbench.data.description import ARRAYS
from tritbench.data.sources.idx_files import (
    FILES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from tritbench.errors import TritbenchError
from tritbench.idx import idx_bytes
from tritbench.inputs import dataset_hashes


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_alone(monkeypatch, tmp_path)


def test_embedded_files_are_the_recorded_bytes() -> None:
    folder = fetch(params("embedded"), 0)
    assert_complete(folder, "embedded seed 0")
    assert read_description(folder).counts == {"train": 12_000, "test": 2_000}
    assert [digest((folder / file).read_bytes()) for file in ARRAYS] == [
        "168063d9354426e986f7057e7b38adc92782976d6c81e634cd3937f8f9002d55",
        "19a4aea8836bd1b4d11e01e48da7613c9b00969ee1962149a1f23b42273b139b",
        "4fe5b55fea3c2343fc82ada3e5dcfcacf3d74f756471bf99eecbc7f75b33739d",
        "893f0ead25177f54d7f74ef3aee9431978364ea33c91ca1a94119fd3f4b665f7",
    ]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_tiny_dataset(tmp_path / "mine")


def test_a_users_folder(mine: Path) -> None:
    folder = fetch(params(f"path:{mine}"), 0)
    assert folder == Path("data/mine")
    assert_complete(folder, "path:mine")
    dataset = load(folder, 30, 0)
    assert dataset.name == "mine"
    assert dataset.classes == ["0", "1", "2"]
    assert dataset.image_shape == (1, 8, 8)
    assert dataset.sha256["train-images.npy"] == digest((folder / "train-images.npy").read_bytes())


def test_a_users_class_names(mine: Path) -> None:
    (mine / "classes.txt").write_text("rouge\nvert\nbleu\n")
    assert read_description(fetch(params(f"path:{mine}"), 0)).classes == ["rouge", "vert", "bleu"]
    (mine / "classes.txt").write_text("rouge\nvert\n")
    with pytest.raises(TritbenchError, match=r"classes\.txt: found 2 .*expected 3"):
        fetch(params(f"path:{mine}"), 0)


def labels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        (TRAIN_LABELS, labels(0, 1), f"{TRAIN_LABELS}: found 2 labels, expected 300"),
        (TRAIN_LABELS, labels(*[0, 2] * 150), f"{TRAIN_LABELS}: no image has label 1"),
        (TRAIN_LABELS, labels(*[0] * 300), f"{TRAIN_LABELS}: found 1 class, expected at least 2"),
        (TEST_LABELS, labels(*[3] * 100), f"{TEST_LABELS}: found label 3, expected 0 to 2"),
        (TEST_IMAGES, np.zeros((100, 8, 9), np.uint8), f"{TEST_IMAGES}: images are 8x9"),
        (TEST_IMAGES, np.zeros((0, 8, 8), np.uint8), f"{TEST_IMAGES}: shape is"),
        (TEST_IMAGES, labels(1, 2), f"{TEST_IMAGES}: magic is 0x00000801"),
        (TEST_IMAGES, None, f"{TEST_IMAGES}: no such file"),
    ],
)
def test_a_bad_folder_of_a_user_is_refused(
    mine: Path, file: str, array: np.ndarray | None, message: str
) -> None:
    (mine / file).unlink()
    if array is not None:
        (mine / file).write_bytes(idx_bytes(array))
    with pytest.raises(TritbenchError, match=f"mine/{message}"):
        fetch(params(f"path:{mine}"), 0)
    assert not Path("data").exists()


def test_a_users_folder_must_exist_and_lie_outside_data(tmp_path: Path) -> None:
    with pytest.raises(TritbenchError, match="path:nowhere: no such folder"):
        fetch(params("path:nowhere"), 0)
    write_tiny_dataset(Path("data/mine"))
    with pytest.raises(TritbenchError, match="expected a folder outside data/"):
        fetch(params("path:data/mine"), 0)
    assert fetch(params("path:data/mine"), 0, into=tmp_path / "out") == tmp_path / "out/mine"


@pytest.mark.parametrize("name", ["fashion-mnist", "embedded"])
def test_a_users_images_cannot_pass_for_built_in_ones(tmp_path: Path, name: str) -> None:
    write_tiny_dataset(tmp_path / name)
    with pytest.raises(TritbenchError, match="rename the folder"):
        fetch(params(f"path:{tmp_path / name}"), 0)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.removesuffix(".gz"),
        lambda name: name.removesuffix(".gz").replace("-idx", ".idx"),  # as on Kaggle
    ],
)
def test_files_may_be_uncompressed(mine: Path, rename: Callable[[str], str]) -> None:
    expected = load(fetch(params(f"path:{mine}"), 0), 30, 0)
    for file in FILES:
        (mine / rename(file)).write_bytes(gzip.decompress((mine / file).read_bytes()))
        (mine / file).unlink()
    folder = fetch(params(f"path:{mine}"), 0)
    assert_complete(folder, "path:mine")
    found = load(folder, 30, 0)
    assert torch.equal(found.test.pixels, expected.test.pixels)
    assert torch.equal(found.train.labels, expected.train.labels)


def test_labels_may_be_int32(mine: Path) -> None:
    many = np.arange(300)  # as many classes as images
    for file, count in ((TRAIN_LABELS, 300), (TEST_LABELS, 100)):
        (mine / file).unlink()
        header = bytes([0, 0, 12, 1]) + count.to_bytes(4, "big")
        name = file.replace("ubyte.gz", "int")
        (mine / name).write_bytes(header + many[:count].astype(">i4").tobytes())
    about = read_description(fetch(params(f"path:{mine}"), 0))
    assert about.classes[-1] == "299"


def colour(mine: Path, last: bool) -> Path:
    for file, count in ((TRAIN_IMAGES, 300), (TEST_IMAGES, 100)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 8, 9), np.uint8)
        (mine / file).unlink()
        array = pixels.transpose(0, 2, 3, 1) if last else pixels
        (mine / file.replace("idx3", "idx4")).write_bytes(idx_bytes(array))
    return mine


@pytest.mark.parametrize("last", [True, False])
def test_images_may_have_colours(mine: Path, last: bool) -> None:
    folder = fetch(params(f"path:{colour(mine, last)}"), 0)
    assert read_description(folder).image == [3, 8, 9]
    dataset = load(folder, 30, 0)
    assert dataset.image_shape == (3, 8, 9)
    assert dataset.test.pixels[0].equal(
        torch.from_numpy(np.random.default_rng(0).integers(0, 256, (100, 3, 8, 9), np.uint8)[0])
    )


@pytest.mark.parametrize("folder", ["~nouser/x", "x" * 5000, "a/" * 2500, "loop", "it.txt"])
def test_what_is_no_folder_is_one_line(folder: str, tmp_path: Path) -> None:
    Path("loop").symlink_to("loop")
    Path("it.txt").touch()
    with pytest.raises(TritbenchError, match=f"^data.dataset = path:{folder}: no such folder"):
        fetch(params(f"path:{folder}"), 0)
    assert not Path("data").exists()
    assert dataset_hashes(params(f"path:{folder}")) == {}


def test_class_names_are_a_file_of_text(mine: Path) -> None:
    (mine / "classes.txt").write_bytes("\ufeffcafé\nb\nc\n".encode())
    assert read_description(fetch(params(f"path:{mine}"), 0)).classes[0] == "café"
    (mine / "classes.txt").write_bytes(b"caf\xe9\nb\nc\n")
    with pytest.raises(TritbenchError, match=r"classes\.txt: .*at byte 3, expected UTF-8"):
        fetch(params(f"path:{mine}"), 0)
    (mine / "classes.txt").write_text("a\n\x1b[31mb\nc\n")
    with pytest.raises(TritbenchError, match=r"expected a name without control characters"):
        fetch(params(f"path:{mine}"), 0)
    (mine / "classes.txt").write_text("a\nclass\nc\n")
    with pytest.raises(TritbenchError, match=r"'class' is a column of `tritbench predict --csv`"):
        fetch(params(f"path:{mine}"), 0)
    (mine / "classes.txt").unlink()
    (mine / "classes.txt").mkdir()
    with pytest.raises(TritbenchError, match=r"classes\.txt: is a folder, expected a file"):
        fetch(params(f"path:{mine}"), 0)
    (mine / "classes.txt").rmdir()
    (mine / "classes.txt").symlink_to("classes.txt")
    with pytest.raises(TritbenchError, match=r"classes\.txt: Too many levels of symbolic links"):
        fetch(params(f"path:{mine}"), 0)
