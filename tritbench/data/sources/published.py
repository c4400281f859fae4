"""Published sets of four IDX files: from a folder at hand or from mirrors, verified by SHA-256."""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.data.sources.embedded import CLASSES
from tritbench.data.sources.idx_files import (
    FILES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    read_files,
)
from tritbench.data.sources.mirrors import Mirrors
from tritbench.data.sources.source import NoSource, Request, Source, folder_variable
from tritbench.errors import printable, reason
from tritbench.files import sha256, write_atomic
from tritbench.params import DataParams

FALLBACK = "dvc exp run -S data.dataset=embedded"
# Bytes of the published files' content: 60,000 and 10,000 images of 28×28, and the headers.
UNCOMPRESSED = {
    TRAIN_IMAGES: 16 + 60_000 * 28 * 28,
    TRAIN_LABELS: 8 + 60_000,
    TEST_IMAGES: 16 + 10_000 * 28 * 28,
    TEST_LABELS: 8 + 10_000,
}

Get = Callable[[str, Path], None]  # get(file, folder): bring one of FILES into the folder


class _UnusableError(Exception):
    """A source lacks a file, or has another one in its place."""


@dataclass(frozen=True)
class Published:
    """A published data set: its class in torchvision, its classes' names and SHA-256 of FILES."""

    torchvision: str
    classes: tuple[str, ...]
    hashes: tuple[str, ...]


SETS = {
    "fashion-mnist": Published(
        "FashionMNIST",
        CLASSES,
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    "mnist": Published(
        "MNIST",
        tuple("0123456789"),
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "kmnist": Published(
        "KMNIST",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
}


def read(request: Request) -> Source:
    """A published data set, from the first of these that has all its files.

    These are the folder that NAME_DIR (for example FASHION_MNIST_DIR) names in the environment, the
    mirrors of params.yaml, torchvision's mirrors. What is wrong with the others is said on stderr.

    Raises:
        NoSource: nothing that was tried has the data set.
    """
    name = _first_source(request.params, request.work, request.program)
    source = read_files([request.work / file for file in FILES], name)
    return Source(name, source.train, source.test, SETS[request.params.dataset].classes)


def _first_source(params: DataParams, folder: Path, program: str) -> str:
    """Bring a published data set's files into the folder; return the source that had them."""
    failures = []
    hashes = dict(zip(FILES, SETS[params.dataset].hashes, strict=True))
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
    published = getattr(torchvision_datasets(), SETS[params.dataset].torchvision)
    mirrors = Mirrors([*params.mirrors, *published.mirrors])
    for mirror in list(mirrors.untried):
        yield mirror, _from_mirror(mirrors, mirror)


def dataset_in(folder: Path) -> str:
    """What `data.dataset` is for a folder's files: the published set that they are, or `path:`."""
    for name, published in SETS.items():
        files = zip(FILES, published.hashes, strict=True)
        if all((folder / file).is_file() and sha256(folder / file) == h for file, h in files):
            return name
    return f"path:{folder.resolve()}"


def _from_folder(local: Path) -> Get:
    def get(file: str, folder: Path) -> None:
        shutil.copyfile(local / file, folder / file)

    return get


def _from_mirror(mirrors: Mirrors, mirror: str) -> Get:
    def get(file: str, folder: Path) -> None:
        # As large as its content uncompressed, which the official file is far below.
        content = mirrors.get(mirror, file, UNCOMPRESSED[file])
        write_atomic(folder / file, content)

    return get


def _get_verified(get: Get, target: Path, expected: str) -> None:
    try:
        get(target.name, target.parent)
        actual = sha256(target)
        if actual == expected:
            return
        found = f"SHA-256 {actual} ({target.stat().st_size} bytes)"
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(target)
            raise  # another source would not help
        found = describe(error)
    raise _UnusableError(f"{target.name}: found {found}, expected SHA-256 {expected}")


def describe(error: Exception) -> str:
    """Why a file cannot be had: one line that steers no terminal, whoever chose its words."""
    if isinstance(error, HTTPError):
        text = f"HTTP {error.code} {error.reason}"
    elif isinstance(error, URLError):
        text = reason(error.reason) if isinstance(error.reason, Exception) else str(error.reason)
    else:
        text = reason(error)
    return printable(" ".join(text.split()))[:200]
