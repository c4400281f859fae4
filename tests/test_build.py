"""A build that is what it says: never stale, never silently absent, named in the fingerprint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tritbench import runtime

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")


@pytest.fixture
def checkout(tmp_path):
    """The package with its engine and the sources beside it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tritbench", tmp_path / "tritbench", ignore=ignored)
    shutil.copy(ROOT / "setup.py", tmp_path)
    return tmp_path


def engine_file(checkout):
    return next((checkout / "tritbench/runtime").glob("_engine*.so"))


def run(checkout, code, *, program=(sys.executable, "-c")):
    environment = os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run(
        [*program, code], cwd=checkout, env=environment, capture_output=True, text=True
    )


FINGERPRINT = """
import json
from tritbench.measure.machine import fingerprint
print(json.dumps(fingerprint()))
"""
PREDICT = """
import numpy as np, sys
from packed_networks import FLATTEN, RELU, dense, network, pixels
from tritbench import runtime
random = np.random.default_rng(0)
net = network(FLATTEN, dense(random, 64, 33), RELU, dense(random, 33, 5))
images = pixels(random, 3, net.input.shape)
for mode in ("int8", "exact"):
    for _ in range(2):
        model = runtime.from_packed(net, 1, "auto", mode)
    print(model.engine, model(images).tobytes().hex())
print("torch" in sys.modules)
"""


def test_the_fingerprint_names_the_engines_build(checkout):
    here = json.loads(run(checkout, FINGERPRINT).stdout)
    assert here["engine"] == runtime.engine_build()
    assert here["engine"].startswith("sources ")
    engine_file(checkout).unlink()
    without = json.loads(run(checkout, FINGERPRINT).stdout)
    assert without["engine"] == "none"
    assert without["id"] != here["id"]


@pytest.mark.parametrize("name", ["tritbench/runtime/native/tile.h", "setup.py"])
def test_an_engine_of_other_sources_is_an_error_until_it_is_built(checkout, name):
    with (checkout / name).open("a") as file:
        file.write("\n")
    for code in (FINGERPRINT, PREDICT):
        result = run(checkout, code)
        assert result.returncode != 0
        last = result.stderr.splitlines()[-1]
        assert "built from other sources" in last
        assert last.endswith("run make build")


def test_an_engine_that_does_not_load_is_an_error_with_the_reason(checkout):
    engine_file(checkout).write_bytes(b"no library")
    result = run(checkout, PREDICT)
    assert result.returncode != 0
    assert "the native engine does not load" in result.stderr.splitlines()[-1]
    assert engine_file(checkout).name in result.stderr.splitlines()[-1]


def test_without_the_engine_its_reference_runs_and_says_so_once(checkout):
    with_engine = run(checkout, PREDICT).stdout.split()
    engine_file(checkout).unlink()
    result = run(checkout, PREDICT)
    assert result.returncode == 0, result.stderr
    found = result.stdout.split()
    assert found[:3] == ["NumPy", "reference", "(int8)"]
    assert found[3] == with_engine[4]  # the same bits
    assert found[-1] == "False"  # no PyTorch
    assert result.stderr.count("installed without its native engine") == 1


def build(checkout, compiler):
    environment = os.environ | {"CXX": compiler}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def test_no_compiler_is_said_and_one_that_fails_is_an_error(checkout):
    engine_file(checkout).unlink()
    absent = build(checkout, "no-such-compiler")
    assert absent.returncode == 0
    assert "no C++ compiler: installed without the native engine" in absent.stderr
    assert build(checkout, "false").returncode != 0
    assert not list((checkout / "tritbench/runtime").glob("_engine*.so"))
