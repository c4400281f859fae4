"""A network as a Program: one flat buffer, which `native/` reads in place.

It is made of 64-bit words, little-endian: a head (HEAD words), three for each buffer (its place,
offset and bytes), the steps (kind, images, number of words, words), and behind them the constants,
each aligned to 64 bytes. What a step's words are is the order of its fields in `steps.py`.
"""

import dataclasses
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.packing import Network
from tritbench.runtime.builder import Buffer, UnknownError, When
from tritbench.runtime.lowering import lower
from tritbench.runtime.parts import FUNCTIONS, REDUCTIONS, Post, View
from tritbench.runtime.planning import place_buffers, prune
from tritbench.runtime.requantizing import requantized
from tritbench.runtime.steps import Step

MAGIC = int.from_bytes(b"tritprog", "little")
VERSION = 2
HEAD = 32  # words
ALIGNMENT = 64  # bytes
SLACK = 256  # bytes behind the last constant, which kernels may read
PLACES = ("arena", "input", "output", "constant")
WHEN = ("always", "pixels", "floats")
MOST_RANK = 8


@dataclass(frozen=True)
class Lowered:
    """What a Program says, as plain data; the NumPy reference runs it.

    Attributes:
        steps: in order, with the kind of images that each is for.
        buffers: by number; the first is the input.
        offsets: of the buffers in the arena, bytes an image.
        arena: bytes an image.
        dtypes: that may come in.
        shape: of the input, with the batch as in a graph.
        result: of the output, the same.
        products: multiplications for one image.
    """

    steps: Sequence[tuple[Step, When]]
    buffers: list[Buffer]
    offsets: dict[int, int]
    arena: int
    dtypes: tuple[str, ...]
    shape: tuple[int, ...]
    result: tuple[int, ...]
    products: int


def lowered(network: Network, mode: str = "int8") -> Lowered:
    """The steps of a network and where their buffers lie, in one of `MODES`.

    Raises:
        UnknownError: where the engine cannot run it, naming the node.
        TritbenchError: in static mode, where the file holds no ranges of activations.
    """
    graph = network.packed.graph
    ((_, described),) = graph.inputs.items() if len(graph.inputs) == 1 else ((None, None),)
    (result,) = (node.shape for node in graph.nodes if node.name == graph.output)
    if described is None or not described.shape[0] < 0 > result[0]:
        raise UnknownError("the engine takes one input, and batches that come first")
    builder = lower(network, mode)
    steps = requantized(prune(builder.steps, builder.buffers), builder.buffers)
    offsets, arena = place_buffers(steps, builder.buffers)
    dtypes: tuple[str, ...] = ("int64",)
    if described.dtype == "float32":
        dtypes = ("float32",) if network.normalization is None else ("uint8", "float32")
    return Lowered(
        steps, builder.buffers, offsets, arena, dtypes, described.shape, result, graph.products()
    )


def encode(program: Lowered, kinds: Sequence[str]) -> NDArray[np.uint8]:
    """The flat buffer, aligned to 64 bytes.

    Args:
        program: what to write.
        kinds: names of steps in the order of their numbers.
    """
    words = [word for step, when in program.steps for word in _step(step, when, kinds, program)]
    buffers, constants, at = [], [], 0
    start = -(-8 * (HEAD + 3 * len(program.buffers) + len(words)) // ALIGNMENT) * ALIGNMENT
    for number, buffer in enumerate(program.buffers):
        offset = program.offsets.get(number, 0)
        if buffer.array is not None:
            offset = start + at
            constants.append((offset, buffer.array))
            at += -(-buffer.array.nbytes // ALIGNMENT) * ALIGNMENT
        if buffer.place == "arena" and number not in program.offsets:
            buffers += [PLACES.index("constant"), 0, 0]  # no step uses it
            continue
        buffers += [PLACES.index(buffer.place), offset, buffer.count * buffer.size]
    size = start + at + SLACK
    head = [MAGIC, VERSION, size, len(program.buffers), len(program.steps), len(words)]
    head += [program.arena, program.products]
    head.append(sum(1 << ("uint8", "float32", "int64").index(d) for d in program.dtypes))
    for shape in (program.shape, program.result):
        head += [len(shape), *shape, *(0,) * (MOST_RANK - len(shape))]
    head += [0] * (HEAD - len(head))
    room = np.zeros(size + ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % ALIGNMENT
    data = room[skip : skip + size]
    table = np.array(head + buffers + words, np.int64)
    data[: table.nbytes] = table.view(np.uint8)
    for offset, array in constants:
        data[offset : offset + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    return data


def _step(step: Step, when: str, kinds: Sequence[str], program: Lowered) -> list[int]:
    words = list(_words(step, program))
    return [kinds.index(type(step).__name__), WHEN.index(when), len(words), *words]


def _words(value: Any, program: Lowered) -> Iterator[int]:
    match value:
        case None:
            yield -1
        case bool() | int():
            yield int(value)
        case float():
            yield _bits(value)
        case str():
            yield (FUNCTIONS if value in FUNCTIONS else REDUCTIONS).index(value)
        case np.ndarray():
            yield _constant(value, program)
            yield value.size
        case View():
            yield from (value.buffer, value.offset, len(value.sizes), *value.sizes, *value.strides)
        case tuple():
            if any(isinstance(item, Post) for item in value) or not value:
                yield len(value)
            for item in value:
                yield from _words(item, program)
        case _:
            for field in dataclasses.fields(value):
                yield from _words(getattr(value, field.name), program)


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _constant(array: NDArray[Any], program: Lowered) -> int:
    """The buffer of an array, made where there is none yet."""
    for number, buffer in enumerate(program.buffers):
        if buffer.array is array:
            return number
    plain = np.ascontiguousarray(array)
    program.buffers.append(Buffer(plain.size, plain.itemsize, "constant", plain))
    return len(program.buffers) - 1
