"""What `inputs` finds of a user's images and code, and of the machine."""

import json
import platform
import shutil
import subprocess
import sys

import pytest
from clones import ROOT
from tiny import write_tiny_dataset

from tritbench.files import sha256
from tritbench.inputs import dataset_hashes, model_hashes
from tritbench.params import DataParams


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository's root: a factory, the modules that it imports, and one that it does not."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "my_networks.py": "import json, torch\nimport blocks.conv\ndef make(): import late",
        "late.py": "from blocks import *",
        "blocks/__init__.py": "",
        "blocks/conv.py": "from . import norm\nfrom .act.relu import relu\nimport missing",
        "blocks/norm.py": "import my_networks",
        "blocks/act/relu.py": "not Python",
        "other.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_code_of_a_factory_is_all_that_it_imports_of_the_users(project):
    found = model_hashes({"factory": "my_networks:make", "width": 64})
    names = ["blocks", "blocks.act.relu", "blocks.conv", "blocks.norm", "late", "my_networks"]
    assert list(found) == names
    assert found["blocks.norm"] == sha256(project / "blocks/norm.py")


def test_nothing_of_the_users_is_run(project):
    (project / "blocks/__init__.py").write_text("raise SystemExit('imported')")
    assert "blocks.conv" in model_hashes({"factory": "blocks.conv:make"})


def test_a_setting_that_names_a_file_is_an_input(project):
    (project / "start.safetensors").write_bytes(b"weights")
    found = model_hashes({"weights": "start.safetensors", "act": "relu", "odd": "\0" * 9000})
    assert found == {"weights=": sha256(project / "start.safetensors")}


@pytest.mark.parametrize("factory", ["absent:make", "blocks.absent:make", ":", "..:x", 7, None])
def test_a_factory_that_is_not_there_is_left_to_the_training(project, factory):
    assert set(model_hashes({"factory": factory})) <= {"blocks"}


def test_installed_packages_and_built_in_networks_have_no_code_of_the_users(project):
    assert model_hashes({"factory": "torchvision.models:resnet18"}) == {}
    assert model_hashes({"hidden": [512]}) == {}


def test_a_users_folder_is_known_by_the_hashes_of_its_files(tmp_path):
    folder = write_tiny_dataset(tmp_path / "toys")
    (folder / "classes.txt").write_text("a\nb\nc\n")
    params = DataParams(dataset=f"path:{folder}", mirrors=[], validation=60)
    before = dataset_hashes(params)
    assert before["classes.txt"] == sha256(folder / "classes.txt")
    (folder / "classes.txt").write_text("a\nb\nd\n")
    assert dataset_hashes(params) != before
    assert dataset_hashes(params.model_copy(update={"dataset": "path:/nowhere"})) == {}
    assert dataset_hashes(params.model_copy(update={"dataset": "mnist"})) == {}


def test_the_stage_names_the_precision_and_needs_no_pytorch(tmp_path):
    """Held to AVX2 no processor multiplies bfloat16; PyTorch takes longer than all that is done."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    stage = str(ROOT / "stages/inputs.py")
    script = f"import runpy, sys; runpy.run_path({stage!r}, run_name='__main__')"
    check = "; assert not {'torch', 'scipy'} & set(sys.modules)"
    environment = {"ATEN_CPU_CAPABILITY": "avx2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script + check]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    written = json.loads((tmp_path / "inputs/model/cnn.json").read_text())
    assert written["files"] == {}
    assert written["network"]["channels"] == [32, 64]
    if platform.machine() == "x86_64":
        assert written["precision"] == "float32"
