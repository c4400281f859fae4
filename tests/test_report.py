"""The report says what the files say, escapes what users name, and never goes to the network."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tritbench.errors import TritbenchError
from tritbench.report.figures import figures
from tritbench.report.mermaid import mermaid_markdown
from tritbench.report.page import page_html
from tritbench.report.runs import Machine, Results, read_results
from tritbench.report.summary import summary_markdown, table_text

ROOT = Path(__file__).parent.parent
DATASET = "<b>|x"
CLASSES = ["<b>|x", 'say "hi"', "a&b`c", "Ankle boot"]
ENGINE = "test engine <i>"
TITLE = "Ternary & FP32"
PERCENT = {"fp32": 0.9, "ptq": 0.85, "qat": 0.8912}


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_inputs(folder: Path, models: tuple[str, ...] = ("mlp", "cnn")) -> Path:
    runs: list[dict[str, object]] = []
    confusion: list[dict[str, object]] = []
    for number, model in enumerate(models):
        for mode, accuracy in PERCENT.items():
            ternary = mode != "fp32"
            for batch in (1, 128):
                latency = 5e-5 * batch**0.5 * (number + 1) / (4 if ternary else 1)
                runs.append(
                    dict(model=model, mode=mode, batch_size=batch, accuracy=accuracy + 0.01)
                    | dict(loss=0.4, latency_s=latency, bytes=170_000 if ternary else 2_678_824)
                    | dict(test_accuracy=accuracy, test_accuracy_low=accuracy - 0.006)
                    | dict(test_accuracy_high=accuracy + 0.005, latency_p95_s=latency * 1.2)
                    | dict(speedup=4 if ternary else 1, compression=15.76 if ternary else 1)
                    | dict(file_bytes=171_000, bits_per_weight=1.6 if ternary else "")
                    | dict(zeros=0.41 if ternary else "", agreement=1.0, threads=1)
                    | dict(method={"ptq": "gptq", "qat": "lsq"}.get(mode, ""))
                    | dict(dataset=DATASET, seed=7, run_id="r1", git_rev="0123abcdef-dirty")
                    | dict(machine="m1", timestamp="2025-01-02T03:04:05Z")
                    | dict(mcnemar_p={"ptq": 0.5, "qat": 0.0021}.get(mode, ""))
                    | dict(speedup_low=3.9 if ternary else 1, speedup_high=4.1 if ternary else 1)
                    | dict(disturbed=str(mode == "qat" and batch == 128).lower())
                )
            confusion += [
                dict(model=model, mode=mode, actual=a, predicted=p, count=90 if a == p else 3)
                for a in CLASSES
                for p in CLASSES
            ]
        for mode in ("fp32", "qat"):
            epochs = [
                dict(epoch=e, train_loss=1 / e, train_accuracy=0.8, val_loss=1.1 / e)
                | dict(val_accuracy=0.7 + e / 20, lr=0.1)
                for e in (1, 2, 3)
            ]
            write_csv(folder / "training" / model / f"{mode}.csv", epochs)
    write_csv(folder / "quantization_runs.csv", runs)
    write_csv(folder / "confusion.csv", confusion)
    machine = dict(id="m1", cpu="Some CPU", cores=4, isa="AVX2", python="3.11", torch="2.13")
    (folder / "latency.json").write_text(json.dumps({"machine": machine, "engine": ENGINE}))
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_inputs(tmp_path_factory.mktemp("in")), ["mlp", "cnn"])


@pytest.fixture(scope="module")
def svgs(results: Results) -> dict[str, str]:
    return figures(results)


@pytest.fixture(scope="module")
def page(results: Results, svgs: dict[str, str]) -> str:
    return page_html(results, svgs, TITLE, ENGINE)


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


def test_runs_without_timing_and_of_older_revisions_are_read(tmp_path: Path) -> None:
    path = write_inputs(tmp_path, ("mlp",)) / "quantization_runs.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    later = ("mcnemar_p", "speedup_low", "speedup_high", "disturbed")
    old = [{key: value for key, value in row.items() if key not in later} for row in rows]
    write_csv(path, [dict(row) | dict(latency_s="", latency_p95_s="", speedup="") for row in old])
    results = read_results(tmp_path, ["mlp"])
    text = summary_markdown(results.runs, results.machine, ENGINE, TITLE)
    row = next(line for line in text.splitlines() if line.startswith("| mlp | QAT"))
    assert "| -0.88 |" in row
    assert row.endswith("| – | – | – | – |")
    assert "disturbed" not in text
    assert "<svg" in figures(results)["speedup.svg"]
    assert "QAT" in table_text(results.runs)


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


def test_terminal_table_is_aligned_and_names_the_data_set(results: Results) -> None:
    title, _, header, *rows = table_text(results.runs).splitlines()
    assert title.startswith(DATASET)
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


def test_page_needs_no_network_and_no_script(page: str) -> None:
    assert not re.search(r"https?://|@import|url\(", page)
    outline = Outline()
    outline.feed(page)
    sources = [attrs["src"] for _, attrs in outline.tags if "src" in attrs]
    assert len(sources) == 5
    assert all(str(source).startswith("data:image/svg+xml;base64,") for source in sources)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in outline.tags}


def test_page_escapes_names_and_describes_figures(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    tags = [tag for tag, _ in outline.tags]
    assert "b" not in tags
    assert "i" not in tags
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    assert all(attrs.get("alt") for tag, attrs in outline.tags if tag == "img")
    assert "say &quot;hi&quot;" in page
    assert "git checkout 0123abcdef\n" in page


def test_page_begins_with_data_set_machine_and_answer(page: str) -> None:
    top = page[page.index("<h1>") : page.index("<h2>Figures")]
    for text in ("&lt;b&gt;|x", "Some CPU", "89.12% [88.52, 89.62]", "-0.88", "15.8×", "4.00×"):
        assert text in top


def test_figures_name_the_data_set_and_escape(svgs: dict[str, str]) -> None:
    for svg in svgs.values():
        assert "&lt;b&gt;|x" in svg
        assert "<b>" not in svg
        assert not re.search(r"(href|src|url)\W*https?:", svg)


def test_same_results_give_the_same_bytes(results: Results, svgs: dict[str, str]) -> None:
    assert figures(results) == svgs


def test_one_model_is_enough(tmp_path: Path) -> None:
    results = read_results(write_inputs(tmp_path, ("linear",)), ["linear"])
    assert "linear" in page_html(results, figures(results), TITLE, ENGINE)


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
