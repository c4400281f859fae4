"""What the docs show of params.yaml and sweep files is read by DVC, before and after its `-S`."""

import re

import pytest
from clones import ROOT, commit, dvc, run
from dvc.utils.serialize import parse_yaml
from ruamel.yaml import YAML
from test_docs import PAGES, blocks

from tritbench.files import read_yaml

SNIPPETS = [block for page in PAGES for block in blocks(page, "yaml")]
SNIPPETS += [
    snippet
    for comment in re.findall("#.*", (ROOT / "params.yaml").read_text())
    for snippet in re.findall("`([^`]*: [^`]*|- [^`]*)`", comment)
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_dvc_and_tritbench_read_the_same(snippet, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(snippet)
    assert read_yaml(path) == parse_yaml(snippet, str(path))


def test_a_network_of_ones_own_and_mirrors_survive_a_change_by_dvc(tmp_path):
    """DVC rewrites the whole file at `-S`, and drops quotation marks that it holds for needless."""
    (documented,) = (text for text in SNIPPETS if "factory: torchvision.models:resnet18" in text)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["model"] |= yaml.load(documented)["model"]
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    stage = {"cmd": "touch done", "outs": ["done"], "params": ["model", "data.mirrors"]}
    yaml.dump({"stages": {"download": stage}}, tmp_path / "dvc.yaml")
    for command in (
        "git init -q",
        "git config user.email test@localhost",
        "git config user.name t",
    ):
        run(tmp_path, *command.split())
    dvc(tmp_path, "init", "-q")
    commit(tmp_path)
    for change in ("data.mirrors=['https://a.b/','http://c']", "model.mine.train.epochs=7"):
        dvc(tmp_path, "exp", "run", "-S", change)
    found = read_yaml(tmp_path / "params.yaml")
    assert found["data"]["mirrors"] == ["https://a.b/", "http://c"]
    mine = parse_yaml(documented, "docs")["model"]["mine"]
    assert found["model"]["mine"] == mine | {"train": mine["train"] | {"epochs": 7}}
    assert "epochs" in dvc(tmp_path, "params", "diff")
