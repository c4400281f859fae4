"""A Program is checked in full before it runs: nothing beyond it is read, whatever it says."""

import numpy as np
import pytest
from random_graphs import KINDS, NORMALIZATION, packed, random_graph

from tritbench import runtime
from tritbench.runtime.program import HEAD, encode, lowered

pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")


def program(seed):
    from tritbench.runtime import _engine

    normalization = NORMALIZATION if seed % 2 else None
    net = packed(random_graph(seed, 24), np.random.default_rng(seed), KINDS, normalization)
    found = lowered(net)
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
        (1, 9, "version 9, expected 1"),
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
def test_a_hostile_program_is_an_error_or_harmless(seed):
    data, _ = program(seed)
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
