"""`tritbench inspect`, `predict` and `export`, as a user calls them."""

import csv
import gzip
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import CLASSES, images, network, quantized, spec
from PIL import Image

from tritbench import cli, runtime
from tritbench.idx import idx_bytes
from tritbench.models import Checkpoint, save_checkpoint
from tritbench.packing import save_trit


@pytest.fixture
def trit(tmp_path):
    path = tmp_path / "model.trit"
    save_trit(path, quantized("cnn"), spec(), CLASSES, {"dataset": "x"}, "entropy")
    return path


@pytest.fixture
def tritbench(monkeypatch, capsys):
    """Runs a command line; returns exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["tritbench", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def expected(trit, pixels):
    return torch.softmax(runtime.load(trit)(pixels).double(), 1).numpy()


def save_pictures(folder, pixels):
    folder.mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image[0].numpy()).save(folder / f"{index:03}.png")


def test_inspect_shows_layers_and_sizes(trit, tritbench):
    code, output, _ = tritbench("inspect", trit)
    assert code == 0
    lines = output.splitlines()
    assert lines[0].split()[:3] == ["operation", "result", "weight"]
    (line,) = (line for line in lines if "conv2d" in line and "n×6×4×4" in line)
    assert line.split()[3:6] == ["4.weight", "ternary", str(6 * 4 * 9)]
    assert line.endswith(f"{6 * 4 * 4 * 4 * 9:,}")
    for text in ("entropy,", "t81lib's limbs", "float32", 'dataset "x"', "mean 0.2861"):
        assert text in output


def test_inspect_draws_the_graph(trit, tritbench):
    lines = tritbench("inspect", trit, "--mermaid")[1].splitlines()
    assert lines[0] == "flowchart TD"
    assert '    input0(["x<br/>n×1×8×8"])' in lines
    assert '    node0["conv2d<br/>ternary 4×1×3×3<br/>n×4×8×8"]' in lines
    assert "    input0 --> node0" in lines
    assert "    node0 --> node1" in lines


def test_inspect_gives_the_same_facts_to_machines(trit, tritbench):
    facts = json.loads(tritbench("inspect", trit, "--json")[1])
    conv = facts["operations"][0]
    assert (conv["operation"], conv["kind"], conv["weights"]) == ("conv2d", "ternary", 36)
    assert (conv["shape"], conv["result"]) == ([4, 1, 3, 3], ["n", 4, 8, 8])
    assert conv["products"] == 4 * 8 * 8 * 9
    assert 0 < conv["zeros"] < 1
    assert 0 < conv["entropy"] < 1.6
    assert conv["scale_dtype"] == "float32"
    assert facts["file_bytes"] == trit.stat().st_size
    weights = 36 + 216 + 24 * 11 + 33
    assert facts["weights"] == weights
    assert facts["float32_bytes"] == 4 * (weights + 4 + 6 + 11 + 3)
    assert facts["t81_bytes"] == 16 * (4 + 6 * 1 + 11 + 3) + 8 * (4 + 6 + 11 + 3)
    assert facts["provenance"] == {"dataset": "x"}


def test_inspect_shows_a_checkpoint_too(tritbench, tmp_path):
    path = tmp_path / "fp32.safetensors"
    names = ["café", 'b"', "c\x1b[31m"]
    save_checkpoint(path, Checkpoint.of(network("cnn"), spec(), names, {"dataset": "größe"}))
    facts = json.loads(tritbench("inspect", path, "--json")[1])
    weights = 36 + 216 + 24 * 11 + 33
    assert (facts["weights"], facts["codec"], facts["classes"]) == (weights, "float32", names)
    assert facts["float32_bytes"] == 4 * (weights + 4 + 6 + 11 + 3)
    expected = {"kind": "float32", "weights": 36, "bytes": 144, "zeros": 0}
    assert facts["operations"][0] | expected == facts["operations"][0]
    output = tritbench("inspect", path)[1]
    assert 'classes     café, b", c?[31m\n' in output
    assert 'dataset "größe"' in output
    assert any("conv2d" in line and "n×4×8×8" in line for line in output.splitlines())


def test_predict_names_the_class_of_a_picture(trit, tritbench, tmp_path):
    pixels = images(3)
    save_pictures(tmp_path / "pictures", pixels)
    probabilities = expected(trit, pixels)
    path = tmp_path / "pictures" / "001.png"
    code, output, _ = tritbench("predict", trit, path)
    assert code == 0
    best = probabilities[1].argmax()
    assert output.startswith(f"{path}: {CLASSES[best]} {probabilities[1][best]:.1%} (")


def test_predict_takes_folders_and_writes_json(trit, tritbench, tmp_path):
    pixels = images(300)
    save_pictures(tmp_path / "pictures", pixels)
    found = json.loads(tritbench("predict", trit, tmp_path / "pictures", "--json")[1])
    probabilities = expected(trit, pixels)
    assert len(found) == 300
    assert [row["class"] for row in found] == [CLASSES[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose(
        [list(row["probabilities"].values()) for row in found], probabilities, atol=1e-6
    )
    assert found[7]["image"].endswith("007.png")


@pytest.mark.parametrize("compressed", [True, False])
def test_predict_takes_idx_files_and_writes_csv(trit, tritbench, tmp_path, compressed):
    pixels = images(5)
    content = idx_bytes(pixels[:, 0].numpy())
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content if compressed else gzip.decompress(content))
    output = tritbench("predict", trit, path, "--csv")[1]
    header, *rows = csv.reader(io.StringIO(output))
    assert header == ["image", "class", "probability", *CLASSES]
    probabilities = expected(trit, pixels)
    assert [row[0] for row in rows] == [f"{path}[{i}]" for i in range(5)]
    np.testing.assert_allclose(np.array(rows)[:, 3:].astype(float), probabilities, atol=1e-5)


def test_pictures_are_made_what_the_network_takes(trit, tritbench, tmp_path):
    """Color, size, 16 bits, transparency: the picture of a gray square in each."""
    gray = np.full((20, 20), 120, np.uint8)
    made = {
        "gray.png": Image.fromarray(gray),
        "color.jpg": Image.fromarray(gray).convert("RGB"),
        "plain.bmp": Image.fromarray(gray),
        "color.WEBP": Image.fromarray(gray).convert("RGB"),
        "deep.png": Image.fromarray(gray.astype(np.uint16) * 257),
        "clear.png": Image.merge(
            "RGBA", [Image.fromarray(np.full_like(gray, 240))] * 3 + [Image.new("L", (20, 20), 127)]
        ),
    }
    for name, image in made.items():
        image.save(tmp_path / name)
    found = json.loads(tritbench("predict", trit, *(tmp_path / n for n in made), "--json")[1])
    reference = list(found[0]["probabilities"].values())
    for row in found:
        assert list(row["probabilities"].values()) == pytest.approx(reference, abs=0.02)


def test_what_cannot_be_classified_is_one_line(trit, tritbench, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n12345")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "wide").write_bytes(idx_bytes(np.zeros((1, 8, 9), np.uint8)))
    for name, message in {
        "none.png": "no such file",
        "empty": "no pictures",
        "broken.png": "not a PNG, JPEG, BMP or WEBP image",
        "text.txt": "starts with 68656c6c, expected a PNG, JPEG, BMP or WEBP image, or IDX",
        "wide": "images are 8 × 9, expected 8 × 8",
    }.items():
        code, _, error = tritbench("predict", trit, tmp_path / name)
        assert code == 1
        assert message in error
        assert error.startswith("tritbench: error: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_folder_is_read_to_its_end_and_what_is_left_out_is_named(trit, tritbench, tmp_path, form):
    folder = tmp_path / "pictures"
    save_pictures(folder, images(3))
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:60])
    for name in ("a.gif", "b.txt", "c.tiff", "d.gif", ".hidden"):
        (folder / name).touch()
    code, output, error = tritbench("predict", trit, folder, *form)
    assert code == 1
    rows = json.loads(output) if form == ["--json"] else output.splitlines()
    assert len(rows) == 2 + (form == ["--csv"])
    others, broken, summary = error.splitlines()
    assert f"{folder}: left out, not PNG, JPEG, BMP or WEBP: {folder}/a.gif, " in others
    assert others.endswith("c.tiff and 1 more")
    assert broken.startswith(f"tritbench: left out: {folder}/001.png: not a PNG")
    assert summary == "tritbench: error: 1 of 3 files could not be read"


def test_export_writes_what_is_asked_for(trit, tritbench, tmp_path):
    names = {"--gguf": "x.gguf", "--onnx": "x.onnx", "--t81": "x.npz"}
    flags = [part for flag, name in names.items() for part in (flag, tmp_path / name)]
    code, output, _ = tritbench("export", trit, *flags, "--gguf-type", "TQ1_0")
    assert code == 0
    for name in names.values():
        assert (tmp_path / name).stat().st_size > 0
        assert name in output
    assert tritbench("export", trit)[0] == 2
    assert tritbench("export", tmp_path / "none.trit", "--t81", tmp_path / "y")[0] == 1


def test_what_needs_no_extra_imports_none():
    """`pip install tritbench` brings NumPy and safetensors for these commands."""
    modules = "inspect, predict, export"
    check = f"import sys; from tritbench.commands import {modules}"
    check += "; assert not {'pydantic', 'scipy', 'torch', 'ruamel'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
