"""What pydantic finds wrong with an input, as one line: keys, values and what is allowed."""

import reprlib
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError


def expected(what: str) -> PydanticCustomError:
    """The error of a value that should have been `what`."""
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def describe(error: ValidationError, origin: str) -> str:
    """One line for all that pydantic found wrong: keys, values and what is allowed."""
    lines = [_describe_one(detail) for detail in error.errors(include_url=False)]
    return f"{origin}: " + "; ".join(lines)


def _describe_one(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "(top level)"
    if detail["type"] == "missing":
        return f"{key} is missing"
    if detail["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    message = detail["msg"].removeprefix("Input should be ")
    message = message.removeprefix("Value error, ").removeprefix("expected ")
    found = shown(detail["input"])
    if detail["type"] == "list_type" and isinstance(detail["input"], str):
        message = f"a list, such as [{found}]"
    return f"{key} = {found}: expected {message}"


def shown(value: object) -> str:
    """The beginning of its `repr`: YAML's aliases can make a value of any size."""
    return _Shown().repr(value)


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 200  # characters
        self.maxlist = self.maxdict = 12

    def repr_dict(self, value: dict[Any, Any], level: int) -> str:
        """In the order of the file."""
        if level <= 0:
            return "{...}"
        items = list(islice(value.items(), self.maxdict))
        pairs = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in items]
        return "{" + ", ".join([*pairs, *["..."][len(items) == len(value) :]]) + "}"
