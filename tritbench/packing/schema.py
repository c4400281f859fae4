"""What a .trit file says of its network, checked key by key and from layer to layer."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tritbench.errors import TritbenchError
from tritbench.models import Layer

FORMAT_VERSION = 1
LARGEST = 2**22  # values of an image, or of a layer's output for one image

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
Shape = tuple[int, ...]


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


def row_length(layer: Layer) -> int:
    """How many weights each output of a linear or conv2d layer has."""
    height, width = layer.get("kernel", (1, 1))
    return int(layer["in"] * height * width)


def check_chain(layers: list[Layer], image: Shape, classes: int) -> list[Shape]:
    """Follow one image through the network.

    Returns:
        the shape of each layer's output.

    Raises:
        TritbenchError: naming a layer that does not take what the one before it gives.
    """
    shape = image
    shapes = []
    _check_size("the image", shape)
    for index, layer in enumerate(layers):
        name = f"layer {index} ({layer['type']})"
        if shape != (following := _output(name, layer, shape)):
            _check_size(name, following)
        shape = following
        shapes.append(shape)
    if shape != (classes,):
        raise TritbenchError(f"the network gives {list(shape)}, expected [{classes}], its classes")
    return shapes


def _output(name: str, layer: Layer, shape: Shape) -> Shape:
    match layer["type"]:
        case "linear":
            _expect(name, shape, (layer["in"],))
            _check_group(name, layer)
            return (layer["out"],)
        case "conv2d":
            _expect(name, shape, (layer["in"], *shape[1:3]), dimensions=3)
            _check_group(name, layer)
            padding, kernel = layer["padding"], layer["kernel"]
            padded = [n + 2 * p for n, p in zip(shape[1:], padding, strict=True)]
            _check_size(name, (shape[0], *padded))
            return (layer["out"], *_slide(name, padded, kernel, layer["stride"]))
        case "maxpool2d" | "avgpool2d":
            _expect(name, shape, shape, dimensions=3)
            return (shape[0], *_slide(name, list(shape[1:]), layer["kernel"], layer["stride"]))
        case "affine":
            _expect(name, shape, (layer["features"], *shape[1:]))
        case "flatten":
            return (math.prod(shape),)
    return shape


def _slide(name: str, size: list[int], kernel: list[int], stride: list[int]) -> list[int]:
    if any(k > n for k, n in zip(kernel, size, strict=True)):
        raise TritbenchError(f"{name} has a kernel {kernel}, expected at most {size}")
    return [(n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True)]


def _expect(name: str, shape: Shape, expected: Shape, dimensions: int | None = None) -> None:
    if shape != expected or len(shape) != (dimensions or len(shape)):
        wanted = list(expected) if shape != expected else f"{dimensions} dimensions"
        raise TritbenchError(f"{name} is given {list(shape)}, expected {wanted}")


def _check_group(name: str, layer: Layer) -> None:
    if layer["group_size"] > row_length(layer):
        found = f"group_size {layer['group_size']}"
        raise TritbenchError(f"{name} has {found}, expected at most {row_length(layer)}")


def _check_size(name: str, shape: Shape) -> None:
    if math.prod(shape) > LARGEST:
        raise TritbenchError(
            f"{name} has the shape {list(shape)}, expected at most {LARGEST} values"
        )


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "the metadata is nested too deeply"
    detail = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in detail["loc"])
    value = f" = {detail['input']!r:.80}" if detail["type"] not in ("missing",) else ""
    return f"metadata {key}{value}: {detail['msg']}"
