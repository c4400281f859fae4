"""The names of DVC's internals that a sweep uses: why DVC is held to one minor version."""

import inspect
import re
from importlib.metadata import version

import pytest
from clones import ROOT, run
from dvc.repo import Repo
from dvc.repo.experiments import Experiments
from dvc.repo.experiments.queue.celery import LocalCeleryQueue
from dvc_task.proc.process import ProcessInfo

from tritbench.sweep.dvc_queue import opened


def test_only_the_minor_version_that_was_tried_is_allowed():
    allowed = re.search(r'"dvc>=(\d+)\.(\d+),<(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    major, minor, below_major, below = map(int, allowed.groups())
    assert (below_major, below) == (major, minor + 1)
    assert version("dvc").startswith(f"{major}.{minor}.")


@pytest.mark.parametrize(
    ("owner", "name", "arguments"),
    [
        (Experiments, "queue_one", {"queue", "kwargs"}),
        (Experiments, "remove", {"kwargs"}),
        (LocalCeleryQueue, "iter_queued", set()),
        (LocalCeleryQueue, "iter_active", set()),
        (LocalCeleryQueue, "_iter_done_tasks", set()),
        (LocalCeleryQueue, "start_workers", {"count"}),
        (ProcessInfo, "load", {"filename"}),
    ],
)
def test_what_the_queue_calls_is_there(owner, name, arguments):
    assert arguments <= set(inspect.signature(getattr(owner, name)).parameters)


def test_a_new_repository_has_an_empty_queue_and_no_worker(tmp_path, monkeypatch):
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    monkeypatch.chdir(tmp_path)
    assert isinstance(Repo().experiments.celery_queue, LocalCeleryQueue)
    with opened() as queue:
        assert queue.waiting() == queue.active() == set()
        assert queue.workers() == 0
        assert queue.left_behind("0" * 40) == {}
        assert queue.log("1" * 40) is None
