"""Committed results: what benchmarks/ held at a git revision or in a DVC experiment."""

import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.files import parse_yaml
from tritbench.git import git, git_bytes, git_object
from tritbench.report.runs import Run, parse_runs

RUNS = "benchmarks/quantization_runs.csv"
PREDICTIONS = "benchmarks/predictions.npz"
WORKSPACE = "workspace"
EXPERIMENTS = "refs/exps"
# DVC's own bookkeeping beside the experiments.
NOT_EXPERIMENTS = ("refs/exps/exec", "refs/exps/stash", "refs/exps/temp", "refs/exps/apply")


@dataclass(frozen=True)
class Revision:
    """A commit by the name that was asked for; without a commit, the working tree."""

    name: str
    commit: str | None = None

    def read(self, path: str) -> bytes | None:
        """A file's content, its path relative to the working directory; none where it is not.

        Raises:
            GitError: where git cannot look.
        """
        if self.commit is None:
            return Path(path).read_bytes() if Path(path).is_file() else None
        blob = git_object(f"{self.commit}:./{path}")
        return None if blob is None else git_bytes("cat-file", "blob", blob)

    def text(self, path: str) -> str:
        """A file's content as text.

        Raises:
            TritbenchError: naming revision and file, where there is none.
        """
        content = self.read(path)
        if content is None:
            raise TritbenchError(f"{self.name}: no {path} in it; expected a run's results")
        return content.decode(errors="replace")

    def runs(self) -> list[Run]:
        """The rows of quantization_runs.csv.

        Raises:
            TritbenchError: naming revision, file, line, column and value.
        """
        return parse_runs(self.text(RUNS), f"{self.name}:{RUNS}")


@dataclass(frozen=True)
class Answers:
    """Labels [n] of the test images and, by model and mode, bool [n]: whether it is right."""

    labels: NDArray[np.int64]
    right: dict[tuple[str, str], NDArray[np.bool_]]


def find_revision(name: str) -> Revision:
    """A git revision, or a DVC experiment by its name.

    Raises:
        GitError: where git cannot look.
        TritbenchError: where there is none of that name, or more than one experiment.
    """
    commit = git_object(f"{name}^{{commit}}")
    if commit is not None:
        return Revision(name, commit)
    found = [revision for revision in experiments() if revision.name == name]
    if len(found) != 1:
        what = "experiments of that name; give its commit" if found else "commit or experiment"
        raise TritbenchError(f"{name}: {len(found) or 'no such'} {what}")
    return found[0]


def experiments() -> list[Revision]:
    """DVC's experiments in this repository, by name."""
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS)
    refs = [line.split(" ", 1) for line in listed.splitlines()]
    return [
        Revision(ref.rsplit("/", 1)[-1], commit)
        for commit, ref in refs
        if not ref.startswith(NOT_EXPERIMENTS)
    ]


def commits_of_runs() -> list[Revision]:
    """The commits of HEAD's history that changed quantization_runs.csv, oldest first."""
    if git_object("HEAD") is None:
        return []
    lines = git("log", "--reverse", "--format=%h %H", "--", RUNS).splitlines()
    return [Revision(*line.split()) for line in lines]


def answers(revision: Revision, runs: Sequence[Run]) -> Answers | None:
    """Which test images each model gets right.

    Predictions lie in DVC's cache under their hash in the revision's dvc.lock. None where they are
    not there, or are not those of `runs`.
    """
    content = revision.read(PREDICTIONS) if revision.commit is None else _cached(revision)
    try:
        with np.load(io.BytesIO(content or b"")) as arrays:
            labels = arrays["labels"]
            right = {
                (run.model, run.mode): arrays[f"{run.model}.{run.mode}"].argmax(1) == labels
                for run in runs
            }
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        return None
    if any(
        abs(float(right[run.model, run.mode].mean()) - run.test_accuracy) > 1e-5 for run in runs
    ):
        return None
    return Answers(labels, right)


def _cached(revision: Revision) -> bytes | None:
    text = (revision.read("dvc.lock") or b"{}").decode(errors="replace")
    lock = parse_yaml(text, f"{revision.name}:dvc.lock")
    outs = lock.get("stages", {}).get("evaluate", {}).get("outs", [])
    digests = [out["md5"] for out in outs if out.get("path") == PREDICTIONS and "md5" in out]
    if not digests:
        return None
    asked = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True)
    path = Path(asked.stdout.decode().strip()) / "files/md5" / digests[0][:2] / digests[0][2:]
    if asked.returncode or not path.is_file():
        return None
    content = path.read_bytes()
    return content if hashlib.md5(content).hexdigest() == digests[0] else None
