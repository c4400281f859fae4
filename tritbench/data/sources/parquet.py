"""Parquet files in the form of Hugging Face's image sets: a column of images, one of labels.

https://huggingface.co/docs/datasets/image_dataset and the feature types in the schema's metadata.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritbench.data.sources.class_folders import TEST, TRAIN
from tritbench.data.sources.idx_files import check_class_names, read_class_names
from tritbench.data.sources.source import Part, Picture, Source, listed
from tritbench.errors import TritbenchError
from tritbench.optional import require
from tritbench.params import DataParams
from tritbench.pictures import opened

_ALL = slice(None)


def holds(folder: Path) -> bool:
    """Whether there is a parquet file."""
    return any(folder.rglob("*.parquet"))


def read(folder: Path, params: DataParams) -> Source:
    """The data set in the folder's parquet files; a file's name says of which split it is.

    Raises:
        TritbenchError: a file is damaged or lacks the columns, naming it and what was expected.
    """
    files = sorted(folder.rglob("*.parquet"))
    of_split = {
        name: found for name in (*TRAIN, *TEST) if (found := [f for f in files if name in f.stem])
    }
    tests = [name for name in TEST if name in of_split]
    test = of_split[tests[0]] if tests else []
    train = next((of_split[name] for name in TRAIN if name in of_split), None)
    if train is None:
        if test:
            raise TritbenchError(f"{folder}: no parquet file of training, expected *train*.parquet")
        train = files
    pictures = _Pictures(train, params)
    part = _part(folder, pictures)
    return Source(
        f"path:{params.name}",
        part,
        _part(folder, _Pictures(test, params)) if test else None,
        read_class_names(folder, part.labels) or pictures.classes(),
    )


class _Pictures(Sequence[Picture]):
    """The images of some files, read a row group at a time."""

    def __init__(self, paths: list[Path], params: DataParams) -> None:
        self.arrow, self.parquet = require("pyarrow"), require("pyarrow.parquet")
        self.files = [_open(self, path) for path in paths]
        self.paths = paths
        schema = self.files[0].schema_arrow
        self.image = _column(paths[0], schema, self._is_image, "data.image", params.image)
        self.label = _column(paths[0], schema, self._is_label, "data.label", params.label)
        for path, file in zip(paths, self.files, strict=True):
            if not {self.image, self.label} <= set(file.schema_arrow.names):
                raise TritbenchError(
                    f"{path}: columns {', '.join(file.schema_arrow.names)}, expected "
                    f"{self.image} and {self.label} as in {paths[0].name}"
                )
        self.groups = [
            (index, group, file.metadata.row_group(group).num_rows)
            for index, file in enumerate(self.files)
            for group in range(file.num_row_groups)
        ]
        self.ends = np.cumsum([rows for _, _, rows in self.groups])
        counts = [file.metadata.num_rows for file in self.files]
        self.starts = [sum(counts[:index]) for index in range(len(counts))]
        self.held: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: Any) -> Any:
        at = int(np.searchsorted(self.ends, index, side="right"))
        file, group, rows = self.groups[at]
        if self.held[0] != at:
            table = self.files[file].read_row_group(group, columns=[self.image])
            self.held = at, table.column(0).combine_chunks()
        row = index - (int(self.ends[at]) - rows)
        value = self.held[1][row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        name = f"{self.paths[file]}: row {index - self.starts[file]}"
        return Picture(name, partial(opened, content or b"", name), f"{len(content or b'')}")

    def labels(self) -> Any:
        """int64 [n]; missing ones are -1."""
        columns = [file.read(columns=[self.label]).column(0) for file in self.files]
        return np.concatenate([column.fill_null(-1).to_numpy() for column in columns])

    def classes(self) -> list[str] | None:
        """Names as the schema's metadata has them, if it does."""
        metadata = self.files[0].schema_arrow.metadata or {}
        try:
            features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
            names = features[self.label]["names"]
        except (ValueError, KeyError, TypeError):
            return None
        check_class_names(names, f"{self.paths[0]}: names of {self.label}")
        return [str(name) for name in names]

    def _is_image(self, kind: Any) -> bool:
        types = self.arrow.types
        if types.is_struct(kind):
            fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
            return "bytes" in fields and self._is_image(fields["bytes"])
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def _is_label(self, kind: Any) -> bool:
        return bool(self.arrow.types.is_integer(kind))


def _open(self: _Pictures, path: Path) -> Any:
    try:
        return self.parquet.ParquetFile(path, memory_map=True)
    except (OSError, self.arrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise TritbenchError(f"{path}: not a parquet file: {reason}") from None


def _column(path: Path, schema: Any, suits: Any, key: str, named: str | None) -> str:
    found: list[str] = [field.name for field in schema if suits(field.type)]
    if named is not None:
        if named not in found:
            have = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise TritbenchError(f"{path}: {key} = {named}: no such column of that type in {have}")
        return named
    if len(found) != 1:
        what = "images {bytes, path}" if key == "data.image" else "integer labels"
        have = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise TritbenchError(
            f"{path}: {len(found)} columns of {what} in {have}, expected one, or its name in {key}"
        )
    return found[0]


def _part(folder: Path, pictures: _Pictures) -> Part:
    labels = pictures.labels().astype(np.int64)
    if len(bad := np.flatnonzero(labels < 0)):
        problems = [f"row {i} has no label" for i in bad[:1000]]
        raise TritbenchError(f"{pictures.paths[0]}: {listed(problems, len(labels))}")
    origin = str(pictures.paths[0] if len(pictures.paths) == 1 else folder)
    return Part(pictures, labels, origin, f"{origin}: {pictures.label}")
