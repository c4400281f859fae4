"""Data sets by torchvision's own classes, which download and verify them."""

import os
import socket
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.data.sources.idx_files import check_class_names
from tritbench.data.sources.mirrors import PATIENCE
from tritbench.data.sources.source import NoSource, Part, Picture, Source, folder_variable
from tritbench.errors import TritbenchError, printable, reason
from tritbench.params import DataParams


@dataclass(frozen=True)
class TorchvisionSet:
    """A class of torchvision, and the arguments that select its parts; None has no test part."""

    name: str
    train: Mapping[str, Any] = field(default_factory=lambda: {"train": True})
    test: Mapping[str, Any] | None = field(default_factory=lambda: {"train": False})


def _split(name: str, train: str = "train", test: str = "test") -> TorchvisionSet:
    return TorchvisionSet(name, {"split": train}, {"split": test})


_BALANCED = {"split": "balanced"}  # 47 classes, letters that look alike made one
SETS = {
    "cifar10": TorchvisionSet("CIFAR10"),
    "cifar100": TorchvisionSet("CIFAR100"),
    "country211": _split("Country211"),
    "dtd": _split("DTD"),
    "emnist": TorchvisionSet("EMNIST", {"train": True, **_BALANCED}, {"train": False, **_BALANCED}),
    "eurosat": TorchvisionSet("EuroSAT", {}, None),
    "fgvc-aircraft": _split("FGVCAircraft", "trainval"),
    "flowers102": _split("Flowers102"),
    "food101": _split("Food101"),
    "gtsrb": _split("GTSRB"),
    "oxford-iiit-pet": _split("OxfordIIITPet", "trainval"),
    "stl10": _split("STL10"),
    "svhn": _split("SVHN"),
    "usps": TorchvisionSet("USPS"),
}
_FAILURES = (OSError, RuntimeError, ValueError, tarfile.TarError, zipfile.BadZipFile, ImportError)


def read(
    params: DataParams, work: Path, program: str, in_folder: Callable[[Path, DataParams], Source]
) -> Source:
    """A data set from the folder that NAME_DIR names in the environment, or downloaded.

    Args:
        params: which data set.
        work: an empty folder for what is downloaded.
        program: begins the lines on stderr.
        in_folder: reads a folder that holds it in another form than torchvision's.

    Raises:
        NoSource: neither has it.
    """
    failures = []
    variable = folder_variable(params.dataset)
    if local := os.environ.get(variable):
        try:
            return _at_hand(Path(local), params, in_folder, variable)
        except (*_FAILURES, TritbenchError) as error:
            failures.append(f"{variable}: {_words(error)}")
            print(f"{program}: {params.dataset} from {failures[-1]}", file=sys.stderr)
    else:
        failures.append(f"{variable}: not set")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        return _made(params.dataset, work, "torchvision's download", download=True)
    except _FAILURES as error:
        failures.append(f"torchvision's download: {_words(error)}")
    finally:
        socket.setdefaulttimeout(patience)
    raise NoSource(f"{params.dataset}: no source has it ({'; '.join(failures)})")


def _at_hand(
    local: Path, params: DataParams, in_folder: Callable[[Path, DataParams], Source], name: str
) -> Source:
    try:
        return _made(params.dataset, local, name, download=False)
    except _FAILURES:
        source = in_folder(local, params)
    return Source(name, source.train, source.test, source.classes)


def _made(dataset: str, root: Path, name: str, *, download: bool) -> Source:
    about = SETS[dataset]
    make = partial(getattr(torchvision_datasets(), about.name), str(root), download=download)
    train, *test = (make(**split) for split in (about.train, about.test) if split is not None)
    classes = getattr(train, "classes", None)
    if classes is not None:
        classes = [" or ".join(c) if isinstance(c, tuple) else str(c) for c in classes]
        check_class_names(classes, dataset)
    tested = _part(test[0], f"{dataset}: test") if test else None
    return Source(name, _part(train, f"{dataset}: train"), tested, classes)


@dataclass(frozen=True)
class _Items(Sequence[Picture]):
    dataset: Any
    name: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return Picture(f"{self.name}[{index}]", lambda: self.dataset[index][0])


def _part(dataset: Any, name: str) -> Part:
    known = (getattr(dataset, key, None) for key in ("targets", "labels", "_labels"))
    labels = next((found for found in known if found is not None), None)
    if labels is None:
        labels = [label for _, label in (dataset[index] for index in range(len(dataset)))]
    return Part(_Items(dataset, name), np.asarray(labels, np.int64), name, name)


def _words(error: Exception) -> str:
    return printable(" ".join(reason(error).split()))[:200]
