"""A sweep's file, before anything runs: how many points it has, and whether they fit here."""

from pathlib import Path

import pytest

from tritbench.errors import TritbenchError
from tritbench.sweep.plan import MAX_POINTS, Range, read_sweep

ROOT = Path(__file__).parents[1]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Reads a sweep's file of this text against the repository's own params.yaml."""
    monkeypatch.chdir(ROOT)

    def read(text):
        path = tmp_path / "some.yaml"
        path.write_text(text)
        return read_sweep(path)

    return read


@pytest.mark.parametrize(
    ("ends", "values"),
    [
        ((0.2, 0.5, 0.1), [0.2, 0.3, 0.4, 0.5]),
        ((-0.3, 0.3, 0.3), [-0.3, 0.0, 0.3]),
        ((0, 1e-12, 5e-13), [0.0, 5e-13, 1e-12]),
        ((2, 7, 2), [2, 4, 6]),
        ((1, 1, 9), [1]),
    ],
)
def test_a_range_is_exact(ends, values):
    found = Range(**dict(zip(("low", "high", "step"), ends, strict=True))).values("key")
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    "ends",
    [
        "low: -1.0e+308, high: 1.0e+308, step: 1",
        "low: 0, high: 1, step: 5.0e-324",
        "low: 0.1, high: 1, step: 1.0e-9",
        f"low: 0, high: {10**400}, step: 1",
    ],
)
def test_a_range_of_too_many_points_is_refused_before_they_are_made(sweep, ends):
    message = f"grid.quantize.threshold: more values than {MAX_POINTS:,} points at most"
    with pytest.raises(TritbenchError, match=message):
        sweep(f"grid: {{quantize.threshold: {{{ends}}}}}")


def test_so_is_a_grid(sweep):
    side = "{low: 1, high: 5000, step: 1}"
    with pytest.raises(TritbenchError, match="grid of 5000 × 5000 points: expected at most 10,000"):
        sweep(f"grid: {{seed: {side}, qat.epochs: {side}}}")


def test_points_on_this_machine_have_no_more_threads_than_it(sweep):
    with pytest.raises(TritbenchError, match=r"point 1: train\.threads = 100000: expected at most"):
        sweep("grid: {train.threads: [100000]}")
    assert sweep("run: ray\ngrid: {train.threads: [100000]}").points  # on another one
