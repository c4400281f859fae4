"""Weights that others trained, in the pipeline: checked and imported, not trained."""

from pathlib import Path

import pytest
import torch
from tiny import write_tiny_dataset

from tritbench import data
from tritbench.errors import TritbenchError
from tritbench.files import read_yaml
from tritbench.measure.rows import recipes
from tritbench.models import make
from tritbench.params import parse_params
from tritbench.pipeline.fp32 import train_fp32

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup(tmp_path):
    dataset = data.load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    weights = tmp_path / "mine.pt"
    content = read_yaml(ROOT / "params.yaml")
    content["models"] = ["linear"]
    content["model"]["linear"] = {"weights": str(weights)}
    content["train"]["threads"] = 1
    return parse_params(content), dataset, weights


def test_imported_weights_are_the_checkpoints_and_said_to_be(setup):
    params, dataset, weights = setup
    state = make("linear", {}, dataset.image_shape, len(dataset.classes), 7).state_dict()
    torch.save({"state_dict": state}, weights)
    checkpoint, curve = train_fp32(params, "linear", dataset, "linear")
    assert all(torch.equal(checkpoint.state[name], value) for name, value in state.items())
    assert [epoch.epoch for epoch in curve] == [0]
    assert checkpoint.provenance["weights"]["file"] == "mine.pt"
    assert recipes(params, "linear")["fp32"]["method"] == "imported"


def test_weights_that_do_not_fit_are_refused_before_anything_is_trained(setup):
    params, dataset, weights = setup
    torch.save({"1.weight": torch.zeros(2, 2)}, weights)
    with pytest.raises(TritbenchError, match=r"mine\.pt does not fit.*1\.bias is missing"):
        train_fp32(params, "linear", dataset, "linear")
