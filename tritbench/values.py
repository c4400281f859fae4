"""What one value of params.yaml may be: its type, and in words what is allowed."""

import os
import shlex
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StringConstraints

from tritbench.registry import expected_name
from tritbench.validation import expected

_PATH = "path:"
_MOST_SIDE = 4096
_Value = TypeVar("_Value", int, str)


def _registered(kind: str, *others: str) -> PlainValidator:
    """A name of a registry, or one of the words that may stand in its place."""

    def checked(value: object) -> object:
        if (what := expected_name(kind, value, *others)) is not None:
            raise expected(what)
        return value

    return PlainValidator(checked)


def _threshold(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise expected("auto or a number in (0, 1]")


def _launcher(value: object) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and shlex.split(value):
            return value
    except ValueError:  # an open quotation
        pass
    raise expected("null or a command such as torchrun --standalone --nproc-per-node 2")


def in_folder(dataset: str) -> str | None:
    """FOLDER of `path:FOLDER`, absolute and without symbolic links; None for any other data set."""
    if not dataset.startswith(_PATH):
        return None
    return os.path.realpath(os.path.expanduser(dataset.removeprefix(_PATH)))


def _dataset(value: str) -> str:
    """The folder's name becomes that of the data set, in tables and on terminals."""
    what = None
    if value == _PATH or not value.startswith(_PATH):
        what = expected_name("data_sources", value, f"{_PATH}FOLDER")
    if what is not None:
        raise expected(what)
    if not value.isprintable() or not os.path.realpath(value.removeprefix(_PATH)).isprintable():
        raise expected("printable characters")
    return value


def _size(value: object) -> tuple[int, int] | None:
    """Height and width; a number is both."""
    sides = [value, value] if isinstance(value, int) else value
    if sides is None:
        return None
    if isinstance(sides, list | tuple) and len(sides) == 2:
        height, width = sides
        if all(type(side) is int and 1 <= side <= _MOST_SIDE for side in sides):
            return height, width
    raise expected(f"null, a number of pixels or [height, width], each 1 to {_MOST_SIDE}")


def _each_once(values: list[_Value]) -> list[_Value]:
    if len(set(values)) < len(values):
        raise expected("each value once")
    return values


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
EachOnce = AfterValidator(_each_once)
Kept = Literal["int8", "float16"]
# Of a network, which is that of a folder as well.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Dataset = Annotated[str, AfterValidator(_dataset)]
Mirror = Annotated[str, StringConstraints(pattern=r"^https?://.+")]
Size = Annotated[tuple[int, int] | None, BeforeValidator(_size)]
AugmentName = Literal["flip", "crop", "cutout"]
Launcher = Annotated[str | None, PlainValidator(_launcher)]
Threshold = Annotated[float | Literal["auto"], PlainValidator(_threshold)]
Granularity = Annotated[str, StringConstraints(pattern=r"^(tensor|channel|group:[1-9]\d*)$")]
PtqMethod = Annotated[str, _registered("ptq_methods")]
QatMethod = Annotated[str, _registered("qat_methods")]
QatStart = Annotated[str, _registered("ptq_methods", "fp32", "scratch")]
CodecName = Annotated[str, _registered("codecs")]
PeerName = Annotated[str, _registered("peers")]
