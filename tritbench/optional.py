"""What `pip install tritbench` leaves out: each optional package, and the extra that brings it."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tritbench.errors import TritbenchError

EXTRAS = {
    "pydantic": "torch",
    "ruamel": "torch",
    "scipy": "torch",
    "torch": "torch",
    "tqdm": "torch",
    "constriction": "entropy",
    "pyarrow": "data",
    "altair": "pipeline",
    "dvc": "pipeline",
    "jinja2": "pipeline",
    "PIL": "pipeline",
    "psutil": "pipeline",
    "torchvision": "pipeline",
    "vl_convert": "pipeline",
    "gguf": "export",
    "onnx": "export",
    "optuna": "optimize",
    "ray": "ray",
}


class MissingExtraError(TritbenchError, ImportError):
    """A package is not installed; the message says which extra brings it."""


@contextmanager
def explained(extra: str | None = None) -> Iterator[None]:
    """Around imports: a package of `EXTRAS` that is not installed is a `MissingExtraError`.

    Args:
        extra: what to name, where the body needs more than the package that is missed first.

    Raises:
        MissingExtraError: naming the package and the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtraError(
            f"this needs the package {package}: pip install 'tritbench[{extra or EXTRAS[package]}]'"
        ) from None


def require(package: str) -> Any:
    """Import a package of `EXTRAS` where it is needed.

    Raises:
        MissingExtraError: naming it and the command that installs it.
    """
    with explained():
        return importlib.import_module(package)
