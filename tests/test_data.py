"""Getting the images and loading them: verified, whole or not at all, and split by seed."""

import dataclasses
import functools
import gzip
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tiny import write_tiny_dataset

from tritbench.data import NoSource, calibration_images, fetch, load, read_description
from tritbench.data._torchvision import torchvision_datasets
from tritbench.data.dataset import split
from tritbench.data.idx import idx_bytes, read_idx
from tritbench.data.names import (
    FILES,
    PUBLISHED,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from tritbench.errors import EXIT_NO_SOURCE, TritbenchError
from tritbench.params import DataParams

ROOT = Path(__file__).parents[1]
OFFICIAL = ROOT.parent / "shared" / "fashion-mnist"
COMMAND = "dvc exp run -S data.dataset=embedded"

# Without the time of day, so that every worker of the test run names its cases alike.
compress = functools.partial(gzip.compress, mtime=0)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def params(dataset: str = "fashion-mnist", *mirrors: str) -> DataParams:
    return DataParams(dataset=dataset, mirrors=list(mirrors), validation=30)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and neither the environment's sources nor the network's."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("no_proxy", "*")
    for name, published in PUBLISHED.items():
        monkeypatch.delenv(f"{name.upper().replace('-', '_')}_DIR", raising=False)
        monkeypatch.setattr(getattr(torchvision_datasets(), published.torchvision), "mirrors", [])


# IDX files


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40)))
def test_idx_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    path.write_bytes(idx_bytes(array))
    read = read_idx(path, array.ndim)
    assert read.dtype == np.uint8
    assert np.array_equal(read, array)


@pytest.mark.parametrize("extra", [-1, 0, 1, 65_535])
def test_idx_bytes_fill_several_blocks(tmp_path: Path, extra: int) -> None:
    array = np.arange(65_535 - 8 + extra).astype(np.uint8)  # 8 bytes are the header
    path = tmp_path / "a.gz"
    path.write_bytes(idx_bytes(array))
    assert np.array_equal(read_idx(path, 1), array)


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
        read_idx(path, 1)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TritbenchError, match=r"none\.gz: no such file"):
        read_idx(tmp_path / "none.gz", 1)


def test_a_huge_declared_size_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(compress(struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3)))
    with pytest.raises(TritbenchError, match=f"header declares {(2**32 - 1) ** 3} bytes"):
        read_idx(path, 3)


# Published data sets, from a mirror on this machine


class Mirror:
    """An HTTP server; `files` maps a path to its content, `cut` names files to break off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                content = mirror.files.get(self.path.lstrip("/"))
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                cut = self.path.lstrip("/") in mirror.cut
                self.wfile.write(content[: len(content) // 2] if cut else content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # a client that hangs up early
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("published") / "it", classes=10)


@pytest.fixture
def official(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files, which for now are Fashion-MNIST's official ones."""
    hashes = tuple(digest((published / file).read_bytes()) for file in FILES)
    stand_in = dataclasses.replace(PUBLISHED["fashion-mnist"], hashes=hashes)
    monkeypatch.setitem(PUBLISHED, "fashion-mnist", stand_in)
    return published


@pytest.fixture
def mirror(official: Path) -> Iterator[Mirror]:
    mirror = Mirror()
    mirror.files = {file: (official / file).read_bytes() for file in FILES}
    yield mirror
    mirror.stop()


@pytest.fixture
def dead() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def assert_complete(folder: Path, source: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "dataset.json"])
    about = json.loads((folder / "dataset.json").read_text())
    assert about["source"] == source
    assert about["sha256"] == {file: digest((folder / file).read_bytes()) for file in FILES}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing temporary


def test_a_mirror_that_has_all_files(mirror: Mirror) -> None:
    folder = fetch(params("fashion-mnist", mirror.url), 0)
    assert folder == Path("data/fashion-mnist")
    assert_complete(folder, mirror.url)
    about = read_description(folder)
    assert about.name == "fashion-mnist"
    assert about.counts == {"train": 300, "test": 100}
    assert about.image == [8, 8]
    assert about.classes[-1] == "Ankle boot"


def test_the_url_of_a_mirror_may_lack_its_last_slash(mirror: Mirror) -> None:
    fetch(params("fashion-mnist", mirror.url.rstrip("/")), 0)
    assert f"/{TRAIN_IMAGES}" in mirror.asked


def test_torchvisions_own_mirrors_come_last(
    mirror: Mirror, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_datasets().FashionMNIST, "mirrors", [mirror.url])
    assert_complete(fetch(params("fashion-mnist", dead), 0), mirror.url)


def test_a_dead_mirror_is_reported_and_the_next_is_used(
    mirror: Mirror, dead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_complete(fetch(params("fashion-mnist", dead, mirror.url), 0), mirror.url)
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("download: ")]
    assert dead in line
    assert "Connection refused" in line


def break_file(mirror: Mirror, how: str) -> str:
    """Break one file on the mirror; return what the error must say was found."""
    content = mirror.files[TEST_IMAGES]
    if how == "missing":
        del mirror.files[TEST_IMAGES]
        return "HTTP 404"
    if how == "truncated":
        mirror.cut.add(TEST_IMAGES)
        return f"SHA-256 {digest(content[: len(content) // 2])} ({len(content) // 2} bytes)"
    mirror.files[TEST_IMAGES] = wrong = content[:-1] + bytes([content[-1] ^ 1])
    return f"SHA-256 {digest(wrong)} ({len(content)} bytes)"


@pytest.mark.parametrize("how", ["missing", "truncated", "wrong"])
def test_a_bad_file_is_reported_and_never_used(
    mirror: Mirror, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = digest(mirror.files[TEST_IMAGES])
    found = break_file(mirror, how)
    with pytest.raises(NoSource):
        fetch(params("fashion-mnist", mirror.url), 0)
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("download: ")]
    assert f"{mirror.url}: {TEST_IMAGES}: found {found}" in line
    assert line.endswith(f"expected SHA-256 {expected}")
    assert not Path("data").exists()


def test_where_nothing_answers_one_line_tells_what_was_tried_and_what_to_run(
    dead: str, official: Path
) -> None:
    with pytest.raises(NoSource) as caught:
        fetch(params("fashion-mnist", dead), 0)
    message = str(caught.value)
    assert caught.value.exit_code == EXIT_NO_SOURCE
    assert "\n" not in message
    assert "FASHION_MNIST_DIR: not set" in message
    assert f"{dead}: {TRAIN_IMAGES}: found " in message
    assert message.endswith(COMMAND)
    assert not Path("data").exists()


def test_an_interruption_leaves_nothing(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = torchvision_datasets().utils
    retrieve = utils._urlretrieve

    def interrupted(url: str, path: str) -> None:
        if url.endswith(TEST_LABELS):
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        retrieve(url, path)

    monkeypatch.setattr(utils, "_urlretrieve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(params("fashion-mnist", mirror.url), 0)
    assert f"/{TEST_IMAGES}" in mirror.asked  # it was under way
    assert not Path("data").exists()


def test_a_failure_keeps_what_an_earlier_run_made(mirror: Mirror, dead: str) -> None:
    folder = fetch(params("fashion-mnist", mirror.url), 0)
    with pytest.raises(NoSource):
        fetch(params("fashion-mnist", dead), 0)
    assert_complete(folder, mirror.url)


def test_an_existing_folder_is_replaced_as_a_whole(mirror: Mirror) -> None:
    folder = Path("data/fashion-mnist")
    folder.mkdir(parents=True)
    (folder / "stray").touch()
    fetch(params("fashion-mnist", mirror.url), 0)
    assert_complete(folder, mirror.url)


def test_the_socket_timeout_is_put_back(mirror: Mirror) -> None:
    fetch(params("fashion-mnist", mirror.url), 0)
    assert socket.getdefaulttimeout() is None


def test_a_local_folder_is_asked_first(
    mirror: Mirror, official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASHION_MNIST_DIR", str(official))
    assert_complete(fetch(params("fashion-mnist", mirror.url), 0), "FASHION_MNIST_DIR")
    assert mirror.asked == []


@pytest.mark.parametrize("broken", ["truncated", "missing"])
def test_a_local_folder_with_a_bad_file_is_reported_and_a_mirror_used(
    broken: str,
    mirror: Mirror,
    official: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    local = Path(shutil.copytree(official, tmp_path / "local"))
    content = (local / TRAIN_IMAGES).read_bytes()
    (local / TRAIN_IMAGES).unlink()
    found = "No such file or directory"
    if broken == "truncated":
        (local / TRAIN_IMAGES).write_bytes(content[:1000])
        found = f"SHA-256 {digest(content[:1000])} (1000 bytes)"
    monkeypatch.setenv("FASHION_MNIST_DIR", str(local))
    assert_complete(fetch(params("fashion-mnist", mirror.url), 0), mirror.url)
    assert (
        f"download: fashion-mnist from FASHION_MNIST_DIR: {TRAIN_IMAGES}: found {found}, "
        f"expected SHA-256 {digest(content)}\n"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(("name", "variable"), [("mnist", "MNIST_DIR"), ("kmnist", "KMNIST_DIR")])
def test_mnist_and_kmnist_work_the_same(
    name: str, variable: str, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(published))
    with pytest.raises(NoSource, match=variable):
        fetch(params(name), 0)
    hashes = tuple(digest((published / file).read_bytes()) for file in FILES)
    monkeypatch.setitem(PUBLISHED, name, dataclasses.replace(PUBLISHED[name], hashes=hashes))
    assert_complete(fetch(params(name), 0), variable)


def test_the_official_files(monkeypatch: pytest.MonkeyPatch) -> None:
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is absent")
    monkeypatch.setenv("FASHION_MNIST_DIR", str(OFFICIAL))
    dataset = load(fetch(params(), 0), 10_000, 0)
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert dataset.image_shape == (1, 28, 28)
    assert dataset.train.labels.bincount().tolist() == [5_000] * 10
    assert (dataset.mean, dataset.std) == pytest.approx((0.2861, 0.3530), abs=2e-3)


def test_the_stage_exits_as_its_caller_expects(dead: str, published: Path) -> None:
    """Run as DVC runs it. The mirrors are dead, so a dead proxy stands for torchvision's too."""
    environment = {
        **{key: value for key, value in os.environ.items() if key.lower() != "no_proxy"},
        "http_proxy": dead,
        "https_proxy": dead,
        "PYTHONPATH": str(ROOT),
    }
    text = (ROOT / "params.yaml").read_text()
    for dataset, code in ((f"path:{published}", 0), ("kmnist", EXIT_NO_SOURCE)):
        changed = text.replace("dataset: fashion-mnist", f"dataset: {dataset}")
        Path("params.yaml").write_text(changed)
        command = [sys.executable, str(ROOT / "stages/download.py")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stderr
        if code:
            assert done.stderr.endswith(f"{COMMAND}\n")
            assert "Traceback" not in done.stderr
        else:
            assert done.stdout == (
                "download: data/it: 300 training and 100 test images of 10 classes, 8x8, "
                "from path:it\n"
            )


# The embedded set and a user's folder


def test_embedded_files_are_the_recorded_bytes() -> None:
    folder = fetch(params("embedded"), 0)
    assert_complete(folder, "embedded seed 0")
    assert read_description(folder).counts == {"train": 12_000, "test": 2_000}
    assert [digest((folder / file).read_bytes()) for file in FILES] == [
        "1fc8359ff11acdc506c2d6694bfcd2ee20ae6d0590bca9ac2b88c28a18d2a0ba",
        "4701db71ad202e4650f8df7cc2779e2f33d0022c0c49b40dcbfa17cc15946416",
        "ee2205639699f7778aedcb084ebba3e0ab4ab18bb462dbc4bd1a8f02913d54fe",
        "c6a5b2812b0f32615a6913a371c49fbd800ac7f52f8e98d2df653b2d8d0eef8e",
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
    assert dataset.sha256[TRAIN_IMAGES] == digest((mine / TRAIN_IMAGES).read_bytes())


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


@pytest.mark.parametrize("name", ["fashion-mnist", "embedded"])
def test_a_users_images_cannot_pass_for_built_in_ones(tmp_path: Path, name: str) -> None:
    write_tiny_dataset(tmp_path / name)
    with pytest.raises(TritbenchError, match="rename the folder"):
        fetch(params(f"path:{tmp_path / name}"), 0)


# Loading


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


def test_at_most_a_sixth_of_the_training_images_is_for_validation(mine: Path) -> None:
    dataset = load(mine, 10_000, 0)
    assert (len(dataset.train), len(dataset.validation)) == (250, 50)


def test_mean_and_std_are_of_the_training_part(mine: Path) -> None:
    dataset = load(mine, 30, 0)
    pixels = dataset.train.pixels.double() / 255
    assert dataset.mean == pytest.approx(pixels.mean().item(), rel=1e-12)
    assert dataset.std == pytest.approx(pixels.std(correction=0).item(), rel=1e-12)


def test_images_without_contrast_are_refused(mine: Path) -> None:
    (mine / TRAIN_IMAGES).write_bytes(idx_bytes(np.full((300, 8, 8), 7, np.uint8)))
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
    (mine / TEST_LABELS).write_bytes(idx_bytes(np.zeros(100, np.uint8)))
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


def test_torchvision_is_importable_after_a_failed_import() -> None:
    code = (
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
        "from tritbench.data._torchvision import torchvision_datasets\n"
        "assert torchvision_datasets().KMNIST.mirrors\nimport torchvision\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
