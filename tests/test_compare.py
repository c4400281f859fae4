"""`tritbench compare` and `tritbench history` read committed results from git and DVC's cache."""

import csv
import hashlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from report_files import write_csv, write_inputs
from ruamel.yaml import YAML

from tritbench import cli
from tritbench.commands import compare, history
from tritbench.errors import TritbenchError
from tritbench.params import GatesParams, parse_params

ROOT = Path(__file__).parents[1]
IMAGES = 4 * (90 + 3 * 3)  # of write_inputs' confusion matrices


def git(*arguments):
    identity = ["-c", "user.email=test@localhost", "-c", "user.name=test"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit():
    git("add", "-A")
    git("commit", "-q", "-m", "results", "--allow-empty")


def change(where, **columns):
    """Rewrite columns of the rows of one model and mode."""
    path = Path("benchmarks/quantization_runs.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (row["model"], row["mode"]) == where or where == ():
            row.update({key: str(value) for key, value in columns.items()})
    write_csv(path, rows)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose HEAD holds results of mlp, with the same in the working tree."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    write_inputs(tmp_path / "benchmarks", ("mlp",))
    change((), disturbed="false")
    git("init", "-q")
    commit()
    return tmp_path


def cells(output, model, mode):
    line = next(line for line in output.splitlines() if line.startswith(f"| {model} | {mode} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_nothing_changed_passes(repository, capsys):
    compare.run("HEAD", None)
    output = capsys.readouterr().out
    assert output.startswith("### HEAD → workspace: &lt;b&gt;\\|x\n")
    *_, delta, size, speedup, _, verdict = cells(output, "mlp", "QAT")
    assert (delta, size, verdict) == ("+0.00", "170 KB", "no significant change")
    assert speedup == r"4.00× → 4.00× \[3.90, 4.10\]"
    assert "Machine m1 is not the one that made this table" in output


def test_a_significant_drop_breaks_the_gate_and_a_small_one_does_not(repository, capsys):
    change(("mlp", "qat"), test_accuracy=0.80)
    change(("mlp", "ptq"), test_accuracy=0.84)
    with pytest.raises(TritbenchError, match=r"are broken: mlp QAT: accuracy -9\.12 points$"):
        compare.run("HEAD", None)
    output = capsys.readouterr().out
    assert cells(output, "mlp", "QAT")[-1] == "broken: accuracy -9.12 points"
    assert r"-9.12\* (p" in output
    assert cells(output, "mlp", "PTQ")[-1] == "no significant change"
    assert "Fisher's exact test" in output


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"bytes": 180_000}, r"bytes \+5\.9%"),
        ({"speedup": 0.8, "speedup_low": 0.7, "speedup_high": 0.9}, "speed-up 0.800× at batch 1"),
    ],
)
def test_more_bytes_or_less_speed_break_their_gates(repository, columns, message):
    change(("mlp", "ptq"), **columns)
    with pytest.raises(TritbenchError, match=message):
        compare.run("HEAD", None)


def test_a_disturbed_or_uncertain_speed_up_breaks_none(repository, capsys):
    change(("mlp", "ptq"), speedup=0.8, speedup_low=0.7, speedup_high=0.9, disturbed="true")
    change(("mlp", "qat"), speedup=0.95, speedup_low=0.8, speedup_high=1.1)
    compare.run("HEAD", None)
    assert r"\~0.800×" in capsys.readouterr().out


def test_speed_ups_of_two_machines_are_not_set_side_by_side(repository, capsys):
    change((), machine="m2")
    compare.run("HEAD", None)
    output = capsys.readouterr().out
    assert cells(output, "mlp", "QAT")[5] == r"4.00× \[3.90, 4.10\]"
    assert (
        "HEAD was timed on machine m1 (1 threads), workspace on m2" in output.split("| model |")[0]
    )


def test_results_of_another_data_set_or_none_do_not_compare(repository):
    change((), dataset="kmnist")
    with pytest.raises(TritbenchError, match="workspace of kmnist: expected results on one"):
        compare.run("HEAD", None)
    git("checkout", "-q", ".")
    path = Path("benchmarks/confusion.csv")
    path.write_text(path.read_text().replace(",90\n", ",91\n"))
    with pytest.raises(TritbenchError, match="HEAD has 480 test images, workspace 484"):
        compare.run("HEAD", None)
    git("rm", "-rq", "--cached", "benchmarks")
    git("commit", "-qm", "gone")
    with pytest.raises(TritbenchError, match=r"HEAD: no benchmarks/quantization_runs.csv in it"):
        compare.run("HEAD", None)
    with pytest.raises(TritbenchError, match="nowhere: no such commit or experiment"):
        compare.run("nowhere", None)


def test_what_git_will_not_look_at_is_no_missing_commit(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for command in (lambda: compare.run("HEAD", None), lambda: history.run(None, None)):
        with pytest.raises(TritbenchError, match=r"dubious ownership.* safe.directory") as error:
            command()
        assert "\n" not in str(error.value)


def test_a_copy_without_git_is_told_how_to_become_a_repository(repository):
    shutil.rmtree(".git")
    for command in (lambda: compare.run("HEAD", None), lambda: history.run(None, None), cli.run):
        with pytest.raises(TritbenchError, match=r"in no git repository.* `git init && git add -A"):
            command()


def test_an_experiment_goes_by_its_name_and_models_come_and_go(repository, capsys):
    write_inputs(repository / "benchmarks", ("cnn",))
    commit()
    git("update-ref", "refs/exps/ab/cdef/bold-tit", git("rev-parse", "HEAD"))
    git("update-ref", "refs/exps/stash", git("rev-parse", "HEAD~1"))
    git("reset", "-q", "--hard", "HEAD~1")
    compare.run("HEAD", "bold-tit")
    output = capsys.readouterr().out
    assert cells(output, "mlp", "FP32")[-1] == "gone"
    assert cells(output, "cnn", "PTQ")[-1] == "new"


def predictions(right):
    """predictions.npz in which each model and mode is right on the given images."""
    labels = np.zeros(IMAGES, np.int64)
    arrays = {name: np.stack([own, ~own], 1).astype(np.float32) for name, own in right.items()}
    archive = io.BytesIO()
    np.savez_compressed(archive, labels=labels, **arrays)
    return archive.getvalue()


def test_with_predictions_in_dvcs_cache_mcnemar_compares_the_same_images(repository, capsys):
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    Path(".gitignore").write_text("/benchmarks/predictions.npz\n/.dvc/cache\n/.dvc/tmp\n")
    before = np.arange(IMAGES) < 300
    after = np.arange(IMAGES) < 290  # ten lost, none won: p = 2 / 2**10
    for mode in ("fp32", "ptq", "qat"):
        change(("mlp", mode), test_accuracy=before.mean())
    content = predictions({f"mlp.{mode}": before for mode in ("fp32", "ptq", "qat")})
    digest = hashlib.md5(content).hexdigest()
    cached = Path(".dvc/cache/files/md5") / digest[:2] / digest[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    outs = [{"path": "benchmarks/predictions.npz", "md5": digest}]
    YAML().dump({"stages": {"evaluate": {"outs": outs}}}, Path("dvc.lock"))
    commit()
    change(("mlp", "qat"), test_accuracy=after.mean())
    after_all = {"mlp.fp32": before, "mlp.ptq": before, "mlp.qat": after}
    Path("benchmarks/predictions.npz").write_bytes(predictions(after_all))
    with pytest.raises(TritbenchError, match=r"mlp QAT: accuracy -2\.53 points$"):
        compare.run("HEAD", None)
    output = capsys.readouterr().out
    assert r"-2.53\* (p = 0.002)" in output
    assert "McNemar's exact test on the same test images" in output

    Path("benchmarks/predictions.npz").write_bytes(b"not an archive")
    compare.run("HEAD", None)  # 300 and 290 of 396 different images differ by chance
    assert "Fisher's exact test" in capsys.readouterr().out


def test_gates_are_checked_parameters():
    content = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    assert isinstance(parse_params(content).report.gates, GatesParams)
    content["report"]["gates"]["accuracy_drop"] = -1
    with pytest.raises(TritbenchError, match=re.escape("report.gates.accuracy_drop = -1")):
        parse_params(content)


def test_the_command_prints_the_table_and_its_exit_code_is_the_verdict(repository):
    def run():
        return subprocess.run(["tritbench", "compare", "HEAD"], capture_output=True, text=True)

    assert run().returncode == 0
    change(("mlp", "ptq"), bytes=1_000_000)
    failed = run()
    assert failed.returncode == 1
    assert "broken: bytes" in failed.stdout
    assert failed.stderr.startswith("tritbench: error: gates of params.yaml are broken: mlp PTQ")
    assert failed.stderr.count("\n") == 1


def test_history_lists_each_run_once_with_its_machine(repository, capsys, monkeypatch):
    monkeypatch.setattr("tritbench.commands.history.fingerprint", lambda: {"id": "m2"})
    commit()  # the same run again
    change((), run_id="r2", machine="m2", timestamp="2025-02-02T03:04:05Z", speedup=5)
    commit()
    change((), run_id="r3", timestamp="2024-12-31T00:00:00Z", latency_s="", speedup="")
    commit()
    git("update-ref", "refs/exps/ab/cdef/bold-tit", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    Path("benchmarks/quantization_runs.csv").write_text("half a fi")
    history.run(Path("out.csv"), Path("out.html"))
    output, errors = capsys.readouterr()
    lines = output.splitlines()
    assert len(lines) == 1 + 3 * 6
    assert len({len(line.rstrip()) for line in lines}) <= 3
    assert lines[1].startswith("bold-tit  2024-12-31 00:00  ")  # oldest first
    assert [line.split()[-1] for line in lines[1::6]] == ["(this)", "m1", "(this)"]
    assert "workspace:benchmarks/quantization_runs.csv, line 1: no column" in errors
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["here"], row["run_id"]) for row in rows[::6]] == [
        ("experiment", "true", "r3"),
        ("commit", "false", "r1"),
        ("commit", "true", "r2"),
    ]
    page = Path("out.html").read_text()
    assert "&lt;b&gt;|x" in page
    assert "<b>" not in page
    assert not re.search(r"https?://", page)
    assert page.count("<tr>") == 1 + 18


def test_history_of_nothing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    with pytest.raises(TritbenchError, match="no runs in git's history"):
        history.run(None, None)
