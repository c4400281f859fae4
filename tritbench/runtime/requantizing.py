"""Results that leave their step in 8 bits, so that no float map lies between two products."""

import math
from collections.abc import Sequence
from dataclasses import replace

from tritbench.runtime.builder import Buffer, When
from tritbench.runtime.parts import Requantize, View
from tritbench.runtime.planning import accesses
from tritbench.runtime.steps import Depthwise, Product, Quantize, Step


def requantized(
    steps: Sequence[tuple[Step, When]], buffers: Sequence[Buffer]
) -> list[tuple[Step, When]]:
    """The steps with each `Quantize` of known levels in the steps that make what it takes.

    Where nothing else reads a result it is then in no buffer.
    """
    found = list(steps)
    for entry in steps:
        step, _ = entry
        if not isinstance(step, Quantize) or step.levels is None:
            continue
        makers = [i for i, (s, _) in enumerate(found) if step.x.buffer in accesses(s)[1]]
        fitting = [_fit(found[i][0], step) for i in makers]
        if not makers or None in fitting:
            continue
        for i, maker in zip(makers, fitting, strict=True):
            assert maker is not None
            found[i] = maker, found[i][1]
        found.remove(entry)
    read = set().union(*(accesses(step)[0] for step, _ in found))
    return [(_without_floats(step, read, buffers), when) for step, when in found]


def _fit(maker: Step, step: Quantize) -> Product | Depthwise | None:
    """A maker that gives what a step would make of its result, where it can."""
    if not isinstance(maker, Product | Depthwise) or maker.requantize is not None:
        return None
    assert step.levels is not None
    x, out = step.x, maker.out
    padding = step.padding
    if not any(padding):
        fits = x.offset == out.offset and _dense(x) and math.prod(x.sizes) == math.prod(out.sizes)
    else:
        fits = x.offset == out.offset and x.sizes == out.sizes and _dense(x)
    return replace(maker, requantize=Requantize(step.data, padding, step.levels)) if fits else None


def _dense(view: View) -> bool:
    """Whether a view is of elements that lie in its order and without gaps."""
    stride = 1
    for size, found in zip(reversed(view.sizes), reversed(view.strides), strict=True):
        if size > 1 and found != stride:
            return False
        stride *= size
    return True


def _without_floats(step: Step, read: set[int], buffers: Sequence[Buffer]) -> Step:
    if not isinstance(step, Product | Depthwise) or step.requantize is None:
        return step
    needed = step.out.buffer in read or buffers[step.out.buffer].place != "arena"
    return step if needed else replace(step, out=replace(step.out, buffer=-1))
