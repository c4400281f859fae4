"""CSV files that others may have written: a bad value is one clear line that says where it is.

A row is a dataclass whose fields are columns. A field with a default is a column whose cells may be
empty, and that a file may lack unless its metadata are `NEEDED`; they also have the column's name,
as `{"column": …}`, where that is none for a field.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from tritbench import files
from tritbench.errors import TritbenchError
from tritbench.validation import describe, expected

Row = TypeVar("Row")


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise expected("a number from 0 to 1")
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise expected("text")
    return value


def _mode(value: str) -> str:
    if value not in MODES:
        raise expected(f"one of {', '.join(MODES)}")
    return value


MODES = ("fp32", "ptq", "qat")
NEEDED = {"needed": True}
Text = Annotated[str, AfterValidator(_text)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, AfterValidator(_share)]
Mode = Annotated[str, AfterValidator(_mode)]


def read_text(path: Path) -> str:
    """A file as UTF-8.

    Raises:
        TritbenchError: naming the file, where it is missing or not text.
    """
    if not path.exists():
        raise missing(path)
    return files.read_text(path)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file, as `parse_rows` gives them."""
    return [row for _, row in parse_rows(read_text(path), str(path), kind)]


def parse_rows(text: str, origin: str, kind: type[Row]) -> Iterator[tuple[str, Row]]:
    """Rows of a dataclass, each after the origin and line, with which errors begin.

    Raises:
        TritbenchError: naming the origin, line, column and value that is wrong or missing.
    """
    adapter = TypeAdapter(kind)
    columns = {each.metadata.get("column", each.name): each for each in fields(cast(Any, kind))}
    full = {column for column, each in columns.items() if each.default is MISSING}
    needed = [c for c, each in columns.items() if c in full or each.metadata.get("needed")]
    for where, values in csv_lines(text, origin, needed):
        given = (c for c in columns if c in full or values.get(c, "").strip())
        try:
            row = adapter.validate_python({columns[c].name: values[c] for c in given})
        except ValidationError as error:
            raise TritbenchError(describe(error, where)) from None
        yield where, row


def csv_lines(
    text: str, origin: str, columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The cells of CSV with a header that has at least `columns`, each after origin and line.

    A byte order mark is left out.

    Raises:
        TritbenchError: naming the origin and line.
    """
    try:
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise TritbenchError(f"{origin}, line 1: no column {column!r}")
        for values in reader:
            where = f"{origin}, line {reader.line_num}"
            if None in values or None in values.values():
                count = len(reader.fieldnames or ())
                raise TritbenchError(f"{where}: expected {count} values as in the header")
            yield where, values
    except csv.Error as error:
        raise TritbenchError(f"{origin}: not CSV: {error}") from None


def missing(path: Path) -> TritbenchError:
    """The error for a file that an earlier stage should have written."""
    return TritbenchError(f"{path}: no such file; expected what the stages before `report` write")
