"""The entropy codec: asymmetric numeral systems (arXiv 1311.2540) with a trit as its own context.

Weights that look at neighbouring pixels are alike. A trit is therefore coded with the frequencies
that belong to the trit `lag` columns before it in its row, where the encoder found one that helps;
28, a row of pixels, in a first layer for images of that width. Each column block of that length
has its contexts in the block before it, so a block is three calls of the coder.

The coder is constriction's AnsCoder: 64-bit state, 32-bit words, frequencies out of 2^24.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.optional import require
from tritbench.packing.digits import Bytes, Trits

FREE_TRITS = 2**24  # what any stream may decode to; beyond it, so many more for each stored byte:
TRITS_PER_BYTE = 100
_TOTAL = 2**24
_CONTEXTS = (0, -1, 1)  # in the header; with the lag of a whole row, the first alone occurs
_SAMPLE = 2**17  # trits that the search for a lag looks at
_LAGS = 128
_GAIN = 0.01  # bits a trit that a lag must save

Counts = NDArray[np.int64]


def pack_entropy(trits: Trits) -> Bytes:
    """Code trits [rows, columns] in about as many bits as their entropy.

    Returns:
        uint8 [4 × words]: the header's, which are the lag and the frequencies of -1 and +1 in each
        context, then the coder's, all little-endian.

    Raises:
        TritbenchError: for more trits than `unpack_entropy` takes from so few bytes.
    """
    rows, columns = trits.shape
    lag = _find_lag(trits)
    frequencies = _frequencies(_count(trits, lag))
    models = [_model(row) for row in frequencies]
    coder = require("constriction").stream.stack.AnsCoder()
    # Last in, first out: the decoder goes forward through what is pushed backward here.
    for start in reversed(range(0, columns, lag)):
        block, context = trits[:, start : start + lag], _context(trits, start, lag)
        for value in (1, 0, -1):
            symbols = block[context == value].astype(np.int32) + 1
            coder.encode_reverse(symbols, models[value + 1])
    used = [frequencies[context + 1] for context in _contexts(lag, columns)]
    header = np.array([lag, *(int(row[side]) for row in used for side in (0, 2))])
    packed = np.concatenate([header, coder.get_compressed()]).astype("<u4").view(np.uint8)
    check_expansion(rows * columns, len(packed))
    return packed


def unpack_entropy(packed: Bytes, rows: int, columns: int) -> Trits:
    """The int8 trits [rows, columns] of what `pack_entropy` made.

    Raises:
        TritbenchError: for anything that is not a whole stream of exactly so many trits.
    """
    if packed.dtype != np.uint8 or packed.ndim != 1 or len(packed) % 4 or not len(packed):
        found = f"{packed.dtype} {list(packed.shape)}"
        raise TritbenchError(f"found {found}, expected uint8 [4 × words]")
    check_expansion(rows * columns, len(packed))
    words = np.ascontiguousarray(packed).view("<u4").astype(np.uint32)
    lag = int(words[0])
    if not _affordable(rows, columns, lag):
        raise TritbenchError(f"lag {lag}: expected {columns}, or less in few enough blocks")
    contexts = _contexts(lag, columns)
    header = 1 + 2 * len(contexts)
    if len(words) < header:
        raise TritbenchError(f"{len(words)} words, expected a header of {header}")
    models = dict(zip(contexts, map(_model, _read_frequencies(words[1:header])), strict=True))
    try:
        coder = require("constriction").stream.stack.AnsCoder(words[header:])
    except ValueError:
        raise TritbenchError("the coded words end in zero") from None
    trits = np.empty((rows, columns), np.int8)
    for start in range(0, columns, lag):
        block, context = trits[:, start : start + lag], _context(trits, start, lag)
        for value in (-1, 0, 1):
            chosen = context == value
            count = int(np.count_nonzero(chosen))
            if count:
                block[chosen] = coder.decode(models[value], count) - 1
    if not coder.is_empty():
        raise TritbenchError("the coded words do not end with the last trit")
    return trits


def check_expansion(trits: int, stored: int) -> None:
    """Refuse more trits than so many stored bytes may decode to: zeros cost next to nothing.

    Raises:
        TritbenchError: naming both numbers.
    """
    limit = FREE_TRITS + TRITS_PER_BYTE * stored
    if trits > limit:
        raise TritbenchError(f"{trits} trits in {stored} bytes, expected at most {limit}")


def entropy(values: NDArray[Any]) -> float:
    """Bits a trit, or any other value, of the empirical distribution, each taken alone.

    >>> entropy(np.array([[-1, 0, 0, 1]], np.int8))
    1.5
    """
    return _bits(np.unique(values, return_counts=True)[1][None]) / max(values.size, 1)


def _contexts(lag: int, columns: int) -> tuple[int, ...]:
    return _CONTEXTS if lag < columns else _CONTEXTS[:1]


def _context(trits: Trits, start: int, lag: int) -> Trits:
    """The trits that the block of columns from `start` on is coded with; 0 before a row."""
    block = trits[:, start : start + lag]
    return trits[:, start - lag : start][:, : block.shape[1]] if start else np.zeros_like(block)


def _affordable(rows: int, columns: int, lag: int) -> bool:
    """Whether the blocks are few or large enough for their calls to take no time."""
    return 0 < lag <= columns and (lag * 64 >= columns or rows * lag >= 1024)


def _find_lag(trits: Trits) -> int:
    """The lag with the strongest correlation in a sample, if it saves bits; else all columns."""
    rows, columns = trits.shape
    alone = max(int(columns), 1)
    sample = trits[: max(1, _SAMPLE // alone), :_SAMPLE]
    # float32 sums of so few trits are exact; a lag may pair the end of a row with the next one's
    # start, which is too rare to matter here.
    signs = sample.astype(np.float32).ravel()
    present = np.abs(signs)
    mean = float(present.mean())
    spread = mean * (1 - mean)
    if spread == 0:
        return alone
    best, strongest = alone, 0.0
    for lag in range(1, min(_LAGS, columns - 1) + 1):
        if _affordable(rows, columns, lag):
            of_signs = float(signs[lag:] @ signs[:-lag]) / signs.size / mean
            of_zeros = (float(present[lag:] @ present[:-lag]) / signs.size - mean**2) / spread
            if of_signs**2 + of_zeros**2 > strongest:
                best, strongest = lag, of_signs**2 + of_zeros**2
    saved = _bits(_count(sample, alone)) - _bits(_count(sample, best))
    return best if saved > _GAIN * sample.size else alone


def _count(trits: Trits, lag: int) -> Counts:
    """How often each value [3] stands in each context [3]."""
    pairs = np.int8(3) * trits[:, :-lag] + trits[:, lag:]
    counts: Counts = np.bincount((pairs + np.int8(4)).ravel(), minlength=9).reshape(3, 3)
    counts[1] += np.bincount((trits[:, :lag] + np.int8(1)).ravel(), minlength=3)
    return counts


def _bits(counts: Counts) -> float:
    """What trits with these counts take, at the entropy of each row."""
    present = np.maximum(counts, 1)
    return float((counts * (np.log2(present.sum(1, keepdims=True)) - np.log2(present))).sum())


def _frequencies(counts: Counts) -> NDArray[np.int64]:
    """Shares of 2^24 for each row of counts, none of them 0."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    frequencies: NDArray[np.int64] = 1 + (shares * (_TOTAL - 3)).astype(np.int64)
    rows = np.arange(len(counts))
    frequencies[rows, frequencies.argmax(1)] += _TOTAL - frequencies.sum(1)
    return frequencies


def _read_frequencies(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    sides = words.astype(np.int64).reshape(-1, 2)
    middle = _TOTAL - sides.sum(1)
    if sides.min() < 1 or middle.min() < 1:
        raise TritbenchError(f"frequencies {sides.tolist()}: expected at least 1 of {_TOTAL} each")
    return np.stack([sides[:, 0], middle, sides[:, 1]], 1)


def _model(frequencies: NDArray[np.int64]) -> Any:
    """Constriction's model with exactly these frequencies.

    It gives every symbol 1 and shares the rest by probability: exactly, when the probabilities
    are whole numbers that sum to the rest. The tests compare it with the format's own definition.
    """
    rest = (frequencies - 1).astype(np.float64)
    return require("constriction").stream.model.Categorical(rest, perfect=False)
