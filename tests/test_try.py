"""`tritbench try`: the answer for a network and images of one's own."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_network import write_network_and_pictures
from PIL import Image

import tritbench
from tritbench import data
from tritbench.attempt import Attempt, attempt, parameters
from tritbench.commands import attempt as command
from tritbench.errors import TritbenchError
from tritbench.params import load_params, parse_params
from tritbench.pipeline.fp32 import train_fp32

ROOT = Path(__file__).parents[1]
MEAN = STD = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network_and_pictures(tmp_path_factory.mktemp("mine"))


@pytest.fixture
def inside(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return tmp_path / "out"


def asked(out: Path, **changes: object) -> Attempt:
    settings = {"weights": Path("my.safetensors"), "latency": False} | changes
    return Attempt("my_networks:make", "pictures", out, **settings)  # type: ignore[arg-type]


def test_the_answer_says_what_was_read_and_what_ternary_costs(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run(asked(inside, mean=MEAN, std=STD))
    text = capsys.readouterr().out
    assert text.endswith((inside / "report.txt").read_text())
    for part in (
        "my_networks:make, weights of my.safetensors: ",
        "multiplications an image",
        "pictures: 200 train, 40 validation, 90 test, 3×16×16, 3 classes",
        "normalized as given",
        "layers disturb the logits most",
        f"In {inside}/: peers.csv, ptq.trit, runs.csv, report.txt",
    ):
        assert part in text
    fp32, ptq = (re.search(rf"make +{mode} +([\d.]+)% \[", text) for mode in ("FP32", "PTQ"))
    assert fp32
    assert ptq
    assert float(fp32[1]) > 90
    assert float(ptq[1]) > 60
    pixels = np.stack([np.asarray(Image.open(p)) for p in Path("pictures/test/both").iterdir()])
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    logits = tritbench.load(inside / "ptq.trit")(images)
    assert np.mean(logits.argmax(1) == 1) > 0.5


def test_the_normalization_is_found_where_nobody_says_it(inside: Path) -> None:
    found = attempt(asked(inside))
    assert found.checkpoint.input.mean == MEAN
    assert found.checkpoint.input.std == STD
    assert found.normalization.startswith("to -1..1, the best of 4")


def test_the_pipeline_takes_weights_with_the_normalization_that_they_have(inside: Path) -> None:
    params = parameters(asked(inside, mean=MEAN, std=STD))
    assert params.model["make"]["normalize"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    dataset = data.load(data.fetch(params.data, 0, into=inside), params.data.validation, 0)
    checkpoint, (imported,) = train_fp32(params, "make", dataset, "make")
    assert (checkpoint.input.mean, checkpoint.input.std) == (MEAN, STD)
    assert imported.val_accuracy > 0.9


@pytest.mark.parametrize(
    "given",
    [None, [0.5], {"mean": [0.5]}, {"mean": [0.5], "std": [0.0]}, {"mean": "x", "std": [1]}],
)
def test_a_normalization_that_is_none_is_named(given: object) -> None:
    content = load_params(ROOT / "params.yaml").model_dump()
    content["model"]["mlp"]["normalize"] = given
    with pytest.raises(TritbenchError, match=r"model\.mlp\.normalize.*expected \{mean: "):
        parse_params(content)


def test_images_are_decoded_once_and_again_where_they_changed(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise TritbenchError("decoded anew")

    first = attempt(asked(inside, mean=MEAN, std=STD))
    monkeypatch.setattr(data, "fetch", fetch)
    again = attempt(asked(inside, mean=MEAN, std=STD))
    assert again.dataset.sha256 == first.dataset.sha256
    with pytest.raises(TritbenchError, match="decoded anew"):
        attempt(asked(inside, size=8))


def test_qat_is_a_third_mode(inside: Path) -> None:
    found = attempt(asked(inside, mean=MEAN, std=STD, qat=1))
    assert [row["mode"] for row in found.result.rows] == ["fp32", "ptq", "qat"]
    assert (inside / "qat.trit").exists()


def test_what_it_is_not_told_is_in_params_yaml(inside: Path) -> None:
    params, default = parameters(asked(inside)), load_params(ROOT / "params.yaml")
    assert params.quantize == default.quantize
    assert params.ptq == default.ptq
    assert params.packing == default.packing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": Path("none.pt")}, "none.pt: no such file"),
        ({"mean": (0.5,), "std": (0.5,)}, "mean and std of 1 and 1 channels, expected 3"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    inside: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TritbenchError, match=message):
        attempt(asked(inside, **changes))


def documented() -> set[str]:
    """The commands of this kind in README and in the page for newcomers."""
    pages = (ROOT / "README.md", ROOT / "docs/your-network.md")
    lines = (re.findall(r"^tritbench try .*$", page.read_text(), re.MULTILINE) for page in pages)
    return {line for page in lines for line in page}


def test_the_commands_of_the_docs_run(place: Path, tmp_path: Path) -> None:
    assert len(documented()) == 3
    for line in sorted(documented()):
        for theirs, ours in (
            ("torchvision.models:resnet18", "my_networks:make"),
            ("flowers.pth", "my.safetensors"),
            ("flowers/", "pictures"),
            ("/path/to/images", "pictures"),
            (" --size 224", " --size 16"),
            (" --qat 5", " --qat 1"),
        ):
            line = line.replace(theirs, ours)
        arguments = [*line.split()[1:], "--no-latency", "--out", str(tmp_path / "out")]
        done = subprocess.run(
            [sys.executable, "-m", "tritbench", *arguments],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "PTQ" in done.stdout
