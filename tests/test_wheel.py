"""The wheel, installed with NumPy and safetensors alone: no compiler, no checkout, no PyTorch."""

import gzip
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from networks import CLASSES, images, quantized, spec
from own_network import write_network_and_pictures
from PIL import Image

from tritbench import runtime
from tritbench.packing import save_trit

ROOT = Path(__file__).parents[1]
PACKAGE = Path("tritbench/runtime")
SEEN = ("numpy", "safetensors")  # of the packages that are installed here
pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")

PREDICT = """
import sys, time
import numpy as np
start = time.perf_counter()
from tritbench import runtime
seconds = time.perf_counter() - start
model = runtime.load("it.trit")
print(model.engine, runtime.engine_build(), sep="|")
print(model(np.load("images.npy")).tobytes().hex())
print(sorted({"torch", "pydantic", "ruamel", "scipy", "dvc"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Made from a copy of the checkout, with the engine that is compiled already."""
    source = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "_engine*.so")
    shutil.copytree(ROOT / "tritbench", source / "tritbench", ignore=ignored)
    shutil.copytree(ROOT / "include", source / "include")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "params.yaml"):
        shutil.copy(ROOT / name, source)
    tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    built = source / f"build/lib.{tag}" / PACKAGE
    built.mkdir(parents=True)
    # Newer than its sources, so that setuptools takes it as it is.
    engine = next((ROOT / PACKAGE).glob("_engine*.so"))
    shutil.copyfile(engine, built / engine.name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index"]
    run(source, *command, "--no-build-isolation", "-w", "dist", ".")
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """A folder with a .trit file and images, and in `env` an environment with the wheel."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "env", symlinks=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if re.split(r"[-.]", path.name)[0] in SEEN:
            (site / path.name).symlink_to(path)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python")]
    run(folder, *pip, "install", "-q", "--no-deps", "--no-index", str(wheel))
    save_trit(folder / "it.trit", quantized("cnn"), spec(), CLASSES, {})
    save_trit(folder / "small.trit", quantized("cnn"), spec(), CLASSES, {}, "entropy")
    pixels = images(20).numpy()
    np.save(folder / "images.npy", pixels)
    header = b"\0\0\x08\3" + struct.pack(">3I", *pixels.reshape(20, 8, 8).shape)
    (folder / "images.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
    Image.fromarray(pixels.reshape(20, 8, 8)[0]).save(folder / "one.png")
    return folder


def run(folder, *command, check=True, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | variables
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def inside(clean, *arguments, check=True):
    return run(clean, str(clean / "env/bin/python"), *arguments, check=check, PATH="")


def test_it_holds_the_engine_and_not_its_sources(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        required = re.findall(r"^Requires-Dist: (.*)$", archive.read(metadata).decode(), re.M)
    engines = [name for name in names if Path(name).name.startswith("_engine.")]
    assert sorted(Path(name).suffix for name in engines) == [".pyi", ".so"]
    assert not [name for name in names if "/native/" in name or name.endswith("setup.py")]
    always = {re.split(r"[>=<;\s]", line)[0] for line in required if "extra ==" not in line}
    assert always == set(SEEN)


def test_it_runs_a_file_with_the_bits_of_the_engine_here(clean):
    engine, logits, others = inside(clean, "-c", PREDICT).stdout.splitlines()
    expected = runtime.load(clean / "it.trit")
    assert engine == f"{expected.engine}|{runtime.engine_build()}"
    assert logits == expected(np.load(clean / "images.npy")).tobytes().hex()
    assert others == "[]"


def test_its_commands_run(clean):
    facts = json.loads(inside(clean, "env/bin/tritbench", "inspect", "it.trit", "--json").stdout)
    assert facts["classes"] == CLASSES
    command = ["env/bin/tritbench", "predict", "it.trit", "images.gz", "--json"]
    assert len(json.loads(inside(clean, *command).stdout)) == 20
    assert runtime.engine_build() in inside(clean, "-m", "tritbench.runtime").stdout


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("torch", ["-c", "import tritbench.quantize"]),
        ("torch", ["-c", "import tritbench.models"]),
        ("torch", ["-c", "from tritbench.data import load"]),
        ("torch", ["-c", "from tritbench import runtime; runtime.load('fp32.safetensors')"]),
        ("entropy", ["env/bin/tritbench", "inspect", "small.trit"]),
        ("pipeline", ["env/bin/tritbench", "predict", "it.trit", "one.png"]),
        ("pipeline", ["env/bin/tritbench", "run"]),
        ("pipeline", ["env/bin/tritbench", "compare", "HEAD"]),
        ("pipeline", ["env/bin/tritbench", "sweep", "some.yaml"]),
        ("export", ["env/bin/tritbench", "export", "it.trit", "--onnx", "it.onnx"]),
    ],
)
def test_what_is_left_out_is_named_with_the_extra_that_brings_it(clean, extra, arguments):
    result = inside(clean, *arguments, check=False)
    assert result.returncode != 0
    last = result.stderr.splitlines()[-1]
    assert re.search(rf"needs the package \w+: pip install 'tritbench\[{extra}\]'$", last)
    if arguments[0] != "-c":
        assert len(result.stderr.splitlines()) == 1


def test_one_command_answers_for_a_network_of_ones_own(wheel, tmp_path):
    """In an empty folder: no checkout, no repository, no params.yaml."""
    venv.create(tmp_path / "env", symlinks=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "env/bin/python")]
    run(tmp_path, *pip, "install", "-q", "--no-deps", "--no-index", str(wheel))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # PyTorch and the like
    mine = write_network_and_pictures(tmp_path / "mine")
    command = [str(tmp_path / "env/bin/tritbench"), "try", "my_networks:make", "--no-latency"]
    done = run(mine, *command, "--weights", "my.safetensors", "--data", "pictures")
    assert re.search(r"make +PTQ +[\d.]+% \[", done.stdout)
    assert sorted(path.name for path in (mine / "tritbench-make").iterdir()) == [
        "data",
        "fp32.safetensors",
        "peers.csv",
        "ptq.trit",
        "report.txt",
        "runs.csv",
    ]
