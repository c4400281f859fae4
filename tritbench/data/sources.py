"""Where the images come from, and how they get into data/NAME/: verified, and as a whole or not."""

import contextlib
import errno
import os
import shutil
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
from tritbench.data.mirrors import Mirrors
from tritbench.data.names import FILES, PUBLISHED, UNCOMPRESSED, users_names
from tritbench.errors import EXIT_NO_SOURCE, TritbenchError, printable, reason
from tritbench.files import read_bytes, read_text, sha256, write_atomic
from tritbench.idx import GZIP, gzip_bytes, idx_bytes
from tritbench.params import DataParams
from tritbench.shapes import PREDICTION_COLUMNS

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
    if params.users_folder is not None:
        return f"path:{params.name}", _copy_users_files(params, folder)
    return _first_source(params, folder, program), PUBLISHED[params.dataset].classes


def _copy_users_files(params: DataParams, folder: Path) -> tuple[str, ...]:
    """Check and copy the files of `path:FOLDER`; return the names of their classes."""
    key = f"data.dataset = {params.dataset}"
    users = params.users_folder
    assert users is not None
    if not os.path.isdir(users):
        raise TritbenchError(f"{key}: no such folder, expected one with {', '.join(FILES)}")
    if not params.name or users.is_relative_to(params.folder.parent.resolve()):
        raise TritbenchError(f"{key}: expected a folder outside {params.folder.parent}/")
    found = [_users_file(users, file) for file in FILES]
    train, _ = read_parts(found)  # before copying, so that an error names the user's file
    classes = tuple(str(label) for label in range(int(train.labels.max()) + 1))
    if os.path.lexists(users / "classes.txt"):  # a broken link is no missing file
        classes = _read_class_names(users / "classes.txt", len(classes))
    for file, source in zip(FILES, found, strict=True):
        content = read_bytes(source)
        write_atomic(folder / file, content if content.startswith(GZIP) else gzip_bytes(content))
    # Results carry only the folder's name, so other images must not pass for published ones.
    if params.name in PUBLISHED:
        published = PUBLISHED[params.name]
        if tuple(sha256(folder / file) for file in FILES) != published.hashes:
            raise TritbenchError(f"{key}: its files are not {params.name}'s; rename the folder")
        return published.classes
    if params.name == "embedded":
        raise TritbenchError(f"{key}: 'embedded' is a built-in data set; rename the folder")
    return classes


def _users_file(users: Path, file: str) -> Path:
    there = [users / name for name in users_names(file) if os.path.lexists(users / name)]
    return there[0] if there else users / file


def _read_class_names(path: Path, count: int) -> tuple[str, ...]:
    names = tuple(line.strip() for line in read_text(path).splitlines())
    if len(names) != count or len(set(names) - {""}) != count:
        raise TritbenchError(
            f"{path}: found {len(set(names) - {''})} different names in {len(names)} lines, "
            f"expected {count}, one a line, as many as there are labels"
        )
    for name in names:
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise TritbenchError(f"{path}: {name!r}: expected a name without control characters")
    if taken := [name for name in names if name in PREDICTION_COLUMNS]:
        raise TritbenchError(
            f"{path}: {taken[0]!r} is a column of `tritbench predict --csv`, expected another name"
        )
    return names


def _first_source(params: DataParams, folder: Path, program: str) -> str:
    """Bring a published data set's files into the folder; return the source that had them."""
    failures = []
    hashes = dict(zip(FILES, PUBLISHED[params.dataset].hashes, strict=True))
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
    published = getattr(torchvision_datasets(), PUBLISHED[params.dataset].torchvision)
    mirrors = Mirrors([*params.mirrors, *published.mirrors])
    for mirror in list(mirrors.untried):
        yield mirror, _from_mirror(mirrors, mirror)


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
