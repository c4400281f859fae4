import csv
import dataclasses
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from tritbench import processor
from tritbench.errors import TritbenchError
from tritbench.measure import machine
from tritbench.measure.accuracy import (
    agreement,
    calibration_error,
    confusion,
    flips,
    predict,
    score,
    score_classes,
)
from tritbench.measure.latency import _summary, interleaved, timer_overhead
from tritbench.measure.machine import LIMITS, fingerprint
from tritbench.measure.rows import (
    COLUMNS,
    append_rows,
    brief_metrics,
    git_revision,
    metrics_json,
    rows_csv,
    table_csv,
)
from tritbench.measure.statistics import mcnemar, ratio_interval, two_proportions
from tritbench.measure.storage import Storage, float_storage, ternary_storage
from tritbench.packing.version1 import PackedLayer, chain_network
from tritbench.shapes import InputSpec


def row(**changes):
    floats = ("accuracy", "latency", "test_", "speedup", "compression", "zeros")
    floats += ("agreement", "reference", "engine", "ece", "mcnemar", "entropy", "joules")
    values = {key: 0.123456789 if key.startswith(floats) else 7 for key in COLUMNS}
    names = {"model": "mlp", "mode": "ptq", "batch_size": 1, "dataset": "toys", "machine": "m1"}
    return values | names | changes


def test_a_score_has_its_wilson_interval_and_cross_entropy():
    logits = torch.tensor([[2.0, 0.0]] * 10)
    found = score(logits, torch.tensor([0] * 8 + [1] * 2))
    assert (found.correct, found.total, found.accuracy) == (8, 10, 0.8)
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)
    small = torch.tensor(1 + torch.e**-2).log().item()
    assert found.loss == pytest.approx(0.8 * small + 0.2 * (2 + small), abs=1e-6)


def test_agreement_and_confusion_count_classes():
    first, second = torch.eye(3), torch.eye(3)[[0, 2, 2]]
    assert agreement(first, second) == pytest.approx(2 / 3)
    counts = confusion(torch.tensor([0, 2, 2]), torch.tensor([0, 1, 2]), 3)
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_logits_that_are_not_finite_name_the_model():
    def broken(images):
        return torch.full((len(images), 2), float("nan"))

    with pytest.raises(TritbenchError, match="mine: NaN or infinite logits for 3 of 3"):
        predict(broken, torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "mine")


def test_flips_are_judged_by_mcnemars_exact_test():
    before = np.array([True] * 14 + [False] * 6)
    after = np.array([False] * 9 + [True] * 5 + [True] * 1 + [False] * 5)
    found = mcnemar(before, after)
    assert (found.lost, found.won) == (9, 1)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)  # 0 or 1 of 10, on either side
    assert mcnemar(before, before).p == 1.0
    labels = torch.zeros(20, dtype=torch.int64)
    logits = {name: one_hot(right) for name, right in (("before", before), ("after", after))}
    assert flips(logits["after"], logits["before"], labels) == found


def one_hot(right):
    return torch.eye(2)[torch.from_numpy(np.where(right, 0, 1))]


def test_two_shares_of_different_images_are_compared_by_fishers_test():
    assert two_proportions((8, 10), (1, 6)) == pytest.approx(0.03497, abs=1e-5)
    assert two_proportions((10, 10), (10, 10)) == 1.0


def test_calibration_error_weighs_confidence_against_accuracy():
    sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    logits = torch.cat([sure.repeat(3, 1), unsure.repeat(2, 1)])
    labels = torch.tensor([0, 0, 1, 1, 1])
    high, low = (float(z.softmax(1).max()) for z in (sure, unsure))
    expected = (abs(3 * high - 2) + abs(2 * low - 0)) / 5
    assert calibration_error(logits, labels) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(torch.tensor([[50.0, 0.0]]), torch.tensor([0])) == 0.0


def test_each_class_has_its_own_score():
    logits = torch.eye(3)[[0, 0, 1, 1]]
    zero, one, two = score_classes(logits, torch.tensor([0, 0, 0, 1]))
    assert (zero.correct, zero.total, one.accuracy, two) == (2, 3, 1.0, None)
    assert zero.low < 2 / 3 < zero.high


def test_the_interval_of_a_ratio_uses_pairs():
    random = np.random.default_rng(0)
    common = random.lognormal(0, 0.5, 400)  # what slows a whole round down
    first = 10 * common * random.normal(1, 0.01, 400)
    second = common * random.normal(1, 0.01, 400)
    low, high = ratio_interval(first, second)
    assert low < 10 < high
    shuffled = ratio_interval(first, random.permutation(second))
    assert high - low < (shuffled[1] - shuffled[0]) / 4
    assert ratio_interval(first, second) == (low, high)
    assert ratio_interval(first[:1], second[:1]) is None


def test_modes_are_timed_in_rounds_of_a_changing_order():
    order = []

    def named(name):
        return lambda images: order.append(name) or images.sum()

    names = ["fp32", "ptq", "qat"]
    threads = torch.get_num_threads()
    taken = interleaved(
        {name: named(name) for name in names},
        torch.zeros(2_000_000),
        threads=1,
        min_run_time=0.0,
        min_runs=12,
    )
    assert torch.get_num_threads() == threads
    assert all(latency.runs == len(latency.blocks) == 12 for latency in taken.values())
    for latency in taken.values():
        assert 0 < latency.median_s <= latency.p95_s <= latency.p99_s
        assert latency.median_s == np.median(latency.blocks)
        assert latency.calls >= 1
    blocks = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert set(blocks[-6:]) == set(names)
    switches = {(first, second) for first, second in pairwise(blocks)}
    assert len(switches) > 3  # a fixed order has three


def test_a_wide_spread_is_called_disturbed():
    quiet = np.full(100, 1e-3)
    noisy = np.where(np.arange(100) < 8, 2e-3, 1e-3)
    assert not _summary(list(quiet), 1).disturbed
    assert _summary(list(noisy), 1).disturbed


def test_the_timers_overhead_is_small_and_stated():
    overhead = timer_overhead()
    assert 0 < overhead["call_s"] < 1e-5
    assert 0 < overhead["resolution_s"] <= 1e-6
    assert overhead["block_s"] >= 0


def test_storage_counts_the_arrays_as_stored_and_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    trits = np.array([[1, 0, -1, 0, 0]], np.int8)
    layer = PackedLayer(
        {"type": "linear", "in": 5, "out": 1, "group_size": 5},
        {"trits": trits, "scale": np.ones((1, 1), np.float32), "bias": np.zeros(1, np.float32)},
    )
    stored = {"trits": np.zeros((1, 1), np.uint8), "scale": np.ones((1, 1), np.float32)}
    network = chain_network(
        [PackedLayer({"type": "flatten"}), layer], InputSpec((1, 1, 5), (0.0,), (1.0,))
    )
    assert ternary_storage(path, dataclasses.replace(network, stored=stored)) == Storage(
        5, 100, 8.0, 0.6, pytest.approx(0.6 * np.log2(1 / 0.6) + 0.4 * np.log2(1 / 0.2))
    )
    assert float_storage(path, weights=10, others=2) == Storage(48, 100, 38.4)


def test_the_fingerprint_is_stable_and_made_without_pytorch():
    code = (
        "import sys; from tritbench.measure.machine import LIMITS, fingerprint;"
        "print(fingerprint()['id'], 'torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.split() == [fingerprint()["id"], "False"]


def test_limits_of_the_instructions_make_another_machine(monkeypatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    whole = fingerprint()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    limited = fingerprint()
    assert "limits" not in whole
    assert limited["limits"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert limited["id"] != whole["id"]


def test_caches_governor_and_hypervisor_are_of_the_fingerprint(tmp_path, monkeypatch):
    for index, (level, kind, size) in enumerate(
        [(1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "1024K")]
    ):
        folder = tmp_path / f"cache/index{index}"
        folder.mkdir(parents=True)
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    (tmp_path / "cpufreq").mkdir()
    governor = tmp_path / "cpufreq/scaling_governor"
    governor.write_text("powersave\n")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : Some CPU\nflags : avx2 hypervisor\n\nmodel name : Other\n")
    monkeypatch.setattr(machine, "CPU0", tmp_path)
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    found = fingerprint()
    assert found["caches"] == "L1 48K, L2 1024K"
    assert (found["governor"], found["virtual"]) == ("powersave", True)
    governor.write_text("performance\n")
    assert fingerprint()["id"] != found["id"]
    cpuinfo.unlink()
    assert fingerprint()["virtual"] is False


def test_rows_are_rounded_to_their_precision():
    header, values = list(csv.reader(rows_csv([row(zeros=None)]).splitlines()))
    assert tuple(header) == COLUMNS
    found = dict(zip(header, values, strict=True))
    assert found["accuracy"] == "0.12346"
    assert found["latency_s"] == found["reference_latency_s"] == "0.1235"
    assert found["speedup"] == "0.123"
    assert found["zeros"] == ""
    assert found["mcnemar_p"] == "0.1235"
    assert ",true," in rows_csv([row(disturbed=True)])


def test_a_table_of_its_own_columns_is_rounded_too():
    rows = [{"class": "Coat, long", "accuracy": 0.1234567, "low": None, "high": 1.0}]
    assert table_csv(rows) == 'class,accuracy,low,high\n"Coat, long",0.12346,,1.0\n'


def test_dvcs_tables_show_a_few_rounded_figures_of_the_first_batch_size():
    rows = [
        row(mode="fp32", test_accuracy=0.89724, latency_s=1.6594e-5, bytes=2_678_824),
        row(mode="ptq", test_accuracy=0.8964, latency_s=6.281e-7, speedup=26.409, bytes=1630),
        row(mode="ptq", batch_size=128),
        row(mode="qat", test_accuracy=0.9, latency_s=None, speedup=None, bytes=1630),
    ]
    assert brief_metrics(rows) == {
        "toys": {
            "mlp": {
                "fp32": {"acc": 89.72, "us": {"m1": 16.6}},
                "ptq": {"acc": 89.64, "bytes": 1630, "us": {"m1": 0.628}, "faster": {"m1": 26.4}},
                "qat": {"acc": 90.0, "bytes": 1630},
            }
        }
    }


def test_metrics_are_nested_by_model_and_mode_with_timings_apart():
    metrics = metrics_json([row(), row(batch_size=128), row(mode="fp32", zeros=None)])
    assert metrics["accuracy"]["toys"]["mlp"]["ptq"]["test_accuracy"] == 0.12346
    assert "zeros" not in metrics["storage"]["toys"]["mlp"]["fp32"]
    assert set(metrics["latency"]["mlp"]["ptq"]) == {"batch_1", "batch_128"}
    assert "latency_s" not in metrics["accuracy"]["toys"]["mlp"]["ptq"]


def test_two_processes_may_append_at_the_same_time(tmp_path):
    path = tmp_path / "runs.csv"
    code = (
        "import sys; from pathlib import Path;"
        "from tritbench.measure.rows import COLUMNS, append_rows;"
        "row = dict.fromkeys(COLUMNS, 'x' * 50);"
        f"[append_rows(Path({str(path)!r}), [row]) for _ in range(25)]"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1:] == [",".join(["x" * 50] * len(COLUMNS))] * 100


def test_appending_refuses_other_columns(tmp_path):
    path = tmp_path / "runs.csv"
    older = ",".join(column for column in COLUMNS if column not in ("threshold", "reference"))
    for content, message in {
        f"{older}\n": "without threshold, reference; expected a new file",
        f"{','.join(COLUMNS)},mine\n": "with 'mine'; expected",
        "\xff,\n": "and with '\ufffd', ''; expected",
        f"{','.join(reversed(COLUMNS))}\n": "reordered; expected",
    }.items():
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(TritbenchError, match=re.escape(message)):
            append_rows(path, [])
        assert path.read_bytes() == content.encode("latin-1")


def test_half_a_row_that_a_killed_writer_left_is_removed_and_a_whole_one_kept(tmp_path):
    path = tmp_path / "runs.csv"
    append_rows(path, [row()])
    whole = path.read_text()
    path.write_text(whole + "mlp,fp32,half a r")
    append_rows(path, [row()])
    assert path.read_text() == whole + whole.splitlines()[1] + "\n"
    path.write_text(whole.rstrip())  # as some editors do
    append_rows(path, [row()])
    assert path.read_text() == whole + whole.splitlines()[1] + "\n"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "runs.csv"
    append_rows(path, [row()])
    before = path.read_bytes()
    code = (
        "import resource; from pathlib import Path;"
        "from tritbench.measure.rows import COLUMNS, append_rows;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 50}, -1));"
        f"append_rows(Path({str(path)!r}), [dict.fromkeys(COLUMNS, 'x' * 50)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(r"OSError: .* File too large: .*runs\.csv", ended.stderr)
    assert path.read_bytes() == before


def test_appending_counts_bytes_not_characters(tmp_path):
    path = tmp_path / "runs.csv"
    append_rows(path, [row(dataset="größe é")])
    append_rows(path, [row(dataset="größe é")])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert lines[1] == lines[2]


def test_a_revision_is_dirty_when_more_than_results_differ(tmp_path, monkeypatch, capsys):
    assert git_revision(tmp_path) == "unknown"
    assert "in no git repository" in capsys.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    for name in ("params.yaml", "dvc.lock", "benchmarks/a.csv"):
        (tmp_path / name).write_text("before")
    identity = ["-c", "user.email=test@localhost", "-c", "user.name=test"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "state"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = git_revision(tmp_path)
    assert 7 <= len(clean) <= 12
    (tmp_path / "dvc.lock").write_text("after")
    (tmp_path / "benchmarks/a.csv").write_text("after")
    assert git_revision(tmp_path) == clean
    (tmp_path / "params.yaml").write_text("after")
    assert git_revision(tmp_path) == f"{clean}-dirty"
    assert not capsys.readouterr().err
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert git_revision(tmp_path) == "unknown"
    assert "dubious ownership" in capsys.readouterr().err
