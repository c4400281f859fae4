"""Files: YAML read with clear errors; every output written beside its place and moved into it."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tritbench.errors import TritbenchError


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


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, or None of an empty one.

    YAML 1.2, as DVC writes it: 1e-3 is a number there, and a string in PyYAML's 1.1.

    Raises:
        TritbenchError: where there is no such file, or it is not YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise TritbenchError(f"{path}: no such file; run from the repository's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise TritbenchError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
