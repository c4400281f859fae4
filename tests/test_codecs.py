"""Trits to bytes and back: every codec, for any shape and any values."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tritbench.errors import TritbenchError
from tritbench.packing import t81
from tritbench.packing.codecs import CODECS
from tritbench.packing.entropy import entropy

GOLDEN = Path(__file__).parents[2] / "shared/golden/t81lib.npz"

matrices = hnp.arrays(
    np.int8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=130),
    elements=st.integers(-1, 1),
    fill=st.integers(-1, 1),
)


def draw(rows, columns, zeros=0.5, seed=0):
    chances = [(1 - zeros) / 2, zeros, (1 - zeros) / 2]
    random = np.random.default_rng(seed)
    return (random.choice(3, (rows, columns), p=chances) - 1).astype(np.int8)


def unpack(name, packed, columns, rows=1):
    return CODECS[name].unpack(np.array(packed, np.uint8), rows, columns)


@given(matrices)
@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_is_its_own_inverse(codec, trits):
    packed = CODECS[codec].pack(trits)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(CODECS[codec].unpack(packed, *trits.shape), trits)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("columns", [1, 2, 4, 5, 47, 48, 49, 1000])
def test_the_layout_in_memory_does_not_matter(codec, columns):
    trits = np.asfortranarray(draw(7, columns))
    packed = CODECS[codec].pack(trits)
    np.testing.assert_array_equal(packed, CODECS[codec].pack(np.ascontiguousarray(trits)))
    np.testing.assert_array_equal(CODECS[codec].unpack(packed, 7, columns), trits)


def test_base3_is_five_trits_a_byte_low_power_first():
    pack = CODECS["base3"].pack
    assert pack(np.array([[1, 1, 1, 1, 1]], np.int8)).tolist() == [[242]]
    assert pack(np.array([[1, -1, -1, -1, -1]], np.int8)).tolist() == [[2]]
    assert pack(np.array([[1], [-1]], np.int8)).tolist() == [[122], [120]]


def test_2bit_is_twos_complement_first_trit_lowest():
    pack = CODECS["2bit"].pack
    assert pack(np.array([[1, -1, 0, 0]], np.int8)).tolist() == [[0b00001101]]
    assert pack(np.array([[0, 0, 0, -1, 1]], np.int8)).tolist() == [[0b11000000, 1]]


@pytest.mark.parametrize(
    ("codec", "packed", "columns", "message"),
    [
        ("base3", [[243]], 5, "code 243: expected at most 242"),
        ("base3", [[242]], 4, "padding at a row's end is not zero"),
        ("base3", [[1]], 6, r"found uint8 \[1, 1\], expected uint8 \[1, 2\]"),
        ("base3", [121, 121], 5, r"found uint8 \[2\]"),
        ("2bit", [[0b10000000]], 4, "code 2"),
        ("2bit", [[0b01000000]], 3, "padding"),
        ("2bit", [[0, 0]], 4, r"expected uint8 \[1, 1\]"),
        ("t81", [[[13] * 15 + [27]]], 48, "code 27: expected at most 26"),
        ("t81", [[[13] * 15 + [14]]], 45, "padding"),
        ("t81", [[[13] * 15 + [22]]], 47, "padding"),
        ("t81", [[[13] * 15]], 45, r"expected uint8 \[1, 1, 16\]"),
    ],
)
def test_bytes_that_no_packer_makes_are_refused(codec, packed, columns, message):
    with pytest.raises(TritbenchError, match=message):
        unpack(codec, packed, columns)


def words(*values):
    return np.array(values, "<u4").view(np.uint8)


THIRDS = (5592405,) * 2


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (words(7, *THIRDS)[:-1], "expected uint8"),
        (words(7, *THIRDS)[:8], "2 words, expected a header of 3"),
        (words(3, *THIRDS, *THIRDS), "5 words, expected a header of 7"),
        (words(0, *THIRDS), "lag 0: expected 7"),
        (words(8, *THIRDS), "lag 8: expected 7"),
        (words(7, 0, 1), "at least 1"),
        (words(7, 2**23, 2**23), "at least 1"),
        (words(7, *THIRDS, 5, 0), "end in zero"),
        (words(7, *THIRDS, 2**31, 2**31, 2**31, 2**31), "do not end with the last trit"),
    ],
)
def test_a_damaged_entropy_stream_is_refused(packed, message):
    with pytest.raises(TritbenchError, match=message):
        CODECS["entropy"].unpack(packed, 3, 7)


def test_few_bytes_never_become_unbounded_memory():
    nothing_but_zeros = words(30_000, 1, 1)
    with pytest.raises(TritbenchError, match="900000000 trits in 12 bytes, expected at most"):
        CODECS["entropy"].unpack(nothing_but_zeros, 30_000, 30_000)
    assert CODECS["entropy"].unpack(words(3000, 1, 1), 3000, 3000).size == 9_000_000


@pytest.mark.parametrize("zeros", [0.0, 0.1, 0.5, 0.7, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(10, 784), (256, 200), (3, 20_001), (60_000, 1)])
def test_entropy_is_reached(zeros, shape):
    trits = draw(*shape, zeros)
    least = entropy(trits) * trits.size / 8
    taken = CODECS["entropy"].pack(trits).nbytes
    assert taken <= least + 64
    if trits.size > 50_000 and 0 < zeros < 0.99:
        assert taken <= 1.02 * least


def test_neighbours_in_an_image_are_worth_bits():
    noise = np.random.default_rng(0).normal(size=(512, 28, 28))
    smooth = noise.cumsum(1)
    smooth -= smooth.mean(1, keepdims=True)
    trits = (np.sign(smooth) * (abs(smooth) > 1)).astype(np.int8).reshape(512, 784)
    packed = CODECS["entropy"].pack(trits)
    assert packed[:4].view("<u4").tolist() == [28]
    assert 8 * packed.size / trits.size < 0.9 * entropy(trits)
    np.testing.assert_array_equal(CODECS["entropy"].unpack(packed, 512, 784), trits)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden/t81lib.npz")
def test_limbs_equal_t81libs():
    golden = np.load(GOLDEN)
    compared = 0
    for j, threshold in enumerate(golden["thresholds"]):
        for key in [k for k in golden.files if k.startswith("w") and "_" not in k]:
            limbs, trits = golden[f"{key}_t{j}_limbs"], golden[f"{key}_t{j}_trits"]
            found = t81.pack_dense_matrix(golden[key], float(threshold))
            np.testing.assert_array_equal(found, limbs)
            unpacked = t81.unpack_dense_matrix(limbs, trits.shape[1])
            np.testing.assert_array_equal(unpacked, trits)
            compared += 1
    assert compared >= 40


def test_limbs_take_a_matrix_and_a_threshold():
    with pytest.raises(ValueError, match="expected a matrix"):
        t81.pack_dense_matrix(np.zeros(3), 0.5)
    with pytest.raises(ValueError, match="threshold"):
        t81.pack_dense_matrix(np.zeros((1, 3)), 0.0)


@pytest.mark.parametrize("codec", ["base3", "2bit", "entropy"])
def test_codecs_are_fast(codec):
    """100 million weights in 2 s, by entropy 50 MB of float32 a second; best of five."""
    trits = draw(2_500, 2_000)
    seconds = 2.0 * trits.size / 1e8 if codec != "entropy" else 4 * trits.size / 50e6
    packing, unpacking = [], []
    for _ in range(5):
        times = [time.perf_counter()]
        packed = CODECS[codec].pack(trits)
        times.append(time.perf_counter())
        CODECS[codec].unpack(packed, *trits.shape)
        times.append(time.perf_counter())
        packing.append(times[1] - times[0])
        unpacking.append(times[2] - times[1])
    assert min(packing) < seconds
    assert min(unpacking) < seconds
