"""Folders of pictures and parquet files become the data set that they hold."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_sources import assert_complete, be_alone, bring, params
from numpy.typing import NDArray
from PIL import Image

from tritbench.data import Dataset, dataset, fetch, folder, load, read_description, store
from tritbench.errors import TritbenchError
from tritbench.inputs import dataset_hashes
from tritbench.models import build
from tritbench.shapes import InputSpec
from tritbench.train import Recipe, fit

CLASSES = ("ash", "birch", "cedar")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_alone(monkeypatch, tmp_path)


def picture(index: int, size: tuple[int, int] = (6, 9), channels: int = 3) -> NDArray[np.uint8]:
    """[height, width, channels], no two alike."""
    return np.random.default_rng(index).integers(0, 256, (*size, channels), np.uint8)


def write_classes(folder: Path, count: int = 8, suffix: str = ".png", start: int = 0) -> Path:
    """`count` pictures of each class, numbered through."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            number = start + label * count + index
            Image.fromarray(picture(number)).save(folder / name / f"{index:03}{suffix}")
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    write_classes(tmp_path / "mine/train")
    write_classes(tmp_path / "mine/test", 2, start=100)
    return tmp_path / "mine"


def everything(found: Dataset) -> torch.Tensor:
    """The training images and those held out of them, in the order of their sums."""
    pixels = torch.cat([found.train.pixels, found.validation.pixels])
    return pixels[pixels.flatten(1).long().sum(1).argsort()]


def test_a_folder_a_class(mine: Path) -> None:
    target = fetch(params(f"path:{mine}"), 0)
    assert_complete(target, "path:mine")
    about = read_description(target)
    assert (about.name, about.classes, about.image) == ("mine", list(CLASSES), [3, 6, 9])
    assert about.counts == {"train": 24, "test": 6}
    found = load(target, 3, 0)
    assert found.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(found.test.pixels[5].permute(1, 2, 0), picture(105))
    drawn = np.stack([picture(i) for i in range(24)]).transpose(0, 3, 1, 2)
    order = drawn.reshape(24, -1).sum(1, dtype=np.int64).argsort()
    assert np.array_equal(everything(found), drawn[order])


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_pictures_of_other_formats(tmp_path: Path, suffix: str) -> None:
    write_classes(tmp_path / "mine/train", suffix=suffix)
    write_classes(tmp_path / "mine/val", 2, suffix=suffix)
    found = bring(tmp_path / "mine")
    assert found.image_shape == (3, 6, 9)
    assert len(found.test) == 6


def test_without_test_images_a_part_of_the_training_images_becomes_them(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine", 20)
    found = bring(tmp_path / "mine")
    assert found.name == "mine (test images held out of the training images)"
    assert found.test.labels.bincount().tolist() == [4, 3, 3]
    assert len(found.train) + len(found.validation) == 50
    seen = {image.numpy().tobytes() for image in everything(found)}
    assert not seen & {image.numpy().tobytes() for image in found.test.pixels}
    again = load(fetch(params(f"path:{tmp_path / 'mine'}"), 1), 3, 0)
    assert not torch.equal(again.test.pixels, found.test.pixels)


def test_data_size_resizes_and_every_table_says_so(mine: Path) -> None:
    found = bring(mine, size=4)
    assert found.name == "mine (resized to 4x4)"
    assert found.image_shape == (3, 4, 4)
    assert bring(mine, size=[6, 9]).name == "mine"


def test_pictures_of_several_sizes_need_a_size(mine: Path) -> None:
    Image.fromarray(picture(0, (7, 5))).save(mine / "train/ash/odd.png")
    with pytest.raises(TritbenchError, match=r"2 sizes, most 6×9 \(30\), 7×5 \(1\), expected one"):
        bring(mine)
    assert bring(mine, size=[6, 9]).name == "mine (resized to 6x9)"


def test_a_resized_picture_keeps_its_middle_and_its_proportions(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    for name in CLASSES:
        (tmp_path / "mine" / name).mkdir(parents=True)
        for index in range(12):
            wide[0, 0] = index
            Image.fromarray(wide).save(tmp_path / "mine" / name / f"{index}.png")
    with pytest.raises(TritbenchError, match="every pixel is 200"):
        bring(tmp_path / "mine", size=8)


def test_gray_stays_gray_and_joins_colour(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for label, name in enumerate(CLASSES):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for index in range(8):
            pixels = picture(label * 8 + index)[..., 0]
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{index}.png")
    assert bring(tmp_path / "mine").image_shape == (1, 6, 9)
    Image.fromarray(picture(0)).save(tmp_path / "mine/ash/0.png")
    assert bring(tmp_path / "mine").image_shape == (3, 6, 9)
    assert "mine: 23 of 24 images are gray among RGB and become RGB" in capsys.readouterr().err


def test_transparency_and_16_bits_are_converted_and_said_once(
    mine: Path, capsys: pytest.CaptureFixture
) -> None:
    clear = np.dstack([np.full((6, 9, 3), 200, np.uint8), np.zeros((6, 9), np.uint8)])
    Image.fromarray(clear).save(mine / "test/ash/000.png")
    Image.fromarray(np.full((6, 9), 0x80FF, np.uint16)).save(mine / "test/ash/001.png")
    found = bring(mine)
    assert int(found.test.pixels[0].max()) == 0
    assert found.test.pixels[1].unique().tolist() == [0x80]
    said = capsys.readouterr().err
    assert said.count("1 of 30 images are transparent and laid on black") == 1
    assert said.count("1 of 30 images have 16 bits, of which the upper 8 are taken") == 1


def test_bad_pictures_are_named_and_counted_before_anything_runs(mine: Path) -> None:
    (mine / "train/ash/000.png").write_bytes(b"")
    (mine / "train/ash/001.png").write_text("no picture")
    for index in range(12):
        (mine / f"test/cedar/1{index:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(TritbenchError, match="14 of 42 images cannot be used: ") as caught:
        bring(mine)
    assert f"{mine}/train/ash/000.png: empty; " in str(caught.value)
    assert f"{mine}/train/ash/001.png: not a PNG, JPEG, BMP or WEBP image" in str(caught.value)
    assert str(caught.value).count("not a PNG") == 9
    assert str(caught.value).endswith(" and 4 more")
    assert not Path("data").exists()


def test_a_picture_that_ends_early_is_named(mine: Path) -> None:
    path = mine / "train/birch/003.png"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(TritbenchError, match=r"1 of 24 images .*birch/003\.png: not a PNG"):
        bring(mine)
    assert not Path("data").exists()


def test_a_bomb_is_refused_by_the_size_that_it_declares(mine: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    (mine / "test/ash/bomb.png").write_bytes(bomb + chunk(b"IEND", b""))
    with pytest.raises(TritbenchError, match=r"bomb\.png: .*60000"):
        bring(mine, size=8)


def test_test_images_are_of_the_training_images_classes(mine: Path) -> None:
    (mine / "test/elm").mkdir()
    with pytest.raises(TritbenchError, match="test/elm: no class of that name"):
        bring(mine)


def test_a_class_without_pictures_is_named(mine: Path) -> None:
    (mine / "train/elm").mkdir()
    (mine / "train/elm/notes.txt").touch()
    with pytest.raises(TritbenchError, match=r"no image has label 3 \(elm\)"):
        bring(mine)


def test_what_is_no_picture_is_left_out_and_named(
    mine: Path, capsys: pytest.CaptureFixture
) -> None:
    (mine / "train/ash/notes.txt").touch()
    (mine / "train/ash/.hidden.png").touch()
    assert len(bring(mine).train) == 21
    assert f"left out, not PNG, JPEG, BMP or WEBP: {mine}/train/ash/notes.txt" in (
        capsys.readouterr().err
    )


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine/a").mkdir(parents=True)
    with pytest.raises(TritbenchError, match="mine: no images found, expected four IDX files, par"):
        bring(tmp_path / "mine")


def write_parquet(path: Path, numbers: range, **columns: Any) -> None:
    """Rows as Hugging Face's `datasets` writes them, two to a row group."""
    encoded = []
    for index in numbers:
        file = io.BytesIO()
        Image.fromarray(picture(index)).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": f"{index}.png"})
    labels = pa.array([i % 3 for i in numbers], pa.int64())
    table = pa.table({"img": encoded, "label": labels} | columns)
    feature = {"names": list(CLASSES), "_type": "ClassLabel"}
    about = {"info": {"features": {"img": {"_type": "Image"}, "label": feature}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    for part, numbers in enumerate((range(0, 13), range(13, 24))):
        write_parquet(tmp_path / f"flowers/data/train-{part:05}-of-00002.parquet", numbers)
    write_parquet(tmp_path / "flowers/data/test-00000-of-00001.parquet", range(100, 107))
    return tmp_path / "flowers"


def test_parquet_files(parquet: Path) -> None:
    found = bring(parquet)
    assert found.classes == list(CLASSES)
    assert found.test.labels.tolist() == [1, 2, 0, 1, 2, 0, 1]
    assert np.array_equal(found.test.pixels[6].permute(1, 2, 0), picture(106))
    drawn = np.stack([picture(i) for i in range(24)]).transpose(0, 3, 1, 2)
    order = drawn.reshape(24, -1).sum(1, dtype=np.int64).argsort()
    assert np.array_equal(everything(found), drawn[order])


def test_columns_are_found_by_their_type_or_named(parquet: Path) -> None:
    path = parquet / "data/test-00000-of-00001.parquet"
    for file, numbers in ((path, range(6)), (parquet / "data/train-0.parquet", range(24))):
        write_parquet(file, numbers, size=pa.array([7] * len(numbers)))
    for extra in parquet.glob("data/train-0000*"):
        extra.unlink()
    with pytest.raises(TritbenchError, match=r"2 columns of integer labels in .*data\.label"):
        bring(parquet)
    assert bring(parquet, label="label").test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(TritbenchError, match=r"data\.image = label: no such column"):
        bring(parquet, image="label", label="label")


def test_a_row_without_a_label_or_an_image_is_named(parquet: Path) -> None:
    path = parquet / "data/test-00000-of-00001.parquet"
    write_parquet(path, range(3), label=pa.array([0, None, 2]))
    with pytest.raises(TritbenchError, match="1 of 3 images cannot be used: row 1 has no label"):
        bring(parquet)
    write_parquet(path, range(3), img=[{"bytes": b"", "path": "x"}] * 3)
    with pytest.raises(TritbenchError, match=r"3 of 27 .*test-00000-of-00001.parquet: row 0: em"):
        bring(parquet)
    path.write_text("no parquet")
    with pytest.raises(TritbenchError, match=r"test-00000-of-00001.parquet: not a parquet file"):
        bring(parquet)


def test_a_large_data_set_stays_on_disk_and_gives_the_same(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bring(mine)
    monkeypatch.setattr(dataset, "IN_MEMORY", 0)
    found = bring(mine)
    assert found.mean == expected.mean
    assert not isinstance(found.train.pixels, torch.Tensor)
    chosen = torch.tensor([5, 2, 19])
    assert torch.equal(found.train.pixels[chosen], expected.train.pixels[chosen])
    assert torch.equal(found.train.pixels[3:9], expected.train.pixels[3:9])
    assert torch.equal(torch.cat([*found.train.pixels.split(4)]), expected.train.pixels)
    assert torch.equal(found.test.pixels, expected.test.pixels)
    np.save(Path("data/mine/test-images.npy"), np.zeros((5, 3, 6, 9), np.uint8))
    with pytest.raises(TritbenchError, match=r"dataset\.json: describes .* but the files hold"):
        load(Path("data/mine"), 3, 0)


def test_decoding_goes_on_where_it_was_interrupted(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    expected = bring(mine)
    decode, decoded = store.pixels_of, []

    def interrupted(image: Image.Image, *rest: Any) -> Any:
        decoded.append(image)
        if len(decoded) == 17:
            raise KeyboardInterrupt
        return decode(image, *rest)

    monkeypatch.setattr(store, "pixels_of", interrupted)
    monkeypatch.setattr(store, "CHUNK", 4)
    monkeypatch.setattr(folder, "KEPT", 0)
    with pytest.raises(KeyboardInterrupt):
        bring(mine)
    assert "the next run goes on there" in capsys.readouterr().err
    assert [path.name for path in Path("data").iterdir()] == ["mine"]  # the earlier one
    decoded.clear()
    decoded += [None] * 100
    found = bring(mine)
    assert len(decoded) - 100 == 30 - 16
    assert torch.equal(found.train.pixels, expected.train.pixels)
    assert torch.equal(found.test.pixels, expected.test.pixels)
    assert not list(Path.cwd().glob(".unfinished*"))


def test_a_changed_picture_is_a_changed_input(mine: Path) -> None:
    before = dataset_hashes(params(f"path:{mine}"))
    assert sorted(before) == ["test/", "train/"]
    Image.fromarray(picture(7, (5, 5))).save(mine / "train/ash/000.png")
    after = dataset_hashes(params(f"path:{mine}"))
    assert (after["test/"], after["train/"] != before["train/"]) == (before["test/"], True)


def test_training_from_disk_gives_the_same_network(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (2**31, 0):
        monkeypatch.setattr(dataset, "IN_MEMORY", limit)
        images = bring(mine)
        spec = InputSpec(images.image_shape, images.mean, images.std)
        network, teacher = (build("linear", {}, spec.shape, 3, seed) for seed in (0, 1))
        recipe = Recipe(2, 0.1, 7, augment=("flip",), distill=0.5)
        fit(network, images.train, images.validation, spec, recipe, teacher.eval())
        found.append(network[1].weight.detach())
    assert torch.equal(*found)
