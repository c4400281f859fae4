"""Data-parallel training: two processes give what one gives, or one line and no file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from parallel_cases import CASES, SPEC, images, network, train
from ruamel.yaml import YAML
from safetensors.torch import load_file
from tiny import write_tiny_dataset

from tritbench import models, parallel
from tritbench.devices import use_device
from tritbench.errors import TritbenchError
from tritbench.packing import load_trit
from tritbench.quantize.qat import METHODS
from tritbench.train import Recipe, fit

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TWO = "torchrun --standalone --nproc-per-node 2"
ENVIRONMENT = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes ends with, by case and name."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("parallel_cases.py")
    subprocess.run([*TWO.split(), script, folder], env=ENVIRONMENT, check=True)
    use_device("cpu", 1)
    return [load_file(folder / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.isa
@pytest.mark.parametrize("case", [case for case in CASES if case != "bfloat16"])
def test_two_processes_train_as_one_does(ranks, case):
    """Gradients, both BatchNorms, Dropout, flips, distillation, fake quantizers, the curve."""
    first, second = ranks
    for key, expected in train(case).items():
        found = first[f"{case}/{key}"]
        assert torch.equal(found, second[f"{case}/{key}"])
        # BatchNorm cancels a scale before it: Adam makes steps of that scale's rounding.
        tolerance = 0.005 if case in METHODS and key != "curve" else 1e-4
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.isa
def test_two_processes_round_to_bfloat16_as_one_does(ranks):
    """Adam makes whole steps of gradients that are rounding alone, so single weights say nothing:
    all of them together are as far from FP32's as one process takes them."""
    first, second = ranks
    exact, one = train("fp32"), train("bfloat16")
    for key in one:
        assert torch.equal(first[f"bfloat16/{key}"], second[f"bfloat16/{key}"])
    two = {key: first[f"bfloat16/{key}"] for key in one}

    def distance(state):
        return sum(float((state[k] - exact[k]).norm()) ** 2 for k in weights) ** 0.5

    weights = [key for key in exact if key.endswith(("weight", "bias"))]
    assert distance(one) / 3 < distance(two) < 3 * distance(one)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloaded")
    dataset = write_tiny_dataset(folder / "toys")
    set_params(folder, ROOT / "params.yaml", dataset=f"path:{dataset}")
    stage(folder, "download.py")
    return folder


@pytest.fixture
def folder(tmp_path, downloaded):
    """Where a stage finds parameters, which `set_params` changes, and images."""
    set_params(tmp_path, downloaded / "params.yaml", launcher=TWO)
    (tmp_path / "data").symlink_to(downloaded / "data")
    return tmp_path


def set_params(folder, origin, dataset=None, epochs=1, **train):
    yaml = YAML()
    content = yaml.load(origin.read_text())
    if dataset is not None:
        content["data"] |= {"dataset": dataset, "validation": 50}
    content["model"]["mlp"]["hidden"] = [12]
    content["train"] |= {"epochs": epochs, "batch_size": 16}
    content["train"] |= train
    content["qat"]["epochs"] = 1
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(content, file)


def stage(folder, name, *arguments, check=True):
    command = [sys.executable, ROOT / "stages" / name, *arguments]
    result = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0 or not check, result.stderr
    return result


def written(folder):
    return [path for part in ("models", "benchmarks") for path in (folder / part).rglob("*.*")]


def test_the_first_process_of_a_stage_writes(folder):
    output = stage(folder, "train_fp32.py", "mlp").stdout
    assert output.count("train_fp32: models/mlp/fp32.safetensors:") == 1
    checkpoint = models.load_checkpoint(folder / "models/mlp/fp32.safetensors")
    assert checkpoint.provenance["recipe"]["params"]["train"]["launcher"] == TWO
    output = stage(folder, "train_qat.py", "mlp").stdout
    assert output.count("train_qat: models/mlp/qat.trit:") == 1
    load_trit(folder / "models/mlp/qat.trit")
    assert len(written(folder)) == 4


@pytest.mark.parametrize("victim", ["a process", "the stage"])
def test_a_killed_process_ends_all_and_leaves_nothing(folder, victim):
    set_params(folder, folder / "params.yaml", epochs=100_000)
    process = subprocess.Popen(
        [sys.executable, ROOT / "stages/train_fp32.py", "mlp"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=(folder / "output").open("w"),
        stderr=subprocess.PIPE,
        text=True,
    )
    workers = wait_for_training(process, folder / "output")
    (workers[1] if victim == "a process" else psutil.Process(process.pid)).send_signal(
        signal.SIGKILL
    )
    _, error = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert written(folder) == []
    if victim == "a process":
        assert process.returncode == 1
        assert error == (
            f"train_fp32: error: train.launcher = '{TWO}': SIGKILL ended a process; "
            "nothing half-written is left\n"
        )


def wait_for_training(process, output):
    """The two processes, once the first one's progress bar moves."""
    while "step/s" not in output.read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = {c.environ().get("RANK"): c for c in children if "RANK" in c.environ()}
    return [workers["0"], workers["1"]]


def test_the_batch_must_be_shared_evenly(monkeypatch):
    monkeypatch.setattr(parallel, "group", lambda: parallel.Group(0, 2))
    with pytest.raises(TritbenchError, match=r"batch_size = 15: expected a multiple of the 2"):
        fit(network(0.0), images(50), images(30), SPEC, Recipe(1, 0.1, batch_size=15))


def test_what_a_process_says_is_what_the_stage_says(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [])
    assert parallel.launch("true")
    said = "echo noise >&2; echo 'train_fp32: error: too large' >&2; exit 1"
    with pytest.raises(TritbenchError, match=r"^too large$"):
        parallel.launch(f'sh -c "{said}"')
    assert capsys.readouterr().err == ""
    with pytest.raises(TritbenchError, match="ended with exit code 3; the lines above say why"):
        parallel.launch("sh -c 'echo Traceback >&2; exit 3'")
    assert capsys.readouterr().err == "Traceback\n"


def test_a_launcher_that_cannot_work_is_one_line(monkeypatch):
    assert not parallel.launch(None)
    with pytest.raises(TritbenchError, match=r"train\.launcher = 'torchrum -n 2': No such file"):
        parallel.launch("torchrum -n 2")
    monkeypatch.setenv(parallel.STARTED, "env")
    with pytest.raises(TritbenchError, match="'env': sets no RANK; expected torchrun"):
        parallel.launch("env")
    monkeypatch.setenv("RANK", "0")
    assert not parallel.launch("env")
