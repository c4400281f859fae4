"""A packed network as plain data: what a .trit file holds and what inference executes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.graph import Graph
from tritbench.packing.weights import PackedGraph
from tritbench.shapes import InputSpec


@dataclass(frozen=True)
class Normalization:
    """x = (pixel / 255 - mean) / std for each channel of uint8 images [n, channels, ...]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def check(self, graph: Graph) -> None:
        """Refuse another number of channels than the graph's one input has.

        Raises:
            TritbenchError: naming both.
        """
        ((name, value),) = graph.inputs.items() if len(graph.inputs) == 1 else ((None, None),)
        channels = None if value is None or len(value.shape) < 2 else value.shape[1]
        if not len(self.mean) == len(self.std) == channels:
            raise TritbenchError(
                f"normalization of {len(self.mean)} and {len(self.std)} channels, expected "
                f"{channels}, those of the input {name}"
            )


def check_classes(graph: Graph, classes: Sequence[str]) -> None:
    """Refuse a graph that does not give a logit for each class.

    Raises:
        TritbenchError: naming what it gives.
    """
    given = graph.shapes()[graph.output]
    if given != (-1, len(classes)):
        sizes = ", ".join("n" if size == -1 else str(size) for size in given)
        raise TritbenchError(
            f"the network gives [{sizes}], expected [n, {len(classes)}], a logit for each class"
        )


@dataclass(frozen=True)
class Network:
    """What a .trit file holds.

    Attributes:
        packed: the graph, and its packed weights.
        normalization: of uint8 images; none where the graph takes its input as it is.
        classes: one name for each logit.
        codec: how trits are stored.
        provenance: data set, parameters and versions of the run that made it.
        stored: the file's arrays as they are stored, by the names of version 2.
    """

    packed: PackedGraph
    normalization: Normalization | None
    classes: list[str]
    codec: str
    provenance: dict[str, Any]
    stored: dict[str, NDArray[Any]]

    @property
    def input(self) -> InputSpec:
        """The images it takes.

        Raises:
            TritbenchError: where it takes something else.
        """
        shapes = [value.shape for value in self.packed.graph.inputs.values()]
        if self.normalization is None or len(shapes) != 1 or len(shapes[0]) != 4:
            texts = ", ".join(str(list(shape)) for shape in shapes)
            raise TritbenchError(f"the network takes {texts} as it is, expected pixels of images")
        _, channels, height, width = shapes[0]
        return InputSpec((channels, height, width), self.normalization.mean, self.normalization.std)
