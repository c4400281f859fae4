"""Where the images come from, and how they get into data/NAME/: verified, and as a whole or not."""

import contextlib
import errno
import os
import shutil
import socket
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from tritbench.data import embedded
from tritbench.data._torchvision import torchvision_datasets
from tritbench.data.dataset import read_parts, write_description
from tritbench.data.idx import idx_bytes
from tritbench.data.names import FILES, PUBLISHED
from tritbench.errors import EXIT_NO_SOURCE, TritbenchError
from tritbench.files import sha256, write_atomic
from tritbench.params import DataParams

TIMEOUT = 30.0  # seconds without an answer after which a mirror is given up
FALLBACK = "dvc exp run -S data.dataset=embedded"

Get = Callable[[str, Path], None]  # get(file, folder): bring one of FILES into the folder


class NoSource(TritbenchError):  # noqa: N818  - it says what is missing
    """No source has the data set. The message says what was tried and what to run instead."""

    exit_code = EXIT_NO_SOURCE


class _UnusableError(Exception):
    """A source lacks a file, or has another one in its place."""


def fetch(
    params: DataParams, seed: int, *, into: Path = Path("data"), program: str = "download"
) -> Path:
    """Make `into`/NAME/ hold the four IDX files of `params.dataset` and dataset.json; return it.

    A published data set comes from the first of these that has all its files, by their SHA-256:
    the folder that NAME_DIR (for example FASHION_MNIST_DIR) names in the environment, the mirrors
    of params.yaml, torchvision's mirrors. What is wrong with the others is said on stderr.

    The files are gathered in a hidden folder beside data/NAME/, which takes its place at the end,
    so that an interruption leaves nothing.

    Args:
        params: Which data set, and mirrors to try.
        seed: Selects the images of the embedded set.
        into: The parent of the data set's folder.
        program: Begins the lines on stderr.

    Raises:
        NoSource: nothing that was tried has the data set.
        TritbenchError: a user's folder does not hold a data set.
    """
    folder = into / params.name
    is_new = not folder.parent.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as work:
            gathered = Path(work) / "new"
            gathered.mkdir()
            source, classes = _gather(params, seed, gathered, program)
            write_description(gathered, params.name, source, classes)
            if folder.exists():
                os.replace(folder, Path(work) / "old")
            os.replace(gathered, folder)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        raise
    return folder


def _gather(
    params: DataParams, seed: int, folder: Path, program: str
) -> tuple[str, tuple[str, ...]]:
    """Bring the four files into the folder; return their source and the names of the classes."""
    if params.dataset == "embedded":
        for file, array in zip(FILES, embedded.draw(seed), strict=True):
            write_atomic(folder / file, idx_bytes(array))
        return f"embedded seed {seed}", embedded.CLASSES
    if params.dataset.startswith("path:"):
        return f"path:{params.name}", _copy_users_files(params, folder)
    return _first_source(params, folder, program), PUBLISHED[params.dataset].classes


def _copy_users_files(params: DataParams, folder: Path) -> tuple[str, ...]:
    """Check and copy the files of `path:FOLDER`; return the names of their classes."""
    key = f"data.dataset = {params.dataset}"
    users = Path(params.dataset.removeprefix("path:")).expanduser()
    if not users.is_dir():
        raise TritbenchError(f"{key}: no such folder, expected one with {', '.join(FILES)}")
    if not params.name or users.resolve().is_relative_to(params.folder.parent.resolve()):
        raise TritbenchError(f"{key}: expected a folder outside {params.folder.parent}/")
    train, _ = read_parts(users)  # before copying, so that an error names the user's file
    classes = tuple(str(label) for label in range(int(train.labels.max()) + 1))
    if (users / "classes.txt").exists():
        classes = _read_class_names(users / "classes.txt", len(classes))
    for file in FILES:
        shutil.copyfile(users / file, folder / file)
    # Results carry only the folder's name, so other images must not pass for published ones.
    if params.name in PUBLISHED:
        published = PUBLISHED[params.name]
        if tuple(sha256(folder / file) for file in FILES) != published.hashes:
            raise TritbenchError(f"{key}: its files are not {params.name}'s; rename the folder")
        return published.classes
    if params.name == "embedded":
        raise TritbenchError(f"{key}: 'embedded' is a built-in data set; rename the folder")
    return classes


def _read_class_names(path: Path, count: int) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise TritbenchError(
            f"{path}: {error.reason} at byte {error.start}, expected UTF-8"
        ) from None
    if len(names) != count or len(set(names) - {""}) != count:
        raise TritbenchError(
            f"{path}: found {len(set(names) - {''})} different names in {len(names)} lines, "
            f"expected {count}, one a line, as many as there are labels"
        )
    for name in names:
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise TritbenchError(f"{path}: {name!r}: expected a name without control characters")
    return names


def _first_source(params: DataParams, folder: Path, program: str) -> str:
    """Bring a published data set's files into the folder; return the source that had them."""
    failures = []
    hashes = dict(zip(FILES, PUBLISHED[params.dataset].hashes, strict=True))
    with _socket_timeout(TIMEOUT):
        for source, get in _sources(params):
            try:
                for file, expected in hashes.items():
                    _get_verified(get, folder / file, expected)
                return source
            except _UnusableError as problem:
                failures.append(f"{source}: {problem}")
                print(f"{program}: {params.dataset} from {failures[-1]}", file=sys.stderr)
                for file in FILES:
                    (folder / file).unlink(missing_ok=True)
    variable = folder_variable(params.dataset)
    if not os.environ.get(variable):
        failures.insert(0, f"{variable}: not set")
    raise NoSource(
        f"{params.dataset}: no source has it ({'; '.join(failures)}); "
        f"to run on the embedded drawings instead: {FALLBACK}"
    )


def _sources(params: DataParams) -> Iterator[tuple[str, Get]]:
    """What to try, in order: (how it is called, how to get a file from it)."""
    variable = folder_variable(params.dataset)
    if local := os.environ.get(variable):
        yield variable, _from_folder(Path(local))
    tried = set()
    for mirror in params.mirrors:
        tried.add(mirror)
        yield mirror, _from_mirror(mirror)
    published = getattr(torchvision_datasets(), PUBLISHED[params.dataset].torchvision)
    for mirror in published.mirrors:
        if mirror not in tried:
            yield mirror, _from_mirror(mirror)


def dataset_in(folder: Path) -> str:
    """What `data.dataset` is for a folder's files: the published set that they are, or `path:`."""
    for name, published in PUBLISHED.items():
        files = zip(FILES, published.hashes, strict=True)
        if all((folder / file).is_file() and sha256(folder / file) == h for file, h in files):
            return name
    return f"path:{folder.resolve()}"


def folder_variable(dataset: str) -> str:
    """The environment variable that may name a folder with a published data set's files."""
    return dataset.replace("-", "_").upper() + "_DIR"


def _from_folder(local: Path) -> Get:
    def get(file: str, folder: Path) -> None:
        shutil.copyfile(local / file, folder / file)

    return get


def _from_mirror(mirror: str) -> Get:
    def get(file: str, folder: Path) -> None:
        url = f"{mirror.rstrip('/')}/{file}"
        torchvision_datasets().utils.download_url(url, str(folder), file)

    return get


def _get_verified(get: Get, target: Path, expected: str) -> None:
    try:
        get(target.name, target.parent)
        actual = sha256(target)
        if actual == expected:
            return
        found = f"SHA-256 {actual} ({target.stat().st_size} bytes)"
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(target)
            raise  # another source would not help
        found = _describe(error)
    raise _UnusableError(f"{target.name}: found {found}, expected SHA-256 {expected}")


def _describe(error: Exception) -> str:
    if isinstance(error, HTTPError):
        text = f"HTTP {error.code} {error.reason}"
    elif isinstance(error, URLError):
        text = str(error.reason)
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror  # without the path
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
