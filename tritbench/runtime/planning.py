"""Which steps are needed, and where in one arena the buffers between them lie."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from tritbench.runtime.builder import Buffer, When
from tritbench.runtime.parts import Post, Requantize, View
from tritbench.runtime.steps import Check, Elementwise, Quantize, Step

ALIGNMENT = 64
KINDS = ("pixels", "floats")
_INPUTS = ("x", "y", "data", "scale", "zero", "query", "key", "value", "mask", "indices", "ranges")


def accesses(step: Step) -> tuple[set[int], set[int]]:
    """The buffers that a step reads and those that it writes."""
    quantizes = isinstance(step, Quantize)
    writes = ("out", "data", "scale", "zero") if quantizes else ("out", "ranges")
    reads, written = set(), set()
    for field in dataclasses.fields(step):
        value: Any = getattr(step, field.name)
        if isinstance(value, Requantize):
            written.add(value.data)
        if field.name == "posts":
            operands = (post.operand for post in value if isinstance(post, Post))
            reads |= {view.buffer for view in operands if view is not None}
        number = value.buffer if isinstance(value, View) else value
        if type(number) is not int or number < 0:
            continue
        if field.name in writes:
            written.add(number)
        elif field.name in _INPUTS and not (field.name == "scale" and isinstance(value, float)):
            reads.add(number)
    return reads, written


def prune(steps: Sequence[tuple[Step, When]], buffers: Sequence[Buffer]) -> list[tuple[Step, When]]:
    """Steps whose results are needed, each only for the kinds of images that need them."""
    needed = {n: set(KINDS) for n, buffer in enumerate(buffers) if buffer.place == "output"}
    kept: list[tuple[Step, When]] = []
    for step, when in reversed(steps):
        reads, writes = accesses(step)
        own = set(KINDS) if when == "always" else {when}
        if writes:
            own &= set().union(*(needed.get(number, set()) for number in writes))
        if not own:
            continue
        for number in reads:
            needed.setdefault(number, set()).update(own)
        kept.append((step, "always" if len(own) == 2 else next(iter(own))))  # type: ignore[arg-type]
    whole = any(
        isinstance(step, Quantize)
        and step.x.buffer == 0
        and math.prod(step.x.sizes) == buffers[0].count
        for step, _ in kept
    )
    # What quantizes all of the input looks at all of it.
    return [(step, when) for step, when in kept[::-1] if not (whole and isinstance(step, Check))]


def place_buffers(
    steps: Sequence[tuple[Step, When]], buffers: Sequence[Buffer]
) -> tuple[dict[int, int], int]:
    """Offsets in the arena, so that what is alive at the same time lies apart; and its size.

    Returns:
        bytes by buffer; bytes for one image.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, (step, _) in enumerate(steps):
        reads, writes = accesses(step)
        for number in reads | writes:
            first.setdefault(number, index)
            last[number] = index
    inside = [n for n in first if buffers[n].place == "arena"]
    root = _in_place(steps, buffers, last)
    groups: dict[int, list[int]] = {}
    for number in inside:
        groups.setdefault(root.get(number, number), []).append(number)
    lives = [
        (
            max(_bytes(buffers[n]) for n in members),
            min(first[n] for n in members),
            max(last[n] for n in members),
            members,
        )
        for members in groups.values()
    ]
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[int, int] = {}
    for size, start, end, members in sorted(lives, key=lambda life: (-life[0], life[1])):
        offset = 0
        for low, high, begin, finish in sorted(placed):
            if begin <= end and start <= finish:
                if offset + size <= low:
                    break
                offset = max(offset, high)
        placed.append((offset, offset + size, start, end))
        offsets |= dict.fromkeys(members, offset)
    return offsets, max((high for _, high, _, _ in placed), default=0)


def _bytes(buffer: Buffer) -> int:
    return -(-buffer.count * buffer.size // ALIGNMENT) * ALIGNMENT


def _in_place(
    steps: Sequence[tuple[Step, When]], buffers: Sequence[Buffer], last: dict[int, int]
) -> dict[int, int]:
    """Elementwise results that take the place of what they are made of, as its first buffer."""
    root: dict[int, int] = {}
    for index, (step, _) in enumerate(steps):
        if not isinstance(step, Elementwise):
            continue
        x, out = step.x, step.out
        same = (x.offset, x.strides) == (out.offset, out.strides)
        operands = {p.operand.buffer for p in step.posts if p.operand is not None}
        alive = last[x.buffer] > index or x.buffer in operands
        inside = buffers[x.buffer].place == buffers[out.buffer].place == "arena"
        if same and not alive and inside and buffers[x.buffer].count == buffers[out.buffer].count:
            root[out.buffer] = root.get(x.buffer, x.buffer)
    return root
