"""Files: inputs read with clear errors; every output written beside its place and moved into it."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

from tritbench.errors import TritbenchError, reading, reason
from tritbench.optional import explained

_DEEPEST = 100  # mappings and lists in each other that a YAML file may have


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`, making its folder; readers see all of it or none.

    Raises:
        OSError: with `path` as its filename, for example on a full disk; `path` is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)


def open_regular(path: Path) -> BufferedReader:
    """A file open for reading; whatever else has that name, as a pipe, is refused, not waited for.

    Raises:
        TritbenchError: naming the file, where it is missing, no regular file or not readable.
    """
    with reading(path):
        # Without O_NONBLOCK a pipe that nobody writes to would be waited for here.
        flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, os.O_RDONLY | flags)
        kind = os.fstat(handle).st_mode
        if not stat.S_ISREG(kind):
            os.close(handle)
            found = "is a folder" if stat.S_ISDIR(kind) else "is no regular file"
            raise TritbenchError(f"{path}: {found}, expected a file")
        return os.fdopen(handle, "rb")


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        TritbenchError: where it cannot be read.
    """
    with open_regular(path) as file, reading(path):
        return file.read()


def read_text(path: Path) -> str:
    """A file's text in UTF-8, without a byte order mark.

    Raises:
        TritbenchError: naming the file and what is wrong with it.
    """
    content = read_bytes(path)
    with reading(path):
        return content.decode("utf-8-sig")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        TritbenchError: where it cannot be read.
    """
    with open_regular(path) as file, reading(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, or None of an empty one.

    By the parser that DVC reads it with, so that both take the same files: YAML 1.2 (1e-3 is a
    number there, and a string in PyYAML's 1.1), and libyaml where it is installed, which refuses a
    plain `a:b` within brackets.

    Raises:
        TritbenchError: where there is no such file, or it is not YAML.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, origin: str) -> Any:
    """What `read_yaml` makes of a text; `origin` begins its errors."""
    with explained():
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    try:
        with reading(f"{origin}: not YAML"):
            _check_depth(YAML(typ="safe").parse(text))
            return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise TritbenchError(f"{origin}: not YAML: {reason(error)}") from None


def _check_depth(events: Iterable[object]) -> None:
    """Libyaml composes by recursion in C, which ends the process where there is no stack left."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > _DEEPEST + 2:  # the stream and the document
            raise RecursionError
