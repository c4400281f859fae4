"""Where images come from: one file a kind of source, and here the table of them all."""

import os
from collections.abc import Callable
from pathlib import Path

from tritbench.data.sources import (
    arrays,
    class_folders,
    embedded,
    idx_files,
    parquet,
    published,
    torchvision_sets,
)
from tritbench.data.sources.source import Request, Source, folder_variable
from tritbench.errors import TritbenchError
from tritbench.params import DataParams
from tritbench.registry import Registry

# What a user's folder may hold, in the order in which it is looked for.
FOLDERS = {
    "four IDX files": idx_files,
    "parquet files": parquet,
    "an .npz file": arrays,
    "a folder a class with pictures in it": class_folders,
}
(EMBEDDED,) = embedded.SETS
# What `data.dataset` may name beside `path:FOLDER`.
SOURCES: Registry[Callable[[Request], Source]] = Registry(
    "data_sources",
    Callable,
    {
        name: module.read
        for module in (embedded, published, torchvision_sets)
        for name in module.SETS
    },
)


def open_source(params: DataParams, seed: int, work: Path, program: str) -> Source:
    """Find what `params.dataset` names.

    Args:
        params: which data set, and mirrors to try.
        seed: selects the images of the embedded set.
        work: an empty folder for what is downloaded.
        program: begins the lines on stderr.

    Raises:
        NoSource: nothing that was tried has the data set.
        TritbenchError: a user's folder does not hold a data set.
    """
    if params.users_folder is not None:
        return _in_users_folder(params, params.users_folder)
    return SOURCES[params.dataset](Request(params, seed, work, program))


def in_folder(folder: Path, params: DataParams) -> Source:
    """The data set in a folder, of whichever kind it is.

    Raises:
        TritbenchError: it is of none, or not whole.
    """
    for kind in FOLDERS.values():
        if kind.holds(folder):
            source: Source = kind.read(folder, params)
            return source
    raise TritbenchError(f"{folder}: no images found, expected {', '.join(FOLDERS)}")


def _in_users_folder(params: DataParams, users: Path) -> Source:
    key = f"data.dataset = {params.dataset}"
    if not os.path.isdir(users):
        raise TritbenchError(f"{key}: no such folder, expected one with {', '.join(FOLDERS)}")
    if params.name == EMBEDDED:
        raise TritbenchError(f"{key}: '{EMBEDDED}' is a built-in data set; rename the folder")
    source = in_folder(users, params)
    if params.name in published.SETS and published.dataset_in(users) == params.name:
        classes = published.SETS[params.name].classes
        return Source(source.name, source.train, source.test, classes)
    if params.name in SOURCES:  # results carry no more: others must not pass for published ones
        variable = folder_variable(params.name)
        raise TritbenchError(
            f"{key}: its files are not known to be {params.name}'s; rename the folder, or name it "
            f"in {variable} and set data.dataset={params.name}"
        )
    return source
