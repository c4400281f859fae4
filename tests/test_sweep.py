"""Sweeps: points checked before anything runs, made once, shared training, put together."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clones import ROOT, commit, dvc, make_clone, run, stages_run, use_stand_ins
from tiny import write_tiny_dataset

from tritbench.errors import TritbenchError
from tritbench.git import git
from tritbench.measure import rows
from tritbench.measure.machine import fingerprint
from tritbench.sweep import local
from tritbench.sweep.experiments import Progress, reference
from tritbench.sweep.plan import Point, read_sweep, trainings

FILE = """
jobs: 2
set: {evaluate.modes: [ptq], models: [linear]}
grid:
  ptq.method: [threshold, optimal]
  quantize.threshold: [0.3, 0.9]
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    dataset = write_tiny_dataset(folder / "toys")
    (folder / "clone").mkdir()
    project = make_clone(folder / "clone", dataset)
    shutil.move(project / ".git", folder / ".git")  # so the project is a folder of its repository
    commit(project)
    return project


@pytest.fixture
def here(clone, monkeypatch):
    monkeypatch.chdir(clone)
    return clone


def write(folder, text, name="some"):
    path = folder / f"sweeps/{name}.yaml"
    path.write_text(text)
    return path.relative_to(folder)


def test_a_grid_becomes_named_points_that_run_only_what_they_need(here):
    points = read_sweep(write(here, FILE)).points
    assert len({point.name for point in points}) == 4
    assert points[0].name.startswith("some-threshold-0.3-")
    assert not points[0].params.evaluate.latency
    stages = [
        "inputs/dvc.yaml:inputs",
        "download",
        "train_fp32@linear",
        "quantize_ptq@linear",
        "evaluate",
    ]
    assert points[0].stages == stages
    other = FILE.replace("[0.3, 0.9]", "[0.2, 0.3]")
    assert points[0].name in {point.name for point in read_sweep(write(here, other)).points}


def test_a_range_is_a_list_by_steps_and_optuna_takes_it_as_it_is(here):
    thresholds = "quantize.threshold: {low: 0.2, high: 0.4, step: 0.1}"
    path = write(here, f"grid: {{seed: {{low: 0, high: 4, step: 2}}, {thresholds}}}")
    points = read_sweep(path).points
    assert [point.overrides["seed"] for point in points[::3]] == [0, 2, 4]
    assert [point.overrides["quantize.threshold"] for point in points[:3]] == [0.2, 0.3, 0.4]
    path = write(here, "grid: {seed: [0, 1, 2], quantize.threshold: {low: 0.2, high: 1.5}}")
    with pytest.raises(TritbenchError, match=re.escape("quantize.threshold = 1.5: expected")):
        read_sweep(path, optimize=True)
    path = write(here, "points: [{seed: 1}]")
    with pytest.raises(TritbenchError, match="expected a grid"):
        read_sweep(path, optimize=True)


def test_points_share_a_training_where_nothing_that_it_depends_on_differs(here):
    grid = "grid: {seed: [0, 1], quantize.threshold: [0.3, 0.9], qat.epochs: [1, 2]}"
    found = trainings(read_sweep(write(here, grid)).points)
    assert [(training.model, len(needing)) for training, needing in found] == [
        *[("linear", 4), ("mlp", 4)] * 2
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: {quantize.treshold: [0.5]}", "point 1: quantize.treshold is not a key"),
        ("grid: {quantize.threshold: [0.5, 1.5]}", "point 2: quantize.threshold = 1.5: expected"),
        ("points: [{seed: 1}, {seed: 1}]", "point 2: {'seed': 1}: expected every point once"),
        ("grid: {seed: []}", "grid.seed = []: expected"),
        ("grid: {seed: [1]}\npoints: [{seed: 2}]", "expected either grid or points"),
        ("grid: {seed: {low: 0, high: 9}}", "grid.seed: expected a step"),
        (
            "grid: {seed: {low: .nan, high: 9}}",
            "grid.seed = {'low': nan, 'high': 9}: expected a list",
        ),
        ("grid: {seed: {low: 9, high: 0}}", "grid.seed = {'low': 9, 'high': 0}: expected a list"),
        ("run: slurm\ngrid: {seed: [1]}", "run = 'slurm': expected 'local' or 'ray'"),
        ("points: [{ptq.calibration: {linear: 9}}]", "expected dotted keys"),
        ("grid: [", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_clear_line(here, text, message):
    path = write(here, text)
    with pytest.raises(TritbenchError, match=re.escape(message)) as error:
        read_sweep(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_local_sweep_makes_each_point_once_and_goes_on_after_one_that_fails(here):
    # One validation image for three classes: the third point fails by itself, in training.
    bad = "points: [{ptq.method: optimal}, {quantize.threshold: 0.3}, {data.validation: 1}]"
    path = write(here, f"jobs: 2\nset: {{evaluate.modes: [ptq], models: [linear]}}\n{bad}")
    output = run(here, "tritbench", "sweep", path, check=False)
    assert "1 points failed, 2 did not" in output
    assert re.search(r"some-1-\w+ failed:\n.*data.validation: 1 images", output, re.DOTALL)
    names = dvc(here, "exp", "list", "--name-only").split()
    assert len([name for name in names if name.startswith("some-")]) == 2
    assert not [name for name in names if name.startswith("fp32-")]
    with (here / "sweeps/some.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["mode"] for row in found] == ["fp32", "ptq", "ptq"]
    assert {row["latency_s"] for row in found} == {""}
    assert any(row["front"] for row in found)
    for suffix in (".md", "-front.svg"):
        assert (here / f"sweeps/some{suffix}").exists()
    assert not run(here, "git", "status", "--porcelain", "--untracked-files=no")

    # Again: the point that failed fails, and the front is timed.
    run(here, "git", "checkout", "-q", ".")
    # A name that DVC cannot write: the worker fails before the experiment has an output.
    run(here, "git", "config", "remote.origin.url", "/tmp/späce")
    output = run(here, "tritbench", "sweep", path, "--time", check=False)
    run(here, "git", "config", "--unset", "remote.origin.url")
    assert re.search(r"some-1-\w+ failed:\n.*UnicodeEncodeError: ", output, re.DOTALL)
    with (here / "sweeps/some.csv").open() as file:
        timed = list(csv.DictReader(file))
    ternary = [row for row in timed if row["mode"] == "ptq"]
    assert all(bool(row["latency_s"]) == bool(row["front"]) for row in ternary)
    assert {row["machine"] for row in ternary if row["front"]} == {fingerprint()["id"]}
    assert all(float(row["speedup"]) > 0 for row in ternary if row["front"])
    drop = ("latency_s", "speedup", "machine")
    assert [without(row, drop) for row in timed] == [without(row, drop) for row in found]

    # The experiments serve DVC's own commands, and the report does without latencies.
    name = next(name for name in names if "optimal" in name)
    (here / "models/linear/ptq.trit").unlink(missing_ok=True)
    dvc(here, "exp", "apply", name, check=False)  # it misses what never ran here, as QAT
    assert (here / "models/linear/ptq.trit").exists()
    assert "method: optimal" in (here / "params.yaml").read_text()
    assert stages_run(dvc(here, "repro", "-s", "report")) == {"report"}
    run(here, "git", "checkout", "-q", ".")


def without(row, keys):
    return {key: value for key, value in row.items() if key not in keys}


def test_a_sweep_goes_on_after_command_and_worker_were_killed(tmp_path):
    folder = make_clone(tmp_path, "toys", ["linear"])
    use_stand_ins(folder)
    made = tmp_path / "made"
    for stage in ("train_fp32", "evaluate"):
        with (folder / f"stages/{stage}.py").open("a") as file:
            file.write(f"    open({str(made)!r}, 'a').write('{stage} ')\n")
    commit(folder)
    grid = "grid: {quantize.threshold: [0.2, 0.4, 0.6, 0.8]}"
    path = write(folder, f"jobs: 1\nset: {{evaluate.modes: [ptq]}}\n{grid}")
    driver = subprocess.Popen(
        [Path(sys.executable).parent / "tritbench", "sweep", path],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: "evaluate" in text(made))
    driver.kill()
    driver.wait()
    wait_for(lambda: text(made).count("evaluate") >= 2)  # its worker goes on
    (worker,) = (folder / ".dvc/tmp/exps").rglob("dvc-exp-worker-1.json")
    process = psutil.Process(json.loads(worker.read_text())["pid"])
    for victim in [process, *process.children(recursive=True)]:
        victim.kill()
    stale = json.loads(worker.read_text()) | {"pid": os.getpid()}  # no worker has this number
    for name, record in (("stale", json.dumps(stale)), ("broken", "{")):
        (worker.parent / f"dvc-exp-worker-{name}.json").write_text(record)
    assert "4 points" in run(folder, "tritbench", "sweep", path)
    listed = dvc(folder, "exp", "list", "--name-only").split()
    assert len(listed) == len(set(listed)) == 4
    assert text(made).count("train_fp32") == 1
    assert text(made).count("evaluate") in (4, 5)  # that in which the worker died, twice


@pytest.mark.parametrize(("deaths", "error"), [(1, None), (2, "its worker ended twice")])
def test_a_point_whose_worker_ended_without_a_word_has_a_second_try(monkeypatch, deaths, error):
    made = set()

    class Dying:
        """A queue whose first workers end over what they take."""

        folder = "logs"
        tries = 0

        def add(self, task):
            self.tries += 1
            if self.tries > deaths:
                made.add(task.name)
            return str(self.tries)

        def workers(self):
            return 1

        def waiting(self):
            return set()

        def active(self):
            return set()

        def log(self, entry):
            return None

    monkeypatch.setattr(local, "finished", lambda start: set(made))
    monkeypatch.setattr(local, "POLL_SECONDS", 0)
    point = Point("one", {}, None)
    with Progress(1, 0) as progress:
        ((name, said),) = local._drain(Dying(), "0" * 40, [point], {}, 1, progress)
    assert name == "one"
    assert said is None if error is None else said.startswith(error)


def test_a_cache_that_dvc_cannot_name_is_told_before_anything_runs(tmp_path, monkeypatch):
    folder = tmp_path / "späce"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").touch()
    shutil.copy(ROOT / "dvc.yaml", folder)
    run(folder, "git", "init", "-q")
    monkeypatch.chdir(folder)
    with pytest.raises(TritbenchError, match=r"späce/\.dvc/cache: DVC runs queued"):
        local.run([], "0" * 40, 1, Progress(0, 0))
    (folder / ".dvc/config.local").write_text("[cache]\n    dir = /tmp\n")
    local.run([], "0" * 40, 1, Progress(0, 0))


def text(path):
    return path.read_text() if path.exists() else ""


def wait_for(condition):
    deadline = time.monotonic() + 100  # only where something hangs
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_optuna_chooses_points_and_goes_on_where_it_stopped(here):
    pytest.importorskip("optuna", reason="needs pip install '.[optimize]'")
    from tritbench.sweep.optimize import optimize

    grid = "{ptq.method: [optimal, gptq], quantize.threshold: {low: 0.1, high: 1.0}}"
    path = write(here, f"set: {{models: [linear]}}\ngrid: {grid}", "best")
    start = git("rev-parse", "HEAD")
    made = []

    def run_points(points):
        """An experiment whose accuracy is its threshold, in place of a real one."""
        for point in points:
            row = dict.fromkeys(rows.COLUMNS) | {"model": "linear", "mode": "ptq", "bytes": 9}
            row |= {"accuracy": point.params.quantize.threshold, "file_bytes": 9}
            file = here / "benchmarks/quantization_runs.csv"
            file.parent.mkdir(exist_ok=True)
            file.write_text(rows.rows_csv([row]))
            run(here, "git", "add", "-f", str(file))
            run(here, "git", "commit", "-q", "-m", "a point")
            run(here, "git", "update-ref", reference(start, point.name), "HEAD")
            run(here, "git", "reset", "-q", "--hard", start)
            made.append(point.name)
        return {}

    sweep = read_sweep(path, optimize=True)
    points, failed = optimize(sweep, 3, start, run_points)
    assert (len(points), failed) == (3, {})
    points, _ = optimize(sweep, 5, start, run_points)
    assert sorted(made) == sorted(point.name for point in points)
    assert len(made) == 5
