"""Runs a layer on the engine of an installed wheel: `python -I tests/native/try_wheel.py`."""

import numpy as np

from tritbench import runtime


def main() -> None:
    """Exit with an error without the engine, or where two instruction sets give other bits."""
    if not runtime.NATIVE:
        raise SystemExit("the wheel has no engine")
    random = np.random.default_rng(0)
    trits = random.integers(-1, 2, (70, 300), np.int8)
    scale = random.random((70, 1)).astype(np.float32)
    x = random.normal(0, 1, (5, 300)).astype(np.float32)
    expected = None
    for isa in runtime.available_isas():
        found = runtime.pack_linear(trits, scale, isa=isa)(x)
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected)
    close = x @ (trits * scale).T
    assert np.abs(found - close).max() < 0.05 * np.abs(close).max()
    print(f"{runtime.engine_build()}: {', '.join(runtime.available_isas())}")


if __name__ == "__main__":
    main()
