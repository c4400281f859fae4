"""What a .trit file says of its network, checked key by key and from layer to layer."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tritbench.errors import TritbenchError
from tritbench.shapes import LARGEST, check_chain, row_length

FORMAT_VERSION = 1

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Linear(_Strict):
    type: Literal["linear"]
    inputs: Annotated[Count, Field(alias="in")]
    out: Count
    group_size: Count = 1  # checked only: where it is left out, it is the whole row


class _Conv2d(_Linear):
    type: Literal["conv2d"]  # type: ignore[assignment]
    kernel: Pair
    stride: Pair
    padding: Annotated[
        list[Annotated[int, Field(ge=0, le=LARGEST)]], Field(min_length=2, max_length=2)
    ]


class _Affine(_Strict):
    type: Literal["affine"]
    features: Count


class _Pool(_Strict):
    type: Literal["maxpool2d", "avgpool2d"]
    kernel: Pair
    stride: Pair


class _Plain(_Strict):
    type: Literal["relu", "flatten"]


_Layer = Annotated[_Linear | _Conv2d | _Affine | _Pool | _Plain, Field(discriminator="type")]


class _Input(_Strict):
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)]
    mean: Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
    std: Annotated[float, Field(allow_inf_nan=False, ge=1e-6, le=1e6)]


class About(_Strict):
    """The JSON object in the metadata, but for `layers`, which are plain dicts."""

    format_version: int
    codec: str
    layers: Annotated[list[_Layer], Field(min_length=1, max_length=4096)]
    input: _Input
    classes: Annotated[
        list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=LARGEST)
    ]
    provenance: dict[str, JsonValue]


def check_about(content: dict[str, Any]) -> About:
    """Check every key and value.

    Raises:
        TritbenchError: naming the first key that is wrong, and what it should be.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise TritbenchError(f"format version {version!r}, expected {FORMAT_VERSION}")
    try:
        about = About.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise TritbenchError(_first(error)) from None
    layers = content["layers"]
    for layer in layers:
        if layer["type"] in ("linear", "conv2d"):
            layer.setdefault("group_size", row_length(layer))
    check_chain(layers, tuple(about.input.shape), len(about.classes))
    return about


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "the metadata is nested too deeply"
    detail = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in detail["loc"])
    value = f" = {detail['input']!r:.80}" if detail["type"] not in ("missing",) else ""
    return f"metadata {key}{value}: {detail['msg']}"
