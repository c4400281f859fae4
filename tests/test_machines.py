"""Timings of several machines beside each other."""

import json
import shutil
from pathlib import Path

import pytest

from tritbench.commands import machines
from tritbench.errors import TritbenchError
from tritbench.report.machines import Timing, keep, table
from tritbench.report.rows import read_rows

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmarks(tmp_path):
    """The committed run, as if nothing was kept yet."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("quantization_runs.csv", "peers.csv", "latency.json"):
        shutil.copy(ROOT / "benchmarks" / name, folder)
    return folder


def on_another(benchmarks, **changes):
    """The same run, of another machine."""
    path = benchmarks / "latency.json"
    content = json.loads(path.read_text())
    content["machine"] |= changes
    path.write_text(json.dumps(content))


def test_a_machine_keeps_its_rows_and_leaves_those_of_others(benchmarks, monkeypatch, capsys):
    monkeypatch.chdir(benchmarks.parent)
    machines.run()
    count = len(read_rows(benchmarks / "machines.csv", Timing))
    assert capsys.readouterr().out == (
        f"machines: benchmarks/machines.csv: {count} rows of this run, 0 of others\n"
    )
    assert keep(benchmarks) == (count, 0)
    on_another(benchmarks, isa="neon", cpu="Another")
    assert keep(benchmarks) == (count, count)
    assert keep(benchmarks) == (count, count)
    rows = read_rows(benchmarks / "machines.csv", Timing)
    assert {row.isa for row in rows} > {"neon"}


def test_the_table_shows_what_the_run_says(benchmarks):
    keep(benchmarks)
    rows = read_rows(benchmarks / "machines.csv", Timing)
    lines = table(benchmarks / "machines.csv").splitlines()
    assert len(lines) == len(rows) + 4
    first = rows[0]
    # It is the ratio of two latencies of four digits each: off by up to one part in a thousand.
    assert first.fastest_speedup <= first.speedup * 1.001
    assert f"{1e6 * first.latency_s:.3g}" in lines[2]
    assert first.cpu in lines[-1]
    with (benchmarks / "quantization_runs.csv").open() as file:
        text = file.read()
    assert all(f",{row.latency_s:.4g}," in text for row in rows)


def test_a_wrong_file_is_named(benchmarks):
    path = benchmarks / "machines.csv"
    path.write_text("cpu,isa\nx,y\n")
    with pytest.raises(TritbenchError, match=r"machines\.csv"):
        keep(benchmarks)
    assert path.read_text() == "cpu,isa\nx,y\n"
