import functools
import gzip
import hashlib
import http.server
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from tiny import write_tiny_dataset

from tritbench import data
from tritbench.data import sources
from tritbench.data.idx import idx_bytes, read_idx
from tritbench.data.names import FILES, PUBLISHED, Published
from tritbench.errors import EXIT_NO_SOURCE, TritbenchError
from tritbench.params import DataParams

# The beginnings of the SHA-256 of FILES for seed 0.
EMBEDDED = ["1fc8359ff11acdc5", "4701db71ad202e46", "ee2205639699f777", "c6a5b2812b0f3261"]
REAL = Path(__file__).parents[2] / "shared/fashion-mnist"


def params(dataset="fashion-mnist", mirrors=(), validation=60):
    return DataParams(dataset=dataset, mirrors=list(mirrors), validation=validation)


@pytest.fixture
def good(tmp_path):
    return write_tiny_dataset(tmp_path / "good")


@pytest.fixture
def published(good, monkeypatch, tmp_path):
    """The tiny data set passes for the published one; no source but what a test adds."""
    hashes = tuple(hashlib.sha256((good / file).read_bytes()).hexdigest() for file in FILES)
    fake = Published("FashionMNIST", ("a", "b", "c"), hashes)
    monkeypatch.setitem(PUBLISHED, "fashion-mnist", fake)
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    torchvision = sources.torchvision_datasets()
    monkeypatch.setattr(torchvision.FashionMNIST, "mirrors", [])
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return fake


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a file in `cut` is announced whole and sent by half."""

    cut: frozenset = frozenset()

    def copyfile(self, source, outputfile):
        content = source.read()
        if Path(self.path).name in self.cut:
            content = content[: len(content) // 2]
        outputfile.write(content)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def serve():
    """serve(folder, cut=()) -> the address of an HTTP server."""
    servers = []

    def start(folder, cut=()):
        handler = type("Cutting", (Handler,), {"cut": frozenset(cut)})
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_whole(folder, source):
    about = json.loads((folder / "dataset.json").read_text())
    assert about["source"] == source
    assert about["counts"] == {"train": 300, "test": 100}
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, "dataset.json"])
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]


def test_a_good_mirror_gives_the_data_set(published, good, serve):
    mirror = serve(good)
    assert_whole(data.fetch(params(mirrors=[mirror]), 0), mirror)


def test_a_dead_mirror_is_passed_over(published, good, serve, capsys):
    mirror = serve(good)
    assert_whole(data.fetch(params(mirrors=["http://127.0.0.1:9", mirror]), 0), mirror)
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_torchvisions_mirrors_come_last(published, good, serve, monkeypatch):
    mirror = serve(good) + "/"
    monkeypatch.setattr(sources.torchvision_datasets().FashionMNIST, "mirrors", [mirror])
    assert_whole(data.fetch(params(mirrors=["http://127.0.0.1:9"]), 0), mirror)


@pytest.mark.parametrize("fault", ["404", "truncated", "wrong bytes"])
def test_a_faulty_mirror_is_named_with_found_and_expected(
    published, good, serve, capsys, tmp_path, fault
):
    bad = write_tiny_dataset(tmp_path / "bad")
    file = FILES[2]
    if fault == "404":
        (bad / file).unlink()
    if fault == "wrong bytes":
        (bad / file).write_bytes(idx_bytes(np.zeros((100, 8, 8), np.uint8)))
    faulty = serve(bad, cut=[file] if fault == "truncated" else [])
    mirror = serve(good)
    assert_whole(data.fetch(params(mirrors=[faulty, mirror]), 0), mirror)
    (line,) = [ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("download:")]
    assert faulty in line
    assert file in line
    assert f"expected SHA-256 {published.hashes[2]}" in line
    assert ("HTTP 404" if fault == "404" else "found") in line


def test_without_a_source_the_error_says_what_to_run_and_nothing_is_left(published, serve, good):
    (good / FILES[0]).unlink()
    mirror = serve(good)
    with pytest.raises(data.NoSource) as error:
        data.fetch(params(mirrors=[mirror, "http://127.0.0.1:9"]), 0)
    message = str(error.value)
    assert error.value.exit_code == EXIT_NO_SOURCE
    assert "\n" not in message
    assert mirror in message
    assert "http://127.0.0.1:9" in message
    assert message.endswith("dvc exp run -S data.dataset=embedded")
    assert list(Path().iterdir()) == []


def test_the_folder_in_the_environment_comes_first(published, good, monkeypatch, capsys, serve):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(good))
    assert_whole(data.fetch(params(mirrors=["http://127.0.0.1:9"]), 0), "FASHION_MNIST_DIR")
    assert capsys.readouterr().err == ""


def test_a_truncated_file_in_that_folder_is_named_and_a_mirror_used(
    published, good, monkeypatch, capsys, serve, tmp_path
):
    local = write_tiny_dataset(tmp_path / "local")
    (local / FILES[1]).write_bytes((local / FILES[1]).read_bytes()[:-5])
    monkeypatch.setenv("FASHION_MNIST_DIR", str(local))
    mirror = serve(good)
    assert_whole(data.fetch(params(mirrors=[mirror]), 0), mirror)
    assert f"FASHION_MNIST_DIR: {FILES[1]}: found SHA-256" in capsys.readouterr().err


def test_an_interruption_leaves_nothing(published, good, monkeypatch, serve):
    utils = sources.torchvision_datasets().utils
    download = utils.download_url

    def interrupted(url, root, filename):
        download(url, root, filename)
        if filename == FILES[1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(utils, "download_url", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.fetch(params(mirrors=[serve(good)]), 0)
    assert list(Path().iterdir()) == []


def test_a_users_folder_is_taken_with_its_sizes_classes_and_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_tiny_dataset(tmp_path / "users" / "birds", size=6, classes=4)
    (folder / "classes.txt").write_text("wren\nowl\ngull\ncrow\n")
    made = data.fetch(params(f"path:{folder}"), 0)
    dataset = data.load(made, validation=60, seed=0)
    assert dataset.name == "birds"
    assert dataset.image_shape == (1, 6, 6)
    assert list(dataset.classes) == ["wren", "owl", "gull", "crow"]
    assert str(tmp_path) not in (made / "dataset.json").read_text()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (FILES[1], idx_bytes(np.zeros(299, np.uint8)), "299"),
        (FILES[1], idx_bytes(np.full(300, 7, np.uint8)), "label"),
        (FILES[2], idx_bytes(np.zeros((100, 9, 9), np.uint8)), "9"),
        (FILES[3], idx_bytes(np.full(100, 9, np.uint8)), "label"),
        (FILES[0], b"not gzip", FILES[0]),
    ],
)
def test_a_users_wrong_file_is_named(tmp_path, monkeypatch, file, content, message):
    monkeypatch.chdir(tmp_path)
    folder = write_tiny_dataset(tmp_path / "users" / "birds")
    (folder / file).write_bytes(content)
    with pytest.raises(TritbenchError, match=message) as error:
        data.fetch(params(f"path:{folder}"), 0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=30)))
def test_idx_files_are_read_as_they_were_written(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


def test_stored_blocks_hold_more_than_64_kib(tmp_path):
    array = np.arange(200_000, dtype=np.uint32).astype(np.uint8)
    path = tmp_path / "a.gz"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path, 1), array)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        gzip.compress(b"\0\0\x08"),
        gzip.compress(struct.pack(">HBBI", 1, 8, 1, 3) + b"abc"),
        gzip.compress(struct.pack(">HBBI", 0, 9, 1, 3) + b"abc"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 4) + b"abc"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2) + b"abc"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2**32 - 1) + b"abc"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 3) + b"abc")[:-4],
    ],
)
def test_a_corrupt_idx_file_is_one_line_with_its_name(tmp_path, content):
    path = tmp_path / "broken.gz"
    path.write_bytes(content)
    with pytest.raises(TritbenchError, match=r"broken\.gz") as error:
        read_idx(path, 1)
    assert "\n" not in str(error.value)


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """The folder of a fetched tiny data set."""
    monkeypatch.chdir(tmp_path)
    folder = write_tiny_dataset(tmp_path / "users" / "birds")
    return data.fetch(params(f"path:{folder}"), 0)


def test_the_split_is_stratified_disjoint_and_decided_by_the_seed(loaded):
    first, same, other = (data.load(loaded, 47, seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.validation), len(first.test)) == (253, 47, 100)
    assert torch.equal(first.validation.pixels, same.validation.pixels)
    assert not torch.equal(first.validation.pixels, other.validation.pixels)
    counts = torch.bincount(first.validation.labels)
    assert counts.max() - counts.min() <= 1
    images = {image.numpy().tobytes() for image in first.train.pixels}
    assert not images & {image.numpy().tobytes() for image in first.validation.pixels}


def test_mean_and_deviation_are_the_training_pixels(loaded):
    dataset = data.load(loaded, 60, 0)
    pixels = dataset.train.pixels.double() / 255
    assert dataset.mean == pytest.approx(pixels.mean().item())
    assert dataset.std == pytest.approx(pixels.std(unbiased=False).item())


def test_counts_that_do_not_fit_are_named_by_their_key(loaded):
    with pytest.raises(TritbenchError, match=r"data\.validation"):
        data.load(loaded, 2, 0)
    dataset = data.load(loaded, 10_000, 0)
    assert len(dataset.validation) == 50  # a sixth of 300
    with pytest.raises(TritbenchError, match=r"ptq\.calibration"):
        data.calibration_images(dataset, 251, 0)
    assert data.calibration_images(dataset, 32, 0).shape == (32, 1, 8, 8)


def test_a_file_that_changed_since_is_named(loaded):
    (loaded / FILES[0]).write_bytes(idx_bytes(np.zeros((300, 8, 8), np.uint8)))
    with pytest.raises(TritbenchError, match=FILES[0]):
        data.load(loaded, 60, 0)
    (loaded / "dataset.json").write_text("{")
    with pytest.raises(TritbenchError, match=r"dataset\.json"):
        data.load(loaded, 60, 0)


def test_the_embedded_files_are_the_same_bytes_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = data.fetch(params("embedded"), 0)
    digests = [hashlib.sha256((folder / file).read_bytes()).hexdigest()[:16] for file in FILES]
    assert digests == EMBEDDED
    dataset = data.load(folder, 10_000, 0)
    assert (len(dataset.train), len(dataset.test), dataset.name) == (10_000, 2000, "embedded")


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/fashion-mnist")
def test_the_real_fashion_mnist_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASHION_MNIST_DIR", str(REAL))
    dataset = data.load(data.fetch(params(validation=10_000), 0), 10_000, 0)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (50000, 10000, 10000)
    assert torch.bincount(dataset.validation.labels).tolist() == [1000] * 10
    assert dataset.classes[0] == "T-shirt/top"
