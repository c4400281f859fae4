"""A packed network as plain data: what a .trit file holds and what inference executes."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tritbench.shapes import InputSpec


@dataclass(frozen=True)
class PackedLayer:
    """One step of inference.

    Attributes:
        about: plain JSON, `type` and what the type needs: linear (in, out), conv2d (in, out,
            kernel, stride, padding), affine (features), maxpool2d, avgpool2d (kernel, stride),
            relu, flatten.
        arrays: of linear and conv2d: trits int8 [out, inputs], scale float32 [rows, groups], where
            trits of -1 have scales of their own negative_scale in the same shape, and bias float32
            [out]; of affine: scale and bias float32 [features]; else none.
    """

    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """What a .trit file holds.

    Attributes:
        layers: what inference executes, trits unpacked.
        input: what the network takes.
        classes: one name for each logit.
        codec: how trits are stored.
        provenance: data set, parameters and versions of the run that made it.
        stored: the file's arrays as they are stored, by name.
    """

    layers: list[PackedLayer]
    input: InputSpec
    classes: list[str]
    codec: str
    provenance: dict[str, Any]
    stored: dict[str, NDArray[Any]]
