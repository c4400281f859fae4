"""A Program is checked in full before it runs: nothing beyond it is read, whatever it says."""

from dataclasses import replace

import numpy as np
import pytest
from calibrated_networks import calibrated
from random_graphs import KINDS, NORMALIZATION, packed, random_graph

from tritbench import runtime
from tritbench.runtime.builder import Buffer
from tritbench.runtime.parts import Levels
from tritbench.runtime.program import HEAD, encode, lowered
from tritbench.runtime.steps import Depthwise, Product

pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")


def made(seed, mode):
    normalization = NORMALIZATION if seed % 2 else None
    random = np.random.default_rng(seed)
    net = packed(random_graph(seed, 24), random, KINDS, normalization)
    if mode == "static":
        net = calibrated(net, random.normal(0.5, 0.5, (3, 3, 8, 7)).astype(np.float32))
    return lowered(net, mode)


def program(seed, mode="int8"):
    from tritbench.runtime import _engine

    found = made(seed, mode)
    return encode(found, _engine.step_kinds()), len(found.steps)


def aligned(data):
    room = np.zeros(len(data) + 64, np.uint8)
    start = -room.ctypes.data % 64
    room[start : start + len(data)] = data
    return room[start : start + len(data)]


def load(data, isa="auto"):
    from tritbench.runtime import _engine
    from tritbench.runtime.engine import choose_isa

    return _engine.Network(data, choose_isa(isa), 1)


def test_a_program_that_is_none_is_refused():
    data, _ = program(0)
    words = data.view(np.int64)
    for index, value, message in (
        (0, 7, "not a Program"),
        (1, 9, "version 9, expected 2"),
        (2, 100, "cut off"),
        (3, 0, "buffers is 0"),
        (4, 1 << 30, "steps is"),
        (HEAD, 9, "buffer 0 is nowhere"),
        (HEAD + 4, 1 << 30, "buffer 1"),
    ):
        changed = aligned(data)
        changed.view(np.int64)[index] = value
        with pytest.raises(ValueError, match=message):
            load(changed)
    assert words[0] != 7
    for size in (0, 8, HEAD * 8, len(data) - 64):
        with pytest.raises(ValueError, match="a Program"):
            load(aligned(data[:size]))
    with pytest.raises(ValueError, match="not aligned"):
        load(np.concatenate([np.zeros(1, np.uint8), aligned(data)])[1:])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("mode", ["int8", "static"])
def test_a_hostile_program_is_an_error_or_harmless(seed, mode):
    data, _ = program(seed, mode)
    random = np.random.default_rng(seed)
    words = int(HEAD + 3 * data.view(np.int64)[3] + data.view(np.int64)[5])
    images = random.normal(0, 1, (1, 3, 8, 7)).astype(np.float32)
    refused = 0
    for _ in range(250):
        changed = aligned(data)
        table = changed.view(np.int64)
        for at in random.integers(2, words, random.integers(1, 3)):
            old = int(table[at])
            near = [old + 1, old - 1, 2 * old, old + 64]
            far = [0, -1, 1, 7, 1 << 31, 1 << 62, -(1 << 63)]
            new = (near + far)[random.integers(len(near) + len(far))]
            table[at] = (new + 2**63) % 2**64 - 2**63
        try:
            model = load(changed)
        except ValueError:
            refused += 1
            continue
        try:
            model(images)
        except (ValueError, TypeError, MemoryError):
            refused += 1
    assert refused > 50


def test_constants_that_are_indices_are_checked_as_well():
    """Offsets, tables and classes lie among the constants: wrong ones are refused, or within."""
    data, _ = program(3)
    random = np.random.default_rng(0)
    table = data.view(np.int64)
    start = -(-8 * int(HEAD + 3 * table[3] + table[5]) // 64) * 64
    images = random.normal(0, 1, (1, 3, 8, 7)).astype(np.float32)
    for _ in range(300):
        changed = aligned(data)
        at = start + 4 * random.integers(0, (len(data) - start) // 4, 8)
        for place in at:
            changed[place : place + 4] = random.integers(0, 256, 4)
        try:
            load(changed)(images)
        except ValueError:
            continue


def static_programs():
    """Static Programs with a result in 8 bits, and how often each step of it has one."""
    for seed in range(12):
        found = made(seed, "static")
        if any(getattr(step, "requantize", None) for step, _ in found.steps):
            yield found


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_and_levels_that_cannot_be_are_refused(scale):
    from tritbench.runtime import _engine

    kinds = _engine.step_kinds()
    seen = set()
    for found in static_programs():
        for index, (step, when) in enumerate(found.steps):
            for wrong in wrong_levels(step, scale, found):
                seen.add(type(step).__name__)
                steps = list(found.steps)
                steps[index] = wrong, when
                changed = replace(found, steps=steps, buffers=list(found.buffers))
                with pytest.raises(ValueError, match=r"a scale|a zero point|data|padding"):
                    load(encode(changed, kinds))
    assert seen == {"Quantize", "Product", "Depthwise"}


def wrong_levels(step, scale, found):
    """The step with levels, scales or places that must not be."""
    levels = getattr(step, "levels", None)
    requantize = getattr(step, "requantize", None)
    if levels is not None:
        yield replace(step, levels=replace(levels, inverse=scale))
        yield replace(step, levels=replace(levels, zero=256))
    if requantize is not None:
        for wrong in (replace(requantize.levels, inverse=scale), Levels(300, 1.0)):
            yield replace(step, requantize=replace(requantize, levels=wrong))
        for change in ({"data": 1 << 30}, {"padding": (-1, 0, 0, 0)}):
            yield replace(step, requantize=replace(requantize, **change))
    constant = getattr(step, "scale", None)
    if isinstance(step, Product | Depthwise) and constant is not None:
        array = found.buffers[constant].array
        if array is not None:
            found.buffers.append(
                Buffer(array.size, 4, "constant", np.full(array.size, scale, np.float32))
            )
            yield replace(step, scale=len(found.buffers) - 1)
            found.buffers.append(
                Buffer(array.size, 4, "constant", np.full(array.size, -1, np.int32))
            )
            yield replace(step, zero=len(found.buffers) - 1)
