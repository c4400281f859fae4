"""Data sets by torchvision's classes: downloaded and verified, or from files at hand."""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from image_sources import ROOT, Mirror, be_alone, params
from safetensors.torch import load_file

from tritbench.data import NoSource, fetch, load, read_description
from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.data.sources.torchvision_sets import SETS
from tritbench.errors import TritbenchError
from tritbench.models.networks import ResNet
from tritbench.shapes import InputSpec

RIGHT_OF_1000 = 923
SHARED = ROOT.parent / "shared" / "cifar10"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_alone(monkeypatch, tmp_path)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)


def test_torchvision_has_every_class_that_is_named() -> None:
    assert all(hasattr(torchvision_datasets(), about.name) for about in SETS.values())


def batches() -> dict[str, bytes]:
    """CIFAR-10's files with few images, as the original has them."""
    files = {}
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = np.random.default_rng(number).integers(0, 256, (20, 3072), np.uint8)
        files[name] = pickle.dumps({"data": data, "labels": [i % 10 for i in range(20)]})
    names = [f"class {i}" for i in range(10)]
    return files | {"batches.meta": pickle.dumps({"label_names": names})}


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server that for now is CIFAR-10's."""
    archive, files = io.BytesIO(), batches()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    mirror, md5 = (
        Mirror(),
        {name: hashlib.md5(content).hexdigest() for name, content in files.items()},
    )
    mirror.files["cifar-10-python.tar.gz"] = archive.getvalue()
    published = torchvision_datasets().CIFAR10
    monkeypatch.setattr(published, "url", f"{mirror.url}cifar-10-python.tar.gz")
    monkeypatch.setattr(published, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    monkeypatch.setattr(published, "train_list", [[n, md5[n]] for n in files if "data" in n])
    monkeypatch.setattr(published, "test_list", [["test_batch", md5["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
    monkeypatch.setattr(published, "meta", meta)
    yield mirror
    mirror.stop()


def test_a_set_is_downloaded_by_torchvision(cifar: Mirror) -> None:
    folder = fetch(params("cifar10"), 0)
    about = read_description(folder)
    assert (about.name, about.source) == ("cifar10", "torchvision's download")
    assert about.classes[3] == "class 3"
    found = load(folder, 10, 0)
    assert found.image_shape == (3, 32, 32)
    data = np.random.default_rng(5).integers(0, 256, (20, 3072), np.uint8)
    assert np.array_equal(found.test.pixels.numpy().reshape(20, -1), data)
    assert [path.name for path in Path("data").iterdir()] == ["cifar10"]


def test_another_file_is_not_taken_for_the_published_one(cifar: Mirror) -> None:
    cifar.files["cifar-10-python.tar.gz"] += b"x"
    with pytest.raises(NoSource, match=r"cifar10: no source has it .*CIFAR10_DIR: not set"):
        fetch(params("cifar10"), 0)
    assert not Path("data").exists()


def test_files_at_hand(
    cifar: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name, content in batches().items():
        (tmp_path / "mine/cifar-10-batches-py").mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine/cifar-10-batches-py" / name).write_bytes(content)
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "mine"))
    assert read_description(fetch(params("cifar10"), 0)).source == "CIFAR10_DIR"
    assert not cifar.asked
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path))
    assert read_description(fetch(params("cifar10"), 0)).source == "torchvision's download"
    assert "cifar10 from CIFAR10_DIR: not in torchvision's form" in capsys.readouterr().err


def write_parquet(folder: Path, source: Path, rows: int) -> Path:
    """The first rows of the test file, as training images too."""
    table = pq.read_table(source / "test-00000-of-00001.parquet").slice(0, rows)
    folder.mkdir()
    for part in ("train", "test"):
        pq.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return folder


needs_cifar10 = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/cifar10")


@needs_cifar10
def test_hugging_faces_files_are_known_by_what_they_become(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(write_parquet(tmp_path / "some", SHARED, 60)))
    with pytest.raises(TritbenchError, match="other images than those of cifar10"):
        fetch(params("cifar10"), 0)
    made = read_description(fetch(params(f"path:{tmp_path / 'some'}"), 0))
    monkeypatch.setitem(SETS, "cifar10", replace(SETS["cifar10"], parquet=made.sha256))
    about = read_description(fetch(params("cifar10"), 0))
    assert (about.name, about.source, about.classes[0]) == ("cifar10", "CIFAR10_DIR", "airplane")


@needs_cifar10
def test_a_published_network_is_as_accurate_as_it_was_elsewhere(tmp_path: Path) -> None:
    folder = fetch(params(f"path:{write_parquet(tmp_path / 'some', SHARED, 1000)}"), 0)
    test = load(folder, 10, 0).test
    model = ResNet(10, 3, 20).eval()
    weights = SHARED.parent / "cifar10-resnets/resnet20.safetensors"
    model.load_state_dict(load_file(weights))
    spec = InputSpec((3, 32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        right = model(spec.normalize(test.pixels)).argmax(1) == test.labels
    assert int(right.sum()) == RIGHT_OF_1000  # 91.73% of all 10,000
