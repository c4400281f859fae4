"""CSV files that others may have written: a bad value is one clear line that says where it is."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from tritbench import files
from tritbench.errors import TritbenchError
from tritbench.validation import describe

Number = TypeVar("Number", int, float)
Row = TypeVar("Row")
# Types of fields for `typed_rows`.
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
EMPTY = BeforeValidator(lambda text: text or None)  # a cell without a value


class CsvRow:
    """One line of a CSV file; its readers say where a bad value stands."""

    def __init__(self, origin: str, line: int, values: dict[str, str]) -> None:
        self.origin, self.line, self.values = origin, line, values

    def text(self, column: str) -> str:
        """Text that is not empty."""
        if not self.values[column].strip():
            raise self.bad(column, "text")
        return self.values[column]

    def optional_text(self, column: str) -> str:
        """Text; empty where there is no value."""
        return self.values[column] if self.has(column) else ""

    def one_of(self, column: str, allowed: Sequence[str]) -> str:
        """One of a few words."""
        if self.values[column] not in allowed:
            raise self.bad(column, f"one of {', '.join(allowed)}")
        return self.values[column]

    def integer(self, column: str, minimum: int = 0) -> int:
        """A whole number."""
        number = _parsed(int, self.values[column])
        if number is None or number < minimum:
            raise self.bad(column, f"an integer of at least {minimum}")
        return number

    def number(self, column: str, above: float = -math.inf) -> float:
        """A finite number."""
        number = _parsed(float, self.values[column])
        if number is None or not above < number < math.inf:
            limit = "" if above == -math.inf else f" above {above:g}"
            raise self.bad(column, f"a finite number{limit}")
        return number

    def optional_number(self, column: str, above: float = -math.inf) -> float | None:
        """A finite number; None where there is no value."""
        return self.number(column, above) if self.has(column) else None

    def share(self, column: str) -> float:
        """A number from 0 to 1."""
        number = _parsed(float, self.values[column])
        if number is None or not 0 <= number <= 1:
            raise self.bad(column, "a number from 0 to 1")
        return number

    def has(self, column: str) -> bool:
        """Whether there is a value, and the column."""
        return bool(self.values.get(column, "").strip())

    def bad(self, column: str, expected: str) -> TritbenchError:
        """The error that names origin, line, column and value."""
        value = self.values[column]
        return TritbenchError(
            f"{self.origin}, line {self.line}: {column} = {value!r}: expected {expected}"
        )


def _parsed(kind: type[Number], text: str) -> Number | None:
    try:
        return kind(text)
    except ValueError:
        return None


def read_text(path: Path) -> str:
    """A file as UTF-8.

    Raises:
        TritbenchError: naming the file, where it is missing or not text.
    """
    if not path.exists():
        raise missing(path)
    return files.read_text(path)


def csv_rows(text: str, origin: str, columns: Sequence[str]) -> Iterator[CsvRow]:
    """The rows of CSV with a header that has at least `columns`; a byte order mark is left out.

    Raises:
        TritbenchError: naming the origin and line.
    """
    try:
        reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise TritbenchError(f"{origin}, line 1: no column {column!r}")
        for values in reader:
            if None in values or None in values.values():
                raise TritbenchError(
                    f"{origin}, line {reader.line_num}: expected {len(reader.fieldnames or ())} "
                    "values as in the header"
                )
            yield CsvRow(origin, reader.line_num, values)
    except csv.Error as error:
        raise TritbenchError(f"{origin}: not CSV: {error}") from None


def typed_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a CSV file as a dataclass whose fields are columns; other columns are left out.

    Raises:
        TritbenchError: naming the file, line, column and value that is wrong.
    """
    adapter, names = TypeAdapter(kind), [field.name for field in fields(cast(Any, kind))]
    found = []
    for row in csv_rows(read_text(path), str(path), names):
        try:
            found.append(adapter.validate_python({name: row.values[name] for name in names}))
        except ValidationError as error:
            raise TritbenchError(describe(error, f"{path}, line {row.line}")) from None
    return found


def missing(path: Path) -> TritbenchError:
    """The error for a file that an earlier stage should have written."""
    return TritbenchError(f"{path}: no such file; expected what the stages before `report` write")
