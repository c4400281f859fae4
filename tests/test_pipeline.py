"""The pipeline under DVC itself, in a temporary clone with tiny settings."""

import csv
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from clones import (
    ROOT,
    STAGES,
    commit,
    dvc,
    make_clone,
    reruns,
    run,
    stages_run,
    up_to_date_stand_ins,
)
from ruamel.yaml import YAML
from tiny import write_tiny_dataset

from tritbench.files import sha256

CLASSES = ['5" pipe', "café, noir", "<b>", "bare"]  # the last one in no test image


def artifacts(folder):
    """What must not depend on time or interruption: the linear model's files and metrics."""
    names = ["fp32.safetensors", "ptq.trit", "qat.trit"]
    metrics = ["accuracy", "storage"]
    return [sha256(folder / "models/linear" / name) for name in names] + [
        json.loads((folder / f"benchmarks/{name}.json").read_text())["toys"]["linear"]
        for name in metrics
    ]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "toys"
    write_tiny_dataset(folder, classes=len(CLASSES), tested=len(CLASSES) - 1)
    (folder / "classes.txt").write_text("\ufeff" + "\n".join(CLASSES), "utf-8")
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory, dataset):
    folder = make_clone(tmp_path_factory.mktemp("clone"), dataset)
    output = dvc(folder, "repro")
    ran = stages_run(output)
    assert {stage.split("@")[0] for stage in ran} == set(STAGES)
    assert "evaluate: no test images of bare\n" in output
    commit(folder)
    return folder


@pytest.fixture
def clean(clone):
    """The clone at its committed state, before and after."""
    yield clone
    restore(clone)


@pytest.fixture(scope="module")
def clone_of_stand_ins(tmp_path_factory, dataset):
    folder = make_clone(tmp_path_factory.mktemp("stand-ins"), dataset)
    return up_to_date_stand_ins(folder)


@pytest.fixture
def stand_ins(clone_of_stand_ins):
    """As `clean`, with stages that do nothing."""
    yield clone_of_stand_ins
    restore(clone_of_stand_ins)


def restore(clone):
    run(clone, "git", "checkout", "-q", ".")
    dvc(clone, "checkout", "-q")  # also of methods, whose files no cache has


def test_every_stage_has_a_description():
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == STAGES
    assert all(stage["desc"] for stage in stages.values())


def test_nothing_changed_is_no_work(clean):
    assert stages_run(dvc(clean, "repro")) == set()
    assert run(clean, "git", "status", "--porcelain") == ""
    assert "up to date" in dvc(clean, "status", "dvc.yaml")


def test_the_results_carry_the_data_sets_name(clean):
    for name in (
        "benchmarks/summary.md",
        "benchmarks/report.html",
        "benchmarks/quantization_runs.csv",
    ):
        assert "toys" in (clean / name).read_text()


def test_classes_keep_their_names(clean):
    for name, columns in (("confusion", ("actual", "predicted")), ("per_class", ("class",))):
        with (clean / f"benchmarks/{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for column in columns:
            found = list(dict.fromkeys(row[column] for row in rows))
            assert found == CLASSES[: -1 if name == "per_class" else None]
    page = (clean / "benchmarks/report.html").read_text("utf-8")
    assert "No test image shows bare: " in page
    headings = re.findall(r"<th[^>]*>([^<]*)</th>", page)
    assert set(CLASSES) <= {html.unescape(heading) for heading in headings}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            "quantize.threshold=0.8",
            {
                "quantize_ptq@linear",
                "quantize_ptq@mlp",
                "train_qat@linear",
                "train_qat@mlp",
                "evaluate",
                "report",
            },
        ),
        (
            "packing.codec=entropy",
            {
                "quantize_ptq@linear",
                "quantize_ptq@mlp",
                "train_qat@linear",
                "train_qat@mlp",
                "evaluate",
                "report",
            },
        ),
        ("qat.epochs=2", {"train_qat@linear", "train_qat@mlp", "evaluate", "report"}),
        ("ptq.calibration=100", {"quantize_ptq@linear", "quantize_ptq@mlp", "evaluate", "report"}),
        (
            "model.mlp.hidden=[12]",
            {"train_fp32@mlp", "quantize_ptq@mlp", "train_qat@mlp", "evaluate", "report"},
        ),
        (
            "+model.mlp.ptq={calibration: 100}",
            {"quantize_ptq@mlp", "train_qat@mlp", "evaluate", "report"},
        ),
        ("report.title=Other", {"report"}),
    ],
)
def test_a_changed_parameter_reruns_what_depends_on_it(stand_ins, change, expected):
    assert reruns(stand_ins, change) == expected


def test_what_dvc_says_that_it_reruns_it_does(stand_ins):
    expected = reruns(stand_ins, "quantize.threshold=0.8")
    assert stages_run(dvc(stand_ins, "exp", "run", "-S", "quantize.threshold=0.8")) == expected


def test_changed_images_of_a_users_folder_are_brought_in_again(stand_ins, tmp_path):
    folder = write_tiny_dataset(tmp_path / "mine")
    dvc(stand_ins, "exp", "run", "-S", f"data.dataset=path:{folder}")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"others")
    assert stages_run(dvc(stand_ins, "repro")) == {"download"}  # its stand-in brings the same


def test_a_changed_module_of_a_users_network_trains_that_network_again(stand_ins):
    (stand_ins / "my_networks.py").write_text("from blocks import block\n")
    (stand_ins / "blocks.py").write_text("block = 1\n")
    params = YAML().load((stand_ins / "params.yaml").read_text())
    params["models"] = ["linear", "mine"]
    params["model"]["mine"] = {"factory": "my_networks:make"}
    with (stand_ins / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    dvc(stand_ins, "repro")
    (stand_ins / "blocks.py").write_text("block = 2\n")
    assert stages_run(dvc(stand_ins, "repro")) == {"train_fp32@mine", "train_qat@mine"}
    for name in ("my_networks.py", "blocks.py"):
        (stand_ins / name).unlink()


def test_a_preset_is_a_change_of_parameters(stand_ins):
    """The stand-ins' results make no table, which is all that fails."""
    output = run(stand_ins, "tritbench", "run", "--preset", "small", check=False)
    assert {"quantize_ptq@linear", "train_qat@mlp", "report"} <= stages_run(output)
    assert "codec: entropy" in (stand_ins / "params.yaml").read_text()
    assert "no such preset" in run(stand_ins, "tritbench", "run", "--preset", "none", check=False)


def test_a_misspelt_or_wrong_parameter_does_not_pass(clean):
    output = dvc(clean, "exp", "run", "-S", "quantize.treshold=0.6", check=False)
    assert "quantize.treshold" in output or "treshold" in output
    assert stages_run(output) == set()
    output = dvc(clean, "exp", "run", "-S", "quantize.threshold=1.6", check=False)
    assert "quantize.threshold = 1.6: expected auto or a number in (0, 1]" in output
    assert "failed" in output


@pytest.mark.parametrize(
    ("stage", "killer"), [("train_fp32", signal.SIGKILL), ("train_qat", signal.SIGINT)]
)
def test_a_killed_stage_is_made_up_for_to_the_same_bytes(clone, tmp_path, dataset, stage, killer):
    """Also the proof that two cold runs give byte-identical artifacts: nothing is shared."""
    expected = artifacts(clone)
    folder = make_clone(tmp_path, dataset, ["linear"])
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "evaluate"],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    victim = wait_for_child(process, f"stages/{stage}.py")
    time.sleep(1)  # into its imports or its work; wherever it lands, the result must be the same
    victim.send_signal(killer)
    process.wait(timeout=60)
    dvc(folder, "repro", "evaluate")
    assert artifacts(folder) == expected


def test_without_a_source_the_benchmark_runs_on_the_embedded_set_and_says_so(tmp_path, dataset):
    clone = make_clone(tmp_path, dataset, ["linear"])
    params = (clone / "params.yaml").read_text()
    params = params.replace(f"path:{dataset}", "fashion-mnist")
    (clone / "params.yaml").write_text(params.replace("batch_size: 16", "batch_size: 256"))
    commit(clone)
    nowhere = "http://127.0.0.1:9"
    offline = {"FASHION_MNIST_DIR": "", "http_proxy": nowhere, "https_proxy": nowhere}
    output = run(clone, "tritbench", "run", **offline)
    assert "NO SOURCE HAS THE DATA SET" in output
    assert "dvc exp run -S data.dataset=embedded" in output
    assert "dataset: embedded" in (clone / "params.yaml").read_text()
    table = output.split("The report:")[0].rsplit("\n\n", 1)[-1]
    assert "embedded" in output.splitlines()[-2] + table + output
    assert {"fp32", "ptq", "qat"} == set(re.findall(r"^linear\s+(\w+)", output.lower(), re.M))


def test_a_network_may_be_called_as_a_key_of_latency_json(clean):
    content = json.loads((clean / "benchmarks/latency.json").read_text())
    assert set(content["models"]) == {"linear", "mlp"}
    assert not set(content["models"]) & set(content)


def test_latencies_of_another_machine_are_measured_again(clean, tmp_path):
    """Another by its NumPy, as the fingerprint finds it."""
    other = tmp_path / "numpy-0.0.dist-info/METADATA"
    other.parent.mkdir()
    other.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert stages_run(run(clean, "dvc", "repro", PYTHONPATH=path)) == {"evaluate", "report"}
    taken = json.loads((clean / "benchmarks/latency.json").read_text())
    assert taken["machine"]["numpy"] == "0.0"


def test_the_workflow_of_pull_requests_runs_here(clean, tmp_path):
    """Its own steps, with the environment that is here and a `gh` that takes notes."""
    job = YAML(typ="safe", pure=True).load((ROOT / ".github/workflows/benchmark.yml").read_text())
    steps = job["jobs"]["compare"]["steps"]
    (clean / ".venv").mkdir(exist_ok=True)
    for part in ("bin", "lib", "pyvenv.cfg"):
        (clean / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (clean / ".venv/.ready").touch()
    (clean / ".venv/.engine").touch()
    gh = tmp_path / "bin/gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncp "$5" {tmp_path}/posted\n')
    gh.chmod(0o755)
    summary = tmp_path / "summary"
    environment = {
        "BASE": run(clean, "git", "rev-parse", "HEAD").strip(),
        "PULL_REQUEST": "7",
        "GITHUB_STEP_SUMMARY": str(summary),
        "PATH": f"{gh.parent}:{os.environ['PATH']}",
    }
    assert set(environment) - {"PATH", "GITHUB_STEP_SUMMARY"} <= set(job["jobs"]["compare"]["env"])
    run(clean, "dvc", "exp", "run", "-S", "packing.codec=entropy")
    for step in steps:
        if "run" in step:
            run(clean, "bash", "-eo", "pipefail", "-c", step["run"], **environment)
    assert (tmp_path / "asked").read_text() == "pr comment 7 --body-file compare.md\n"
    table = summary.read_text()
    assert table == (tmp_path / "posted").read_text()
    assert re.search(r"^\| linear \| QAT \|.* bytes → .*no significant change \|$", table, re.M)
    assert "McNemar's exact test on the same test images" in table
    (clean / "compare.md").unlink()


def test_dvcs_tables_are_short(clean):
    run(clean, "dvc", "exp", "run", "-S", "packing.codec=entropy")
    diff = json.loads(dvc(clean, "metrics", "diff", "--json"))
    assert set(diff) == {"benchmarks/metrics.json"}
    assert {"toys.linear.ptq.bytes", "toys.mlp.qat.bytes"} <= set(diff["benchmarks/metrics.json"])
    shown = json.loads(dvc(clean, "metrics", "show", "--json"))[""]["data"]
    assert "WARNING" not in dvc(clean, "plots", "show")
    names = {
        f"{mode}.{name}"
        for mode, metrics in shown["benchmarks/metrics.json"]["data"]["toys"]["linear"].items()
        for name in metrics
    }
    ternary = {f"{mode}.{name}" for mode in ("ptq", "qat") for name in ("acc", "bytes", "us")}
    assert names == {"fp32.acc", "fp32.us", "ptq.faster", "qat.faster"} | ternary


def test_the_whole_benchmark_runs_in_one_process_without_dvc(clean, dataset, tmp_path):
    output = tmp_path / "runs.csv"
    params = (clean / "params.yaml").read_text()
    (clean / "params.yaml").write_text(params.replace(f"path:{dataset}", "embedded"))
    script = "scripts/ternary_quantization_benchmark.py"
    flags = ["--model", "linear", "--data-dir", str(dataset), "--batch-size", "16"]
    flags += ["--fp32-epochs", "1", "--qat-epochs", "1", "--device", "cpu", "--latency-iters", "3"]
    command = [sys.executable, script, *flags, "--output", str(output), "--threshold"]
    for threshold in ("0.5", "0.70001"):
        printed = run(clean, *command, threshold)
        assert printed.startswith(
            "data: toys, 250 train, 50 validation, 100 test images of 4 class"
        )
        assert "no test images of bare" in printed
        assert all(f"linear {mode}: test accuracy" in printed for mode in ("fp32", "ptq", "qat"))
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == [
        "model",
        "mode",
        "batch_size",
        "accuracy",
        "loss",
        "latency_s",
        "bytes",
    ]
    assert [row["mode"] for row in rows] == ["fp32", "ptq", "qat"] * 2
    made = [[row[key] for key in ("threshold", "reference", "granularity")] for row in rows[2:5]]
    assert made == [["0.5", "absmean", "channel"], ["", "", ""], ["0.70001", "absmean", "channel"]]
    assert {row["dataset"] for row in rows} == {"toys"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold", "1.5"], "threshold = 1.5"),
        (["--dataset", "kmnist", "--data-dir", "nowhere"], "holds path:"),
        (["--output", "older.csv"], "older.csv: its columns are not this version's: without model"),
    ],
)
def test_the_script_refuses_before_it_works(tmp_path, flags, message):
    (tmp_path / "older.csv").write_text("mode,batch_size\n")
    script = str(ROOT / "scripts/ternary_quantization_benchmark.py")
    assert message in run(tmp_path, sys.executable, script, *flags, check=False)
    assert (tmp_path / "older.csv").read_text() == "mode,batch_size\n"


def wait_for_child(process, script):
    for _ in range(600):
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                command = child.cmdline()
            except psutil.Error:
                continue
            if script in command and "python" in Path(command[0]).name:
                return child
        time.sleep(0.1)
    raise AssertionError(f"{script} never ran")
