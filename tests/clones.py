"""The working tree as repositories of their own, with tiny parameters, and what runs in them."""

import contextlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import networkx
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from tritbench.params import load_params

ROOT = Path(__file__).parents[1]
STAGES = ["download", "train_fp32", "quantize_ptq", "train_qat", "evaluate", "report"]


def run(folder, *command, check=True, **variables):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | variables
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0 or not check, result.stdout
    return result.stdout


def dvc(folder, *arguments, check=True):
    return run(folder, sys.executable, "-m", "dvc", *arguments, check=check)


def stages_run(output):
    """The stages of dvc.yaml that DVC says it ran, with their model."""
    return set(re.findall(r"Running stage '([\w@-]+)'", output))


def reruns(folder, *changes):
    """The stages of dvc.yaml that a change of parameters (`key=value`) in `folder` reruns.

    As `dvc exp run -S` would: DVC writes the change, and says which stages it concerns; what
    depends on these follows. In this process, with nothing run, it takes a tenth of the time.
    """
    params = folder / "params.yaml"
    before = params.read_text()
    note_inputs = runpy.run_path(str(folder / "stages/inputs.py"))["main"]  # what runs always
    try:
        apply_overrides(params, list(changes))
        load_params(params)
        with contextlib.chdir(folder), Repo() as repo:
            note_inputs()
            status = repo.status(targets=["dvc.yaml"])
            graph = repo.index.graph.reverse()  # from a stage to those that depend on it
            changed = [stage for stage in graph if stage.addressing in status]
            return {
                other.addressing
                for stage in changed
                for other in [stage, *networkx.descendants(graph, stage)]
                if other.path_in_repo == "dvc.yaml"
            }
    finally:
        params.write_text(before)
        with contextlib.chdir(folder):
            note_inputs()


def make_clone(folder, dataset, models=("linear", "mlp")):
    """The working tree as a new repository of its own, with tiny parameters."""
    listed = run(ROOT, "git", "ls-files", "-co", "--exclude-standard").splitlines()
    for name in listed:
        results = ("benchmarks/", "dvc.lock", "docs/diagrams/")
        if (ROOT / name).is_file() and not name.startswith(results):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    params["models"] = list(models)
    params["data"] |= {"dataset": f"path:{dataset}", "validation": 60}
    params["model"]["mlp"]["hidden"] = [16]
    for name in models:
        for section in ("train", "ptq"):
            for key in ("epochs", "calibration"):
                params["model"][name].get(section, {}).pop(key, None)
    params["train"] |= {"epochs": 1, "batch_size": 16, "threads": 1}
    params["qat"]["epochs"] = 1
    params["ptq"]["calibration"] = 64
    params["evaluate"] |= {"min_run_time": 0.001, "batch_sizes": [1], "peers": [], "processes": 1}
    # The networks are so small that tables outweigh weights, and too small to time.
    params["report"]["gates"] |= {"bytes_growth": 100.0, "speedup_floor": 0.0}
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    run(folder, "git", "init", "-q")
    run(folder, "git", "config", "user.email", "test@localhost")
    run(folder, "git", "config", "user.name", "test")
    commit(folder)
    return folder


def use_stand_ins(folder):
    """Stages that write their outputs at once, for what is about DVC and not about networks."""
    for stage in STAGES:
        shutil.copy(ROOT / "scripts/stand_in.py", folder / f"stages/{stage}.py")
    commit(folder)


def up_to_date_stand_ins(folder):
    use_stand_ins(folder)
    dvc(folder, "repro")
    commit(folder)
    return folder


def commit(folder):
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "state")
