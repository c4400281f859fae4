import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tritbench.errors import TritbenchError
from tritbench.params import load_params, parse_params, read_preset

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def content():
    return YAML(typ="safe", pure=True).load(PARAMS.read_text())


def test_the_repositorys_own_parameters_are_valid():
    assert load_params(PARAMS).models


def test_all_problems_are_reported_together_by_key(content):
    content["quantize"]["threshold"] = 1.5
    content["quantise"] = {}
    content["train"]["batch_size"] = "128"
    del content["qat"]["epochs"]
    with pytest.raises(TritbenchError) as error:
        parse_params(content)
    message = str(error.value)
    assert "quantize.threshold = 1.5: expected auto or a number in (0, 1]" in message
    assert "quantise is not a known key" in message
    assert "train.batch_size = '128': expected a valid integer" in message
    assert "qat.epochs is missing" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("quantize", "threshold", float("nan")),
        ("quantize", "reference", "mean"),
        ("quantize", "granularity", "group:0"),
        ("data", "dataset", "cifar"),
        ("data", "mirrors", ["ftp://x"]),
        ("ptq", "method", "magic"),
        ("qat", "method", "magic"),
        ("qat", "distill", 2.0),
        ("packing", "codec", "zip"),
        ("evaluate", "batch_sizes", []),
        ("train", "device", "tpu"),
        ("train", "threads", True),
        ("train", "launcher", "none 'such"),
        ("train", "launcher", ""),
        ("train", "launcher", 2),
        ("train", "warmup", 1.0),
        ("qat", "frozen_epochs", 9),
        ("ptq", "calibration", {"linear": 50000, "mlp": 15, "cnn": 8192}),
    ],
)
def test_a_wrong_value_names_its_key(content, section, key, value):
    content[section][key] = value
    with pytest.raises(TritbenchError, match=rf"{section}\.{key}"):
        parse_params(content)


def test_settings_that_contradict_each_other_are_refused_by_key(content):
    content["qat"] |= {"method": "lsq", "threshold_warmup": 5}
    content["quantize"]["backend"] = "t81lib"
    with pytest.raises(TritbenchError, match=r"qat\.threshold_warmup = 5: expected 0") as error:
        parse_params(content)
    expected = "quantize.backend = 't81lib': expected native, since ptq.method = descent"
    assert expected in str(error.value)


def test_t81lib_is_looked_up_before_anything_runs(content, monkeypatch):
    content["quantize"]["backend"] = "t81lib"
    content["ptq"]["method"] = "threshold"
    monkeypatch.setitem(sys.modules, "t81lib", None)
    with pytest.raises(TritbenchError, match=r"quantize\.backend .* t81lib installed"):
        parse_params(content)
    monkeypatch.setitem(sys.modules, "t81lib", sys)
    assert parse_params(content).quantize.backend == "t81lib"


def test_every_model_needs_its_entries(content):
    content["models"] = ["linear", "mine"]
    with pytest.raises(TritbenchError, match=r"model\.mine = None: expected an entry") as error:
        parse_params(content)
    assert "train.epochs.mine" in str(error.value)
    content["model"]["mine"] = {}
    with pytest.raises(TritbenchError, match=r"model\.mine\.factory"):
        parse_params(content)


def test_exponents_are_numbers_and_a_missing_or_broken_file_is_one_line(tmp_path):
    text = PARAMS.read_text().replace("learning_rate: 0.004", "learning_rate: 4e-3")
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert load_params(path).qat.learning_rate == 0.004
    path.write_text("a: [")
    with pytest.raises(TritbenchError, match="not YAML"):
        load_params(path)
    with pytest.raises(TritbenchError, match="no such file"):
        load_params(tmp_path / "none.yaml")


def test_a_folder_of_ones_own_gives_the_data_set_its_name(content, tmp_path):
    content["data"]["dataset"] = f"path:{tmp_path / 'birds'}"
    params = parse_params(content)
    assert params.data.name == "birds"
    assert params.data.folder == Path("data/birds")


def test_presets_are_valid_changes(content, monkeypatch):
    monkeypatch.chdir(PARAMS.parent)
    for path in Path("presets").glob("*.yaml"):
        for change in read_preset(path.stem):
            key, value = change.split("=")
            section, name = key.split(".")
            assert name in content[section]
            content[section][name] = YAML(typ="safe", pure=True).load(value)
        parse_params(content)
    with pytest.raises(TritbenchError, match="no such preset, expected one of small"):
        read_preset("tiny")
