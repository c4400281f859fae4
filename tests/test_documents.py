"""Figures in the pages are those of the committed results."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_docs import PAGES, ROOT

from tritbench.commands import docs
from tritbench.errors import TritbenchError
from tritbench.report.documents import BLOCK, FIGURES, filled


def outputs(pipeline):
    """The files that the stages of a dvc.yaml write."""
    for stage in YAML(typ="safe").load(ROOT / pipeline)["stages"].values():
        for entry in [*stage.get("outs", []), *stage.get("plots", [])]:
            yield from [entry] if isinstance(entry, str) else entry


@pytest.fixture
def root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_are_not_stale(root, page):
    text = page.read_text()
    assert filled(text, page.name) == text, "run tritbench docs"


def test_all_figures_are_shown_and_come_from_files_that_a_run_writes():
    """The pipelines, also those whose run may be yet to come; or files that are there."""
    names = {name for page in PAGES for _, name, _ in BLOCK.findall(page.read_text())}
    assert set(FIGURES) <= names
    sources = {FIGURES[name][0] if name in FIGURES else Path(name) for name in names}
    pipelines = ("dvc.yaml", "methods/dvc.yaml", "scenarios/dvc.yaml")
    written = {Path(out) for path in pipelines for out in outputs(path)}
    assert not [s for s in sources if s not in written and not (ROOT / s).is_file()]


def test_the_command_writes_a_runs_figures_into_the_pages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").mkdir()
    for name in ("quantization_runs.csv", "peers.csv", "latency.json", "methods_raw.csv"):
        text = (ROOT / "benchmarks" / name).read_text()
        (tmp_path / "benchmarks" / name).write_text(re.sub(r"\bmlp\b", "mine", text))
    page = tmp_path / "README.md"
    page.write_text((ROOT / "README.md").read_text())
    docs.run()
    assert capsys.readouterr().out == "docs: README.md\n"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| mine |")]
    assert rows == [
        line.replace("| mlp |", "| mine |")
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("| mlp |")
    ]
    docs.run()
    assert capsys.readouterr().out == "docs: nothing to change\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- figures:resluts -->\n<!-- /figures -->", "page: figures:resluts: expected results"),
        ("<!-- figures:results -->\n", "page: expected <!-- /figures --> after"),
    ],
)
def test_a_wrong_block_is_named(root, text, message):
    with pytest.raises(TritbenchError, match=message):
        filled(text, "page")
