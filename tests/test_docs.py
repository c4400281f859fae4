"""The docs: every command in them runs, every Python block, every link leads somewhere.

A new command fails `test_every_command_is_accounted_for` until COMMANDS says what to run for it.
"""

import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from clones import ROOT, make_clone, reruns, run, up_to_date_stand_ins
from PIL import Image
from ruamel.yaml import YAML
from tiny import write_tiny_dataset
from torch import nn

PAGES = [ROOT / name for name in ("README.md", "BENCHMARKS.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


@dataclass(frozen=True)
class Elsewhere:
    """Where a command is run instead, or why it is not."""

    why: str


AS_IT_IS = ""
TRACED = "torch trace"  # CONTRIBUTING.md's peer


# The real command on stages that do nothing, and the real check of the parameters.
CHANGE = Elsewhere("test_the_changes_run")
PREPARED = Elsewhere("the environment of the tests is what it makes")
COMMANDS: dict[str, str | Elsewhere] = {
    # README.md
    "pip install 'tritbench[torch]'": PREPARED,
    "make benchmark": "make benchmark READY=",
    "make test": Elsewhere("it runs this test"),
    "make check": Elsewhere("make test runs its tests"),
    "source .venv/bin/activate": PREPARED,
    'git add -A && git commit -m "My baseline"': AS_IT_IS,
    "dvc exp run -S quantize.threshold=0.8": AS_IT_IS,
    "dvc metrics diff": AS_IT_IS,
    "dvc exp run -S 'models=[linear]'": CHANGE,
    "dvc exp run -S quantize.granularity=group:64": CHANGE,
    "dvc exp run -S data.dataset=kmnist": CHANGE,
    "tritbench run --preset small": Elsewhere("test_a_preset_is_a_change_of_parameters"),
    "dvc exp run -S train.device=cuda": CHANGE,
    "dvc plots show": AS_IT_IS,
    "export FASHION_MNIST_DIR=/path/to/fashion-mnist": AS_IT_IS,
    "tritbench try my_networks:make --weights my.safetensors --data /path/to/images": Elsewhere(
        "tests/test_try.py"
    ),
    "python scripts/ternary_quantization_benchmark.py --model linear --threshold 0.6 "
    "--output runs.csv": AS_IT_IS,
    "tritbench inspect models/mlp/qat.trit": AS_IT_IS,
    "tritbench predict models/mlp/qat.trit coat.png photographs/": AS_IT_IS,
    "tritbench export models/mlp/qat.trit --gguf mlp.gguf --onnx mlp.onnx --t81 mlp.npz": AS_IT_IS,
    # CONTRIBUTING.md
    "make format": "make format READY=",
    "tritbench docs": AS_IT_IS,
    # docs/artifacts.md
    "tritbench predict models/mlp/qat.trit coat.png shoe.jpg": AS_IT_IS,
    "tritbench predict models/mlp/qat.trit photographs/ --csv > found.csv": AS_IT_IS,
    "tritbench predict models/mlp/qat.trit t10k-images-idx3-ubyte.gz --json": AS_IT_IS,
    "pip install 'tritbench[export]'": PREPARED,
    # docs/engine.md
    "tritbench export models/mlp/qat.trit --program net.tb": Elsewhere("tests/test_c_api.py"),
    "make lib": Elsewhere("tests/test_c_api.py"),
    "cc -Iinclude examples/classify.c build/c/libtritbench.a -lstdc++ -lm -lpthread -o classify": (
        Elsewhere("tests/test_c_api.py")
    ),
    "./classify net.tb image.raw": Elsewhere("tests/test_c_api.py"),
    # docs/format.md
    "python tests/fuzz_trit.py --count 1000000 --seed 0": "python tests/fuzz_trit.py --count 200",
    # docs/graphs.md
    "dvc repro zoo/dvc.yaml": "dvc stage list zoo/dvc.yaml",
    # docs/cifar10.md
    "export CIFAR10_DIR=/path/to/cifar10": Elsewhere("tests/test_torchvision_sets.py"),
    "ln -s /path/to/state-dicts zoo/weights": Elsewhere("tests/test_imported_weights.py"),
    "dvc repro zoo/cifar10/dvc.yaml": "dvc stage list zoo/cifar10/dvc.yaml",
    # docs/installing.md
    "python -m tritbench.runtime": AS_IT_IS,
    "make wheel": Elsewhere("tests/test_wheel.py"),
    # docs/measuring.md
    "dvc repro scenarios/dvc.yaml": "dvc stage list scenarios/dvc.yaml && "
    "python -m scenarios.measure 0.01",
    # docs/methods.md
    "dvc exp run -S ptq.method=optimal": CHANGE,
    "dvc exp run -S qat.method=ttq": CHANGE,
    "dvc repro methods/dvc.yaml": "dvc stage list methods/dvc.yaml",
    # docs/reviews.md
    "tritbench compare main": Elsewhere("tests/test_compare.py"),
    "tritbench compare main bold-tit": Elsewhere("tests/test_compare.py"),
    "dvc exp show --only-changed": AS_IT_IS,
    "dvc plots diff": AS_IT_IS,
    "tritbench history --csv history.csv --html history.html": AS_IT_IS,
    # docs/sharing.md
    "dvc exp run -S quantize.threshold=0.6": CHANGE,
    "dvc metrics diff --md > diff.md": AS_IT_IS,
    "git checkout -b threshold-0.6": AS_IT_IS,
    "git add params.yaml dvc.lock inputs benchmarks docs/diagrams && "
    'git commit -m "Threshold 0.6"': AS_IT_IS,
    "dvc remote add --default shared /mnt/shared/tritbench": "dvc remote add -d shared ../remote",
    "dvc push --run-cache": AS_IT_IS,
    "dvc exp show --md": AS_IT_IS,
    "dvc exp list": AS_IT_IS,
    # docs/scale.md
    "python scripts/sweep_overhead.py --points 200 --jobs 1": Elsewhere("the next, with one job"),
    "python scripts/sweep_overhead.py --points 200 --jobs 2": "python scripts/sweep_overhead.py "
    "--points 2 --jobs 2",
    # docs/sweeps.md
    "tritbench sweep sweeps/thresholds.yaml": Elsewhere("tests/test_sweep.py, with fewer points"),
    "pip install 'tritbench[ray]'": PREPARED,
    "pip install 'tritbench[optimize]'": PREPARED,
    "tritbench sweep sweeps/thresholds.yaml --time": Elsewhere("tests/test_sweep.py"),
    "tritbench sweep sweeps/thresholds.yaml --optimize 40": Elsewhere("tests/test_sweep.py"),
    "git push && dvc push": Elsewhere("tests/test_sweep_ray.py"),
    # docs/zoo.md; `dvc repro zoo/dvc.yaml` is above
    "dvc repro download": AS_IT_IS,
    # docs/your-network.md
    "pip install 'tritbench[data,pipeline]'": PREPARED,
    "tritbench try torchvision.models:resnet18 --weights flowers.pth --data flowers/ "
    "--size 224": Elsewhere("tests/test_try.py"),
    "tritbench try torchvision.models:resnet18 --weights flowers.pth --data flowers/ "
    "--size 224 --qat 5": Elsewhere("tests/test_try.py"),
    # docs/training.md
    "dvc exp run -S 'train.launcher=torchrun --standalone --nproc-per-node 2'": CHANGE,
}


def blocks(page, *languages):
    """The fenced blocks of a page in any of these languages."""
    fence = rf"^```(?:{'|'.join(languages)})\n(.*?)^```"
    return re.findall(fence, page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page):
    """The commands of a page, without prompt and comment, continued lines joined."""
    lines = "\n".join(blocks(page, "sh", "console")).replace("\\\n", " ").splitlines()
    without = (re.sub(r"(^|\s+)#.*", "", line.removeprefix("$ ")) for line in lines)
    return [re.sub(r"\s+", " ", line) for line in without if line]


def test_every_command_is_accounted_for():
    assert {command for page in PAGES for command in commands(page)} == set(COMMANDS)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with tiny settings, brought up to date, and the pictures that the docs speak of."""
    dataset = write_tiny_dataset(tmp_path_factory.mktemp("images") / "toys")
    folder = make_clone(tmp_path_factory.mktemp("docs") / "clone", dataset, ["mlp"])
    shutil.copy(dataset / "t10k-images-idx3-ubyte.gz", folder)
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    (folder / "photographs").mkdir()
    for name in ("coat.png", "shoe.jpg", "photographs/hat.png"):
        picture.save(folder / name)
    run(folder, "make", "benchmark", "READY=")  # without .venv, which the tests run in
    return folder


def test_the_commands_run(clone, subtests):
    """In the order of COMMANDS, one after another in the same clone: later ones need earlier."""
    for command, how in COMMANDS.items():
        if isinstance(how, str):
            with subtests.test(command):
                run(clone, "bash", "-c", how or command)


def test_the_changes_run(tmp_path, subtests):
    """Those of parameters that take a GPU, a download or minutes, with stages that do nothing."""
    folder = up_to_date_stand_ins(make_clone(tmp_path, "toys", ["mlp"]))
    for command in (command for command, how in COMMANDS.items() if how is CHANGE):
        with subtests.test(command):
            *words, change = shlex.split(command)
            assert words == ["dvc", "exp", "run", "-S"]
            assert reruns(folder, change)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(clone, page, monkeypatch):
    monkeypatch.chdir(clone)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = torch.arange(128 * 64).remainder(251).byte().view(-1, 1, 8, 8)
    packed = {"trits": torch.ones(2, 64, dtype=torch.int8), "scale": torch.ones(2, 1)}
    names = packed | {"bias": torch.zeros(2), "x": images.float().flatten(1)}
    for block in blocks(page, "python"):
        exec(block, names | {"model": network, "images": images, "labels": torch.arange(128) % 3})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def apply(block, root):
    """Make the changes of a `diff` block: lines that are there, "-" and "+"; "…" is any rest."""
    for change in re.split(r"^--- ", block, flags=re.MULTILINE)[1:]:
        name, lines = change.split("\n", 1)
        old, new = (
            "".join(line[1:] for line in lines.splitlines(True) if line[0] in kept)
            for kept in (" -", " +")
        )
        old, new = (text.split("…")[0] for text in (old, new))
        text = (root / name).read_text()
        assert text.count(old) == 1, f"{name}: {old}"
        (root / name).write_text(text.replace(old, new))


def test_what_contributing_shows_works(clone):
    """Each kind of thing that can be added: the lines shown, of one file, are all that it takes."""
    changed = blocks(ROOT / "CONTRIBUTING.md", "diff")
    assert len(changed) == 7
    for block in changed:
        apply(block, clone)
        assert len(re.findall(r"^--- ", block, re.MULTILINE)) == 1
    known = (
        "from tritbench.data.sources import SOURCES; SOURCES['sun397']\n"
        "from tritbench.graph.ops import OPS; OPS['sin']"
    )
    run(clone, sys.executable, "-c", known, PYTHONPATH=str(clone))
    params = YAML().load((clone / "params.yaml").read_text())
    params["models"], params["model"]["narrow"] = ["narrow"], {"units": 4}
    with (clone / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    peers = f"evaluate.peers=['{TRACED}']"
    changes = ["ptq.method=half", "qat.method=clipped", "packing.codec=four", peers]
    flags = [flag for change in changes for flag in ("-S", change)]
    inspect = ["tritbench", "inspect", "models/narrow/qat.trit"]
    run(clone, "dvc", "exp", "run", "evaluate", *flags, PYTHONPATH=str(clone))
    facts = json.loads(run(clone, *inspect, "--json", PYTHONPATH=str(clone)))
    assert facts["codec"] == "four"
    assert [each["operation"] for each in facts["operations"]].count("linear") == 2
    assert TRACED in (clone / "benchmarks/peers.csv").read_text()
