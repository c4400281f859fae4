"""Published data sets from mirrors and local folders: verified, whole or not at all."""

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from image_sources import COMMAND, ROOT, Mirror, assert_complete, be_alone, digest, params
from tiny import write_tiny_dataset

from tritbench.data import NoSource, fetch, load, read_description
from tritbench.data.sources import mirrors
from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.data.sources.idx_files import FILES, TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES
from tritbench.data.sources.mirrors import PATIENCE, PATIENCE_IN_ALL, Mirrors
from tritbench.data.sources.published import SETS, UNCOMPRESSED, describe
from tritbench.errors import EXIT_NO_SOURCE

OFFICIAL = ROOT.parent / "shared" / "fashion-mnist"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    be_alone(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("published") / "it", classes=10)


@pytest.fixture
def official(published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small files, which for now are Fashion-MNIST's official ones."""
    hashes = tuple(digest((published / file).read_bytes()) for file in FILES)
    stand_in = dataclasses.replace(SETS["fashion-mnist"], hashes=hashes)
    monkeypatch.setitem(SETS, "fashion-mnist", stand_in)
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
    get = Mirrors.get

    def interrupted(self: Mirrors, url: str, file: str, limit: int) -> bytes:
        if file == TEST_LABELS:
            raise KeyboardInterrupt
        return get(self, url, file, limit)

    monkeypatch.setattr(Mirrors, "get", interrupted)
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "PATIENCE", 0.3)
    monkeypatch.setattr(mirrors, "PATIENCE_IN_ALL", 0.6)


def answer(*parts: bytes) -> tuple[str, socket.socket]:
    """A mirror that sends these parts and then no more, and never hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = server.accept()
            for part in parts:
                client.sendall(part)
            client.recv(2**16)
            client.recv(1)  # waits until the client has gone

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}", server


OK = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([], "0 bytes in 0 s"),
        ([b"HTTP/1.1 200 OK\r\n"], "0 bytes in 0 s"),
        ([OK, b"x" * 100], "100 bytes in 0 s"),
        ([OK, *[b"x" * 2**20] * 8], f"more than {UNCOMPRESSED[TEST_IMAGES]} bytes"),
        ([b"SSH-2.0-x\r\n"], "SSH-2.0-x"),
        ([b"HTTP/1.1 503 \x1b[31mred\x07\r\nContent-Length: 0\r\n\r\n"], "HTTP 503 ?[31mred?"),
    ],
    ids=["silent", "half a header", "stalled", "endless", "no HTTP", "steers the terminal"],
)
def test_a_mirror_without_manners_is_given_up(
    parts: list[bytes], found: str, impatient: None, official: Path, tmp_path: Path
) -> None:
    url, server = answer(*parts)
    with server, pytest.raises((OSError, HTTPException, ValueError)) as caught:
        Mirrors([url]).get(url, TEST_IMAGES, UNCOMPRESSED[TEST_IMAGES])
    assert found in describe(caught.value)


def test_dead_mirrors_do_not_add_up(
    monkeypatch: pytest.MonkeyPatch, official: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []

    def download(url: str, limit: int, patience: float) -> bytes:
        waited.append(patience)
        clock[0] += patience
        raise TimeoutError("dead")

    clock = [0.0]
    monkeypatch.setattr(mirrors, "_download", download)
    monkeypatch.setattr(mirrors.time, "monotonic", lambda: clock[0])
    for count, share in ((1, PATIENCE), (2, PATIENCE_IN_ALL / 2), (8, PATIENCE_IN_ALL / 8)):
        waited.clear()
        with pytest.raises(NoSource):
            fetch(params("fashion-mnist", *(f"http://m{n}" for n in range(count))), 0)
        assert waited == pytest.approx([share] * count)


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
    found = "no such file"
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
    monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], hashes=hashes))
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
    assert (*dataset.mean, *dataset.std) == pytest.approx((0.2861, 0.3530), abs=2e-3)


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


def test_torchvision_is_importable_after_a_failed_import() -> None:
    code = (
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
        "from tritbench.data.sources._torchvision import torchvision_datasets\n"
        "assert torchvision_datasets().KMNIST.mirrors\nimport torchvision\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
