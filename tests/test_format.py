"""docs/format.md is enough to read a file: a reader written from it gives the same logits."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from format_reader import logits
from networks import SETTINGS
from ternary_files import module, ternary_file

from tritbench import runtime
from tritbench.graph import OPS
from tritbench.packing.codecs import CODECS

PAGE = Path(__file__).parents[1] / "docs/format.md"
V1 = Path(__file__).parent / "fixtures/v1"


def close(path, images):
    expected = runtime.load_reference(path)(images)
    np.testing.assert_allclose(logits(path.read_bytes(), images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", sorted(V1.glob("*.trit")), ids=lambda path: path.stem)
def test_a_file_of_version_1_is_read_by_the_page_alone(path):
    recorded = np.load(V1 / "logits.npz", allow_pickle=False)
    found = logits(path.read_bytes(), recorded["images"])
    np.testing.assert_allclose(found, recorded[f"{path.stem}.float"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize(
    ("codec", "granularity"),
    list(zip(CODECS, ("tensor", "channel", "group:4", "group:5"), strict=True)),
)
@pytest.mark.parametrize("name", [*SETTINGS, "odd", "resnet", "dscnn", "vit"])
def test_a_file_of_version_2_is_read_by_the_page_alone(tmp_path, name, codec, granularity, sides):
    made, taken = module(name)
    path = tmp_path / "it.trit"
    example = torch.zeros(2, *taken.shape)
    path.write_bytes(ternary_file(made, example, taken, granularity, codec, sides=sides))
    images = np.random.default_rng(0).integers(0, 256, (5, *taken.shape)).astype(np.uint8)
    close(path, images)


def test_eight_bits_and_float16_are_read_by_the_page_alone(tmp_path):
    made, taken = module("dscnn")
    path = tmp_path / "it.trit"
    names = {"int8": ["0.0.weight", "13.weight"], "half": ["13.bias", "0.0.weight.scale"]}
    path.write_bytes(ternary_file(made, torch.zeros(2, *taken.shape), taken, **names))
    close(path, np.random.default_rng(0).integers(0, 256, (5, *taken.shape)).astype(np.uint8))


def test_the_page_lists_every_operation_with_its_inputs_and_attributes():
    listed = re.findall(r"^    (\w+\(.*\))$", PAGE.read_text(), re.MULTILINE)
    assert listed == [signature(name) for name in OPS]


def signature(name):
    op = OPS[name]
    attributes = [
        key if attribute.required else f"{key}={json.dumps(attribute.default)}"
        for key, attribute in op.attributes.items()
    ]
    inputs = ", ".join(op.inputs)
    return f"{name}({inputs}; {', '.join(attributes)})" if attributes else f"{name}({inputs})"
