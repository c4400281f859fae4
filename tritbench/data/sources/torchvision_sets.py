"""Data sets by torchvision's own classes, which download and verify them."""

import os
import socket
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritbench.data.sources import parquet
from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.data.sources.idx_files import check_class_names
from tritbench.data.sources.mirrors import PATIENCE
from tritbench.data.sources.source import NoSource, Part, Picture, Request, Source, folder_variable
from tritbench.errors import TritbenchError, printable, reason
from tritbench.params import DataParams


@dataclass(frozen=True)
class TorchvisionSet:
    """A class of torchvision, and the arguments that select its parts.

    Attributes:
        name: of the class.
        train: arguments of the training part.
        test: of the test part; None where there is none.
        parquet: SHA-256 of the arrays that Hugging Face's files become, where they are known.
    """

    name: str
    train: Mapping[str, Any] = field(default_factory=lambda: {"train": True})
    test: Mapping[str, Any] | None = field(default_factory=lambda: {"train": False})
    parquet: Mapping[str, str] | None = None


def _split(name: str, train: str = "train", test: str = "test") -> TorchvisionSet:
    return TorchvisionSet(name, {"split": train}, {"split": test})


_BALANCED = {"split": "balanced"}  # 47 classes, letters that look alike made one
SETS = {
    "cifar10": TorchvisionSet(
        "CIFAR10",
        parquet={
            "train-images.npy": "0fa1b6227380e5678b5773db0ee6aee26419576c9f395a5fdb49103e611fdd4c",
            "train-labels.npy": "ee42eaa00ed902bcbac33362dec7c3ad7e0aa8903baab3e4240cb93922036fd0",
            "test-images.npy": "48ee23a1b2b54fc34242a68fd559ce3f01049d972df472677f396fd92c20cd73",
            "test-labels.npy": "f648d68f1f94adf242b5e24bfac0043b32f9f1eef134944d4b1b4ad7cb8d63d0",
        },
    ),
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


def read(request: Request) -> Source:
    """A data set from the folder that NAME_DIR names in the environment, or downloaded.

    Raises:
        NoSource: neither has it.
    """
    failures, params = [], request.params
    variable = folder_variable(params.dataset)
    if local := os.environ.get(variable):
        try:
            return _at_hand(Path(local), params, variable)
        except (*_FAILURES, TritbenchError) as error:
            failures.append(f"{variable}: {_words(error)}")
            print(f"{request.program}: {params.dataset} from {failures[-1]}", file=sys.stderr)
    else:
        failures.append(f"{variable}: not set")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        return _made(params.dataset, request.work, "torchvision's download", download=True)
    except _FAILURES as error:
        failures.append(f"torchvision's download: {_words(error)}")
    finally:
        socket.setdefaulttimeout(patience)
    raise NoSource(f"{params.dataset}: no source has it ({'; '.join(failures)})")


def _at_hand(local: Path, params: DataParams, name: str) -> Source:
    """In torchvision's form, or in Hugging Face's where it is known what that becomes."""
    try:
        return _made(params.dataset, local, name, download=False)
    except _FAILURES as error:
        if (known := SETS[params.dataset].parquet) is None or not parquet.holds(local):
            raise TritbenchError(f"not in torchvision's form: {_words(error)}") from None
        source = parquet.read(local, params)
    return Source(name, source.train, source.test, source.classes, known)


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
