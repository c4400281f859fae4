"""A folder a class: train/CLASS/*, test/CLASS/* (or val/), or CLASS/* alone."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritbench.data.sources.idx_files import check_class_names
from tritbench.data.sources.source import Part, Picture, Source
from tritbench.errors import TritbenchError, printable
from tritbench.params import DataParams
from tritbench.pictures import KINDS, PICTURES, opened

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
_NAMED = 3  # of files that are left out


@dataclass(frozen=True)
class _Files(Sequence[Picture]):
    paths: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        path = self.paths[index]
        try:
            found = os.stat(path)
        except OSError:  # a broken link: who opens it says so
            return Picture(path, partial(opened, Path(path), path))
        stamp = f"{found.st_size} {found.st_mtime_ns}"
        return Picture(path, partial(opened, Path(path), path), stamp)


def holds(folder: Path) -> bool:
    """Whether there is a folder with a picture somewhere below it."""
    return any(
        os.path.splitext(file)[1].lower() in PICTURES
        for child in _folders(folder)
        for _, _, files in os.walk(child, followlinks=True)
        for file in files
    )


def read(folder: Path, params: DataParams) -> Source:
    """The data set in the folder; names of classes are those of its folders, sorted.

    Raises:
        TritbenchError: the test images are of other classes than the training images.
    """
    by_name = {child.name.lower(): child for child in _folders(folder)}
    top = next((by_name[name] for name in TRAIN if name in by_name), folder)
    tests = [by_name[name] for name in TEST if name in by_name] if top != folder else []
    for unused in tests[1:]:
        print(f"{printable(str(unused))}: left out, {tests[0].name} is tested on", file=sys.stderr)
    classes = [child.name for child in _folders(top)]
    check_class_names(classes, str(top))
    train = _part(top, classes)
    test = _part(tests[0], classes) if tests else None
    return Source(f"path:{params.name}", train, test, classes)


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _part(top: Path, classes: list[str]) -> Part:
    children = {child.name: child for child in _folders(top)}
    if unknown := sorted(set(children) - set(classes)):
        raise TritbenchError(
            f"{top / unknown[0]}: no class of that name among the training images "
            f"({len(unknown)} such folders), expected {', '.join(classes[:3])}…"
        )
    paths: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    for label, name in enumerate(classes):
        found = sorted(_files(children[name])) if name in children else []
        pictures = [f for f in found if os.path.splitext(f)[1].lower() in PICTURES]
        others += sorted(set(found) - set(pictures))
        paths += pictures
        labels += [label] * len(pictures)
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        text = printable(f"{top}: left out, not {KINDS}: {', '.join(others[:_NAMED])}{more}")
        print(text, file=sys.stderr)
    return Part(_Files(paths), np.array(labels, np.int64), str(top), str(top))


def _files(folder: Path) -> list[str]:
    return [
        os.path.join(place, file)
        for place, _, files in os.walk(folder, followlinks=True)
        for file in files
        if not file.startswith(".")
    ]
