import datetime
import re
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
        ("data", "dataset", "path:"),
        ("data", "dataset", "path:/a\x1b[31m"),
        ("data", "mirrors", ["ftp://x"]),
        ("ptq", "method", "magic"),
        ("qat", "method", "magic"),
        ("qat", "distill", 2.0),
        ("packing", "codec", "zip"),
        ("evaluate", "batch_sizes", []),
        ("evaluate", "batch_sizes", [4, 4]),
        ("train", "device", "tpu"),
        ("train", "threads", True),
        ("train", "launcher", "none 'such"),
        ("train", "launcher", ""),
        ("train", "launcher", 2),
        ("train", "warmup", 1.0),
        ("qat", "frozen_epochs", 9),
        ("ptq", "calibration", 15),
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
    with pytest.raises(TritbenchError, match=r"model\.mine = None: expected an entry"):
        parse_params(content)
    content["model"]["mine"] = {}
    with pytest.raises(TritbenchError, match=r"model\.mine\.factory"):
        parse_params(content)


def test_networks_whose_folders_would_be_one_are_refused(content):
    content["models"] = ["mlp", "mlp"]
    with pytest.raises(TritbenchError, match="each model once"):
        parse_params(content)
    content["models"] = ["mlp", "MLP"]
    with pytest.raises(TritbenchError, match="each model once, whatever its case"):
        parse_params(content)


@pytest.mark.parametrize("factory", [":", "a:", ":b", "a b:c", "a:b:c", 3, None])
def test_a_factory_is_a_module_and_a_function(content, factory):
    content["model"]["mlp"] = {"factory": factory}
    with pytest.raises(TritbenchError, match=r"model\.mlp\.factory = .*package\.module:name"):
        parse_params(content)


@pytest.mark.parametrize(
    ("key", "settings"),
    [("hidden.0", {"hidden": [0]}), ("hidden", {"hidden": 0}), ("hidden.1", {"hidden": [4, -1]})],
)
def test_no_layer_is_empty(content, key, settings):
    content["model"]["mlp"] = settings
    with pytest.raises(TritbenchError, match=rf"model\.mlp\.{key} = .*: expected more than 0"):
        parse_params(content)


def test_one_network_is_a_list_too(content):
    content["models"] = "linear"
    message = r"models = 'linear': expected a list, such as \['linear'\]"
    with pytest.raises(TritbenchError, match=message):
        parse_params(content)


def test_a_wrong_value_is_shown_in_part(content):
    value = ["x" * 10_000] * 1000
    for _ in range(100):  # as aliases of YAML would
        value = {"b": value, "a": value}
    content["seed"] = value
    with pytest.raises(TritbenchError, match=r"seed = \{'b': \{'b': ") as error:
        parse_params(content)
    assert len(str(error.value)) < 100_000
    content["seed"] = "x" * 10_000
    with pytest.raises(TritbenchError) as error:
        parse_params(content)
    assert 200 < len(str(error.value)) < 400


@pytest.mark.parametrize("key", ["train", "evaluate"])
def test_threads_are_bounded_by_the_machine(key, tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    section = re.compile(rf"^({key}:\n(?:  .*\n)*?  threads:) \d+", re.M)
    path.write_text(section.sub(r"\1 7", PARAMS.read_text()))
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    load_params(path)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    message = rf"{key}\.threads = 7: expected at most 6 \(this machine has 6 processors\)"
    with pytest.raises(TritbenchError, match=message):
        load_params(path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    load_params(PARAMS)


@pytest.mark.parametrize(
    "text",
    [
        "models: 2020-13-45",
        "a: !!int x",
        f"seed: {'9' * 5000}",
        "a: " + "[" * 900,
        "[" * 100_000 + "]" * 100_000,  # libyaml would end the process
        "- " * 5000,
        "a: {b: c:d, e: 1}",  # as for DVC
        "a: [https://mirror]",
        "a: 1\na: 2",
        "a: \x1b",
    ],
)
def test_what_is_no_yaml_is_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(TritbenchError, match=rf"^{path}: not YAML: ") as error:
        load_params(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "3", "[]", "1: 2", "a: &x [*x]", "? [1]\n: 2", "seed: .nan"])
def test_what_is_yaml_and_no_parameters_is_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(TritbenchError, match=rf"^{path}: ") as error:
        load_params(path)
    assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("value", [datetime.date(2020, 1, 1), b"x", {1}, {1: 2}])
def test_settings_of_a_network_are_what_json_can_say(content, value):
    content["model"]["mlp"] = {"hidden": value}
    with pytest.raises(TritbenchError, match=r"model\.mlp\.hidden"):
        parse_params(content)


def test_settings_that_hold_themselves_are_refused(content):
    content["model"]["mlp"]["hidden"] = content["model"]["mlp"]
    with pytest.raises(TritbenchError, match=r"model\.mlp\.hidden.*: expected"):
        parse_params(content)


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


def test_a_preset_is_a_mapping(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/odd.yaml").write_text("[1]")
    with pytest.raises(TritbenchError, match=r"presets/odd\.yaml: \[1\]: expected a mapping"):
        read_preset("odd")
