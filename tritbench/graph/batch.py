"""Where the images of a batch lie in each value: what a graph does must keep them apart."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tritbench.errors import TritbenchError
from tritbench.graph.shapes import Shape, count, has_batch

if TYPE_CHECKING:
    from tritbench.graph.graph import Node


def check_batch(shapes: Mapping[str, Shape], nodes: "tuple[Node, ...]") -> None:
    """Refuse a graph that mixes the images of a batch.

    A size of k × batch has the batch between `outer` and k / outer sizes: windows of images have
    1, tokens that lie one after the other, each of the whole batch, all of them. Elements before
    the batch stay as many in a `reshape`; else parts of one image become another's.

    Args:
        shapes: of every input, parameter and result.
        nodes: in an order in which they can run.

    Raises:
        TritbenchError: naming the node.
    """
    outer: dict[str, int] = {}
    for node in nodes:
        if not has_batch(node.shape):
            continue
        given = {outer.get(n, 1) for n in node.inputs if n is not None and has_batch(shapes[n])}
        before = given.pop() if given else 1
        if node.op == "reshape":
            elements = before * _before(shapes[str(node.inputs[0])])
            before, rest = divmod(elements, _before(node.shape))
            multiple = next(-size for size in node.shape if size < 0)
            if rest or not before or multiple % before:
                given = {before, 0}
        if given - {before}:
            where = f" ({node.source})" if node.source else ""
            raise TritbenchError(
                f"{node.module or node.name} ({node.op}): mixes the images of a batch{where}"
            )
        outer[node.name] = before


def _before(shape: Shape) -> int:
    """Elements before the batch."""
    return count(shape[: next(at for at, size in enumerate(shape) if size < 0)])
