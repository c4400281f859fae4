"""Single calls, with warm and with cold caches, each network in fresh processes."""

import numpy as np
import pytest
import torch
from networks import images, network, quantized, spec
from report_files import write_csv, write_inputs

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.graph import capture
from tritbench.measure.peers import FloatNetwork
from tritbench.measure.rows import table_csv
from tritbench.measure.single import COLUMNS, single_calls
from tritbench.measure.statistics import median_interval
from tritbench.packing import save_trit
from tritbench.params import EvaluateParams
from tritbench.report.result_sections import results_section
from tritbench.report.runs import read_results

SETTINGS = EvaluateParams(
    modes=["ptq"],
    latency=True,
    batch_sizes=[1],
    threads=1,
    min_run_time=1e-9,
    min_runs=1,
    processes=2,
    peers=[],
)
ABOUT = {"dataset": "toys", "run_id": "r1", "machine": "m1"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "ptq.trit"
    save_trit(path, quantized("mlp"), spec(), ["0", "1", "2"], {})
    model = network("mlp")
    deployed = FloatNetwork(model, capture(model, torch.zeros(2, *spec().shape)), spec()).graph
    modes = {"fp32": path.with_name("absent"), "ptq": path}
    return single_calls({"mlp": modes}, {"mlp": deployed}, images(1).numpy(), SETTINGS, ABOUT)


def test_each_network_has_a_row_with_intervals_over_the_processes(rows):
    assert [(row["mode"], row["processes"], row["batch_size"]) for row in rows] == [
        ("fp32", 2, 1),
        ("ptq", 2, 1),
    ]
    for row in rows:
        assert tuple(row) == COLUMNS
        for column in ("latency_cold", "latency_p50"):
            assert 0 < row[f"{column}_low"] <= row[f"{column}_s"] <= row[f"{column}_high"]
    fp32, ptq = rows
    assert fp32["cold_speedup"] == fp32["p50_speedup"] == 1
    assert ptq["cold_speedup"] == pytest.approx(fp32["latency_cold_s"] / ptq["latency_cold_s"])


def test_the_page_shows_those_of_its_run(rows, tmp_path):
    write_inputs(tmp_path, ("mlp",))
    write_atomic(tmp_path / "single_calls.csv", table_csv(rows, COLUMNS))
    tables = results_section(read_results(tmp_path, ["mlp"])).blocks
    (table,) = [table for table in tables if table.caption.startswith("Single calls")]
    assert "batch 1, 2 fresh processes" in table.caption
    assert [row[:2] for row in table.rows] == [["mlp", "FP32"], ["mlp", "PTQ"]]
    write_csv(tmp_path / "single_calls.csv", [row | {"run_id": "r0"} for row in rows])
    assert not read_results(tmp_path, ["mlp"]).single_calls
    write_atomic(tmp_path / "single_calls.csv", table_csv([], COLUMNS))
    assert not read_results(tmp_path, ["mlp"]).single_calls
    write_csv(tmp_path / "single_calls.csv", [row | {"cold_speedup": "much"} for row in rows])
    with pytest.raises(TritbenchError, match=r"single_calls\.csv, line 2: cold_speedup = 'much'"):
        read_results(tmp_path, ["mlp"])


def test_a_process_that_fails_is_an_error(tmp_path):
    (tmp_path / "broken.trit").write_bytes(b"no model")
    model = network("linear")
    graph = capture(model, torch.zeros(2, *spec().shape))
    modes = {"fp32": tmp_path / "absent", "ptq": tmp_path / "broken.trit"}
    with pytest.raises(TritbenchError, match=r"single calls failed: .*broken\.trit"):
        single_calls({"m": modes}, {"m": graph}, images(1).numpy(), SETTINGS, ABOUT)


def test_the_interval_of_a_median_is_a_bootstraps():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 30])
    low, high = median_interval(values)
    assert 1 < low < 5.5 < high < 30
    assert median_interval(values) == (low, high)
    assert median_interval(values[:1]) is None
