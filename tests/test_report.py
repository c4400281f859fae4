"""The report says what the files say, escapes what users name, and never goes to the network."""

import re
import subprocess
import sys
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_files import (
    CLASSES,
    DATASET,
    ENGINE,
    TITLE,
    add_columns,
    evidence,
    full_page,
    write_inputs,
)

from tritbench.errors import TritbenchError
from tritbench.report.figures import figures, mermaid_markdown
from tritbench.report.page import page_html
from tritbench.report.runs import Machine, Results, read_results
from tritbench.report.summary import summary_markdown, table_text

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_inputs(tmp_path_factory.mktemp("in")), ["mlp", "cnn"])


@pytest.fixture(scope="module")
def svgs(results: Results) -> dict[str, str]:
    return figures(results)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return full_page(tmp_path_factory.mktemp("page"))


def test_summary_has_the_measured_numbers(results: Results) -> None:
    text = summary_markdown(results.runs, results.machine, ENGINE, TITLE)
    row = next(line for line in text.splitlines() if line.startswith("| mlp | QAT"))
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert cells == [
        *("mlp", "QAT", "90.12%", r"89.12% \[88.52, 89.62\]", r"-0.88\* (p = 0.002)"),
        *("170 KB", "15.8×", "1.60", "41.0%", "12.5 µs", r"4.00× \[3.90, 4.10\]"),
        *("141 µs", r"\~4.00× \[3.90, 4.10\]"),
    ]
    fp32 = next(line for line in text.splitlines() if line.startswith("| mlp | FP32"))
    assert fp32.count("| – ") == 3
    assert "the machine was disturbed" in text
    assert "Quantization:" not in text  # the columns came later


def test_summary_says_how_the_ternary_networks_were_made(tmp_path: Path) -> None:
    path = write_inputs(tmp_path, ("mlp",)) / "quantization_runs.csv"
    add_columns(path, {"threshold": "0.7", "reference": "absmean", "granularity": "group:64"})
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")
    results = read_results(tmp_path, ["mlp"])
    text = summary_markdown(results.runs, results.machine, ENGINE, TITLE)
    assert "Quantization: threshold 0.7, reference absmean, granularity group:64; " in text


def test_runs_without_timing_and_of_older_revisions_are_read(tmp_path: Path) -> None:
    path = write_inputs(tmp_path, ("mlp",)) / "quantization_runs.csv"
    later = ("mcnemar_p", "speedup_low", "speedup_high", "disturbed")
    add_columns(path, dict.fromkeys(("latency_s", "latency_p95_s", "speedup"), ""), without=later)
    results = read_results(tmp_path, ["mlp"])
    text = summary_markdown(results.runs, results.machine, ENGINE, TITLE)
    row = next(line for line in text.splitlines() if line.startswith("| mlp | QAT"))
    assert "| -0.88 |" in row
    assert row.endswith("| – | – | – | – |")
    assert "disturbed" not in text
    assert "speedup.svg" not in figures(results)
    assert "QAT" in table_text(results.runs, ENGINE)


def test_summary_escapes_names_and_tells_the_circumstances(results: Results) -> None:
    text = summary_markdown(results.runs, results.machine, ENGINE, TITLE)
    assert text.startswith("# Ternary &amp; FP32: &lt;b&gt;\\|x\n")
    assert "<" not in text
    for fact in (
        "Seed: 7",
        "Threads: 1",
        "Some CPU",
        "Run: r1",
        "0123abcdef",
        "PTQ gptq, QAT lsq",
        "test engine",
    ):
        assert fact in text


def test_a_machine_is_told_in_one_line() -> None:
    known = Machine("m1", "Some CPU", "4", "avx2", "3.11", "2.13")
    assert known.text == "Some CPU, 4 cores, avx2, Python 3.11, PyTorch 2.13 (m1)"
    more = replace(known, caches="L1 48K", governor="powersave", virtual=True)
    assert "4 virtual cores, avx2, caches L1 48K, governor powersave, Python" in more.text


def test_terminal_table_is_aligned_and_names_data_set_and_engine(results: Results) -> None:
    title, engine, _, header, *rows = table_text(results.runs, ENGINE).splitlines()
    assert title.startswith(DATASET)
    assert engine == f"ternary engine: {ENGINE}"
    *rows, empty, mark = rows
    assert len(rows) == 6
    assert {len(line) for line in (header, *rows)} == {len(header)}
    assert (empty, mark[:2]) == ("", "~ ")


def test_mermaid_labels_hold_no_syntax(results: Results) -> None:
    text = mermaid_markdown(results.runs, TITLE)
    fences = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert [fence.split()[0] for fence in fences] == ["flowchart", "xychart-beta"]
    for fence in fences:
        assert "#60;b#62;#124;x" in fence
        assert "<b>" not in fence
        assert all(line.count('"') % 2 == 0 for line in fence.splitlines())
    assert "89.12% test accuracy<br/>170 KB, 15.8× smaller<br/>4.00× as fast, batch 1" in fences[0]
    assert "bar [90.00, 85.00, 89.12, 90.00, 85.00, 89.12]" in fences[1]


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    return found


def sections(page: str) -> list[str]:
    """The headings of the page's sections."""
    return re.findall(r"<h2 id=[^>]*>(.*?)</h2>", page)


def test_page_is_one_file_that_may_load_nothing(page: str) -> None:
    tags = outline(page).tags
    policy = next(attrs["content"] for _, attrs in tags if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not {"link", "iframe", "object"} & {tag for tag, _ in tags}
    addresses = [str(a[key]) for _, a in tags for key in ("src", "href") if key in a]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert len(page) < 3_000_000


def test_page_escapes_names_and_describes_pictures(page: str) -> None:
    tags = outline(page).tags
    names = [tag for tag, _ in tags]
    for text in (DATASET, ENGINE, TITLE, "onnxruntime <int8>", *CLASSES[:3]):
        assert text not in page
        assert escape(text) in page.replace("&#34;", "&quot;")
    assert names.count("h1") == 1
    assert names.count("table") == names.count("caption")
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")
    assert all(attrs.get("aria-label") for _, attrs in tags if attrs.get("role") == "img")
    assert "git checkout 0123abcdef\n" in page


def test_page_begins_with_data_set_machine_and_answer(page: str) -> None:
    top = page[page.index("<h1>") : page.index("<nav")]
    for text in ("Some CPU", "−0.88 points", "15.8× smaller", "4.0× as fast"):
        assert text in top
    for text in ("89.12%", "88.52–89.62", "−0.88", "15.8×", "4.00×", "3.90–4.10"):
        assert text in top
    assert escape(DATASET) in page[: page.index("<h1>")]


def test_page_shows_what_a_run_has_and_leaves_out_what_it_has_not(
    page: str, tmp_path: Path
) -> None:
    optional = {"Other runtimes", "Over seeds", "Thresholds"}
    assert optional <= set(sections(page))
    assert "of another run" not in page
    path = write_inputs(tmp_path) / "quantization_runs.csv"
    add_columns(path, dict.fromkeys(("latency_s", "latency_p95_s", "speedup"), ""))
    results = read_results(tmp_path, ["mlp", "cnn"])
    assert (
        {run.latency_s for run in results.runs} == {run.speedup for run in results.runs} == {None}
    )
    bare = page_html(results, evidence(tmp_path, results), TITLE)
    # Of other runtimes it still says which could not be run.
    assert set(sections(page)) - set(sections(bare)) == {"Over seeds", "Thresholds", "Speed"}
    assert "onnxruntime" not in bare
    assert "not &lt;installed&gt;" in bare
    assert "Accuracy by class" in page
    assert "Accuracy by class" not in bare
    assert "speedup.svg" not in figures(results)
    assert "| 170 KB | 15.8× | 1.60 | 41.0% | – | – |" in summary_markdown(
        results.runs, results.machine, ENGINE, TITLE
    )


def test_page_says_what_is_significant_and_where_speed_lies(tmp_path: Path) -> None:
    path = write_inputs(tmp_path) / "quantization_runs.csv"
    columns = {"mcnemar_p": 0.03, "ece": 0.0123, "joules_per_image": 2.5e-6}
    add_columns(path, columns | {"disturbed": "true"})
    results = read_results(tmp_path, ["mlp", "cnn"])
    page = page_html(results, evidence(tmp_path, results), TITLE)
    for text in (
        "4 of 4 differences significant (McNemar, p &lt; 0.05)",
        "<td>−0.88* (p = 0.030)</td>",
        "<td>0.0123</td>",
        "~4.00× [3.90, 4.10]",
        "2.5 µJ",
        "the machine was disturbed",
    ):
        assert text in page


def test_many_classes_do_not_make_a_large_page(tmp_path: Path) -> None:
    path = write_inputs(tmp_path) / "confusion.csv"
    names = [f"class {number}" for number in range(40)]
    rows = [
        f"{m},{mode},{a},{p},1"
        for m in ("mlp", "cnn")
        for mode in ("fp32", "ptq", "qat")
        for a in names
        for p in names
    ]
    path.write_text("model,mode,actual,predicted,count\n" + "\n".join(rows) + "\n")
    results = read_results(tmp_path, ["mlp", "cnn"])
    page = page_html(results, evidence(tmp_path, results), TITLE)
    assert "Confusion matrices" not in page
    assert len(page) < 1_500_000


def test_figures_name_the_data_set_and_escape(svgs: dict[str, str]) -> None:
    for svg in svgs.values():
        assert "&lt;b&gt;|x" in svg
        assert "<b>" not in svg
        assert not re.search(r"(href|src|url)\W*https?:", svg)


def test_same_results_give_the_same_bytes(
    results: Results, svgs: dict[str, str], page: str, tmp_path: Path
) -> None:
    assert figures(results) == svgs
    other = full_page(tmp_path)
    assert other.replace(str(tmp_path), "") == re.sub(r"/[^<]*/page\d", "", page)


def test_one_model_is_enough(tmp_path: Path) -> None:
    results = read_results(write_inputs(tmp_path, ("linear",)), ["linear"])
    page = page_html(results, evidence(tmp_path, results), TITLE)
    # The units of a linear model are the classes.
    assert page.count("linear PTQ, weights of ") == len(CLASSES)
    assert "linear" in figures(results)["accuracy_bytes.svg"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = write_inputs(tmp_path) / "training" / "mlp" / "qat.csv"
    path.unlink()
    with pytest.raises(TritbenchError, match=re.escape(f"{path}: no such file")):
        read_results(tmp_path, ["mlp"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",speedup,", ",velocity,", "line 1: no column 'speedup'"),
        ("mlp,fp32,1,0.91,", "mlp,fp32,1,91,", "line 2: accuracy = '91': expected a number from 0"),
        (",qat,128,", ",qat,2,", "no row for model 'mlp', mode 'fp32', batch size 2"),
        (",ptq,", ",pqt,", "mode = 'pqt': expected one of fp32, ptq, qat"),
        (",m1,", ",m2,", "machine.id = 'm1': expected 'm2'"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_inputs(tmp_path) / "quantization_runs.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(TritbenchError, match=re.escape(message)) as error:
        read_results(tmp_path, ["mlp", "cnn"])
    assert "\n" not in str(error.value)


def test_a_model_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TritbenchError, match="no row for model 'linear'"):
        read_results(write_inputs(tmp_path), ["linear"])


def test_stage_fails_in_one_line_without_params(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "stages" / "report.py")]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("report: error: params.yaml: no such file")
    assert run.stderr.count("\n") == 1
