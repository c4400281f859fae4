"""A progress bar for what may take minutes where a layer is large."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, unit: str) -> Iterator[T]:
    """The items, with a bar on stderr after two seconds, where that is a terminal."""
    yield from tqdm(items, label, unit=unit, leave=False, delay=2, disable=None)
