import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.benchmark import Timer

from tritbench.errors import TritbenchError
from tritbench.measure.accuracy import agreement, confusion, predict, score
from tritbench.measure.latency import interleaved
from tritbench.measure.machine import fingerprint
from tritbench.measure.rows import COLUMNS, append_rows, git_revision, metrics_json, rows_csv
from tritbench.measure.storage import Storage, float_storage, ternary_storage


def row(**changes):
    floats = ("accuracy", "latency", "test_", "speedup", "compression", "zeros")
    floats += ("agreement", "reference", "engine")
    values = {key: 0.123456789 if key.startswith(floats) else 7 for key in COLUMNS}
    return values | {"model": "mlp", "mode": "ptq", "batch_size": 1} | changes


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


def test_modes_are_timed_in_rounds_of_a_changing_order(monkeypatch):
    blocks = []
    timeit = Timer.timeit

    def recorded(timer, number):
        blocks.append(timer._task_spec.description)
        return timeit(timer, number)

    monkeypatch.setattr(Timer, "timeit", recorded)
    names = ["fp32", "ptq", "qat"]
    threads = torch.get_num_threads()
    taken = interleaved(
        dict.fromkeys(names, torch.sum),
        torch.zeros(500_000),
        threads=1,
        min_run_time=0.0,
        min_runs=12,
    )
    assert torch.get_num_threads() == threads
    assert all(latency.runs == 12 for latency in taken.values())
    assert all(0 < latency.median_s <= latency.p95_s for latency in taken.values())
    assert all(latency.calls >= 1 for latency in taken.values())
    rounds = [tuple(blocks[-36:][i : i + 3]) for i in range(0, 36, 3)]
    assert all(sorted(order) == names for order in rounds)
    assert len(set(rounds)) > 2


def test_storage_counts_the_arrays_as_stored_and_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    trits = np.array([[1, 0, -1, 0, 0]], np.int8)
    arrays = {"trits": np.zeros((1, 1), np.uint8), "scale": np.ones((1, 1), np.float32)}
    assert ternary_storage(path, arrays, [trits]) == Storage(5, 100, 8.0, 0.6)
    assert float_storage(path, weights=10, biases=2) == Storage(48, 100, 38.4, None)


def test_the_fingerprint_is_stable_and_made_without_pytorch():
    code = (
        "import sys; from tritbench.measure.machine import fingerprint;"
        "print(fingerprint()['id'], 'torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.split() == [fingerprint()["id"], "False"]


def test_rows_are_rounded_to_their_precision():
    header, values = list(csv.reader(rows_csv([row(zeros=None)]).splitlines()))
    assert tuple(header) == COLUMNS
    found = dict(zip(header, values, strict=True))
    assert found["accuracy"] == "0.12346"
    assert found["latency_s"] == found["reference_latency_s"] == "0.1235"
    assert found["speedup"] == "0.123"
    assert found["zeros"] == ""


def test_metrics_are_nested_by_model_and_mode_with_timings_apart():
    metrics = metrics_json([row(), row(batch_size=128), row(mode="fp32", zeros=None)])
    assert metrics["accuracy"]["mlp"]["ptq"]["test_accuracy"] == 0.12346
    assert "zeros" not in metrics["storage"]["mlp"]["fp32"]
    assert set(metrics["latency"]["mlp"]["ptq"]) == {"batch_1", "batch_128"}
    assert "latency_s" not in metrics["accuracy"]["mlp"]["ptq"]


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


def test_appending_refuses_other_columns_and_starts_on_a_new_line(tmp_path):
    path = tmp_path / "runs.csv"
    append_rows(path, [row()])
    path.write_text(path.read_text() + "mlp,fp32,half a r")
    append_rows(path, [row()])
    lines = path.read_text().splitlines()
    assert lines[2] == "mlp,fp32,half a r"
    assert lines[3] == lines[1]
    for content in (b"a,b\n", b"\xff\n"):
        path.write_bytes(content)
        with pytest.raises(TritbenchError, match=r"runs\.csv: its columns are '"):
            append_rows(path, [row()])
        assert path.read_bytes() == content


def test_appending_counts_bytes_not_characters(tmp_path):
    path = tmp_path / "runs.csv"
    append_rows(path, [row(dataset="größe é")])
    append_rows(path, [row(dataset="größe é")])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert lines[1] == lines[2]


def test_a_revision_is_dirty_when_more_than_results_differ(tmp_path):
    assert git_revision(tmp_path) == "unknown"
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
