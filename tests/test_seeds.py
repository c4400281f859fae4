"""Means, intervals and tests over seeds, and the pipeline of methods that measures them."""

import csv
from pathlib import Path

import pytest
from clones import ROOT
from report_files import DATASET, write_csv, write_inputs
from ruamel.yaml import YAML
from scipy.stats import ttest_1samp
from tiny import write_tiny_dataset

from methods import baseline, measure, table
from tritbench import data
from tritbench.errors import TritbenchError
from tritbench.measure.statistics import MARGIN, equivalence, holm, paired_t, t_interval
from tritbench.params import load_params
from tritbench.report.answer import figures
from tritbench.report.documents import filled
from tritbench.report.result_sections import seeds_section
from tritbench.report.runs import read_results
from tritbench.report.seeds import read_seeds, read_summaries, summaries, summaries_markdown

DIFFERENCES = [-0.31, -0.18, -0.22, -0.27, -0.17]


def seeds(mode, method, tested, model="mlp", phase="confirmation"):
    """A row for each seed, its test accuracy so many points from FP32's 90%."""
    return [
        dict(model=model, mode=mode, method=method, phase=phase, seed=5 + number)
        | dict(accuracy=0.91, fp32_accuracy=0.91 + number / 1000)
        | dict(test_accuracy=0.9 + points / 100, fp32_test_accuracy=0.9, dataset="toys")
        | dict(zeros="" if mode == "control" else 0.5, seconds=number, fp32_seconds=7)
        for number, points in enumerate(tested)
    ]


def found(tmp_path, *rows):
    write_csv(tmp_path / "raw.csv", [row for each in rows for row in each])
    return summaries(read_seeds(tmp_path / "raw.csv"), "confirmation")


def test_intervals_and_p_values_are_students():
    expected = ttest_1samp(DIFFERENCES, 0)
    mean = t_interval(DIFFERENCES)
    assert (mean.low, mean.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert mean.mean == pytest.approx(-0.23)
    assert paired_t(DIFFERENCES) == pytest.approx(expected.pvalue)
    assert paired_t([-value for value in DIFFERENCES]) == pytest.approx(expected.pvalue)


def test_two_networks_are_level_where_both_one_sided_tests_say_so():
    low = ttest_1samp(DIFFERENCES, -0.4, alternative="greater").pvalue
    high = ttest_1samp(DIFFERENCES, 0.4, alternative="less").pvalue
    assert equivalence(DIFFERENCES, 0.4) == pytest.approx(max(low, high))
    assert equivalence(DIFFERENCES, 0.4) < 0.05 < equivalence(DIFFERENCES)
    assert equivalence([0.9, -0.9, 0.0]) > 0.05 < paired_t([0.9, -0.9, 0.0])  # few, far apart


def test_seeds_that_all_say_the_same_leave_no_doubt():
    assert paired_t([0.0] * 5) == 1
    assert equivalence([0.0] * 5) == 0
    assert paired_t([0.5] * 5) == 0
    assert equivalence([0.5] * 5) == 1
    with pytest.raises(ValueError, match="1 values: expected at least two"):
        t_interval([0.5])


def test_holms_correction_is_that_of_his_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_summary_compares_networks_of_the_same_seed(tmp_path):
    fp32, ptq = found(tmp_path, seeds("ptq", "gptq", DIFFERENCES))
    assert (fp32.mode, fp32.seeds, fp32.seconds) == ("fp32", 5, 7)
    assert fp32.accuracy.mean == pytest.approx(91.2)
    assert ptq.test_delta.mean == pytest.approx(-0.23)
    assert ptq.test_accuracy.mean == pytest.approx(89.77)
    assert ptq.delta.mean == pytest.approx(-0.2)
    assert ptq.p == pytest.approx(paired_t(DIFFERENCES))
    assert ptq.p_level == pytest.approx(equivalence(DIFFERENCES))
    assert ptq.finding == "worse"


@pytest.mark.parametrize(
    ("tested", "finding"),
    [
        ([-0.05, 0.03, 0.01, -0.02, 0.04], "level"),
        ([0.05, 0.06, 0.05, 0.04, 0.06], f"better, by less than {MARGIN}"),
        ([0.5, -0.6, 0.4, -0.3, 0.2], "not shown"),
        ([1.0, 1.1, 1.2, 1.0, 1.1], "better"),
    ],
)
def test_what_is_not_significant_is_not_called_level(tmp_path, tested, finding):
    assert found(tmp_path, seeds("qat", "ste", tested))[1].finding == finding


def test_qat_stands_beside_fp32_that_trained_as_long(tmp_path):
    """And p values are corrected for all comparisons of the table, here three."""
    trained_on = [0.1, 0.2, 0.15, 0.1, 0.2]
    rows = seeds("control", "", trained_on), seeds("qat", "ste", DIFFERENCES)
    fp32, control, qat, against = found(tmp_path, *rows)
    assert [each.against for each in (fp32, control, qat, against)] == [
        "",
        "fp32",
        "fp32",
        "control",
    ]
    differences = [a - b for a, b in zip(DIFFERENCES, trained_on, strict=True)]
    assert against.test_delta.mean == pytest.approx(sum(differences) / 5)
    p = holm([paired_t(trained_on), paired_t(DIFFERENCES), paired_t(differences)])
    assert [each.p for each in (control, qat, against)] == pytest.approx(p)
    text = summaries_markdown([fp32, control, qat, against], [("qat", "ste")])
    assert "| mlp | QAT against FP32, trained on | ste\\* | 91.00% |" in text
    assert "by Holm for 3 comparisons" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 1.2}, "raw.csv, line 2: accuracy = '1.2': expected a number from 0 to 1"),
        ({"mode": "pqt"}, "raw.csv, line 2: mode = 'pqt': expected 'control', 'ptq' or 'qat'"),
        ({"seconds": "soon"}, "raw.csv, line 2: seconds = 'soon': expected a valid number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, change, message):
    with pytest.raises(TritbenchError, match=message):
        found(tmp_path, [row | change for row in seeds("ptq", "gptq", DIFFERENCES)])


def test_one_seed_says_nothing(tmp_path):
    with pytest.raises(TritbenchError, match="mlp ptq gptq: one seed, expected at least two"):
        found(tmp_path, seeds("ptq", "gptq", [0.1]))


def test_the_committed_tables_follow_from_the_committed_rows(monkeypatch):
    monkeypatch.chdir(ROOT)
    raw = Path("benchmarks/methods_raw.csv")
    if not raw.exists():
        pytest.skip("dvc repro methods/dvc.yaml has not been run here")
    for path, content in table.tables(raw, load_params()).items():
        assert path.read_text() == content, path


def test_the_page_and_the_readme_show_the_fresh_seeds(tmp_path, monkeypatch):
    """The page those of its data set and methods, in place of the run's one seed."""
    write_inputs(tmp_path / "benchmarks", ("mlp",))
    rows = seeds("control", "", [0.1] * 5) + seeds("ptq", "gptq", DIFFERENCES)
    rows += seeds("qat", "lsq", [-0.05, 0.03, 0.01, -0.02, 0.04])
    path = tmp_path / "benchmarks/methods_raw.csv"
    write_csv(path, [row | {"dataset": DATASET} for row in rows])
    results = read_results(tmp_path / "benchmarks", ["mlp"])
    summaries = read_summaries(path, ["mlp"], DATASET)
    first = figures(results, summaries)[0]
    assert first.value == "−0.23 to +0.00 points"
    assert first.meaning == "against FP32, means of 5 seeds; of 2: 1 worse, 1 level"
    assert "means of" not in figures(results, read_summaries(path, ["mlp"], "another"))[0].meaning
    assert "means of" not in figures(results, summaries[:2])[0].meaning
    (table,) = seeds_section(summaries).blocks
    assert [row[1] for row in table.rows][-1] == "QAT against FP32, trained on"
    assert seeds_section([]) is None
    monkeypatch.chdir(tmp_path)
    page = filled("<!-- figures:seeds -->\n<!-- /figures -->", "README.md")
    assert r"| mlp | QAT | 90.00% \[89.96, 90.05\] | +0.00 \[-0.04, +0.05\] | level |" in page
    assert "trained on" not in page


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder in which every stage of methods/dvc.yaml has run, on tiny images and two seeds."""
    folder = tmp_path_factory.mktemp("methods")
    toys = write_tiny_dataset(folder / "toys")
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["models"] = ["mlp"]
    params["data"] |= {"dataset": f"path:{toys}", "validation": 60}
    params["model"] = {"mlp": {"hidden": [16]}}
    params["train"] |= {"epochs": 1, "batch_size": 16, "threads": 1}
    params["qat"]["epochs"] = 1
    params["ptq"]["calibration"] = 64
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(baseline, "SEEDS", {"selection": range(2), "confirmation": range(5, 7)})
        patch.setattr(measure, "SEEDS", baseline.SEEDS)
        patch.setattr(measure, "THRESHOLDS", [0.5, 0.8])
        patch.setattr(measure, "CURVES", ["threshold"])
        settings = load_params()
        data.fetch(settings.data, settings.seed)
        for phase in baseline.SEEDS:
            baseline.main("mlp", phase)
        for method in ("optimal", "descent"):
            measure.ptq(settings, "mlp", method)
        measure.qat(settings, "mlp", "ste")
        for stage in (measure.threshold_curve, measure.confirm, measure.control):
            stage(settings, "mlp")
        table.main()
    return folder


def test_the_rows_hold_every_network_of_every_seed(measured):
    rows = read_seeds(measured / "benchmarks/methods_raw.csv")
    made = {(row.phase, row.mode, row.method, row.seed) for row in rows}
    selection = [("ptq", "optimal"), ("ptq", "descent"), ("qat", "ste")]
    confirmation = [("ptq", "descent"), ("qat", "ste"), ("control", "")]
    assert made == {
        *(("selection", *how, seed) for how in selection for seed in (0, 1)),
        *(("confirmation", *how, seed) for how in confirmation for seed in (5, 6)),
    }
    assert {row.dataset for row in rows} == {"toys"}
    assert all((row.zeros is None) == (row.mode == "control") for row in rows)


def test_tables_show_validation_first_and_the_defaults(measured):
    with (measured / "benchmarks/methods.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    assert columns.index("accuracy_mean") < columns.index("test_accuracy_mean")
    assert {row["method"] for row in rows if row["is_default"] == "true"} == {"descent", "ste"}
    assert [row["mode"] for row in rows if row["against"] == "control"] == ["qat"]
    lines = (measured / "benchmarks/methods.md").read_text().splitlines()
    assert [line.split(" | ")[2] for line in lines[2:6]] == ["–", "descent\\*", "optimal", "ste\\*"]
    assert "FP32, trained on" in (measured / "benchmarks/confirmation.md").read_text()


def test_the_curve_of_thresholds_is_of_validation_images(measured):
    with (measured / "benchmarks/sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert "validation accuracy" in (measured / "benchmarks/thresholds.svg").read_text()


def test_a_run_that_was_measured_again_has_the_same_rows(measured, monkeypatch):
    monkeypatch.chdir(measured)
    monkeypatch.setattr(measure, "SEEDS", {"confirmation": range(5, 7)})
    before = read_seeds(Path("benchmarks/methods_raw.csv"))
    measure.control(load_params(), "mlp")
    again = table.read(Path("methods/results/control/mlp.csv"))
    kept = [row.test_accuracy for row in before if row.mode == "control"]
    assert [float(row["test_accuracy"]) for row in again] == kept
