"""DVC's queue of experiments: all of this project that stands on DVC's internals.

What DVC has for users, `dvc exp run --queue` and `dvc queue status --json`, imports DVC for each
point, which takes longer than queueing it, and does not tell a worker that died from one that
works. The names used here may move with any minor version: pyproject.toml allows one, and
tests/test_dvc_queue.py says which they are.
"""

import contextlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc_task.proc.process import ProcessInfo

from tritbench.errors import TritbenchError, last_lines
from tritbench.sweep.plan import Point, Training, set_param

WORKER = "queue-worker"  # the command of DVC that one runs
LAST_LINES = 5  # that are shown of a point that failed
BUSY_SECONDS = 0.5  # between attempts to queue while a worker collects a result


class Queue:
    """The queue of the repository in the working directory, and its workers.

    Raises:
        TritbenchError: where DVC cannot run experiments.
    """

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        # DVC writes this path into each experiment's configuration, by a library for ASCII.
        path = repo.cache.local_cache_dir
        if path and not path.isascii():
            raise TritbenchError(
                f"{path}: DVC runs queued experiments only where its cache has a path in ASCII; "
                "move this repository, or `dvc cache dir --local FOLDER`"
            )
        self._queue = repo.experiments.celery_queue

    def left_behind(self, start: str) -> Mapping[str, str]:
        """Entries on commit `start` by the experiment's name, of a driver that was killed.

        Active is also what a worker died over, so only where one lives; later, when we have started
        others, it could not be told any more.
        """
        active = self._queue.iter_active() if self.workers() else ()
        entries = [*self._queue.iter_queued(), *active]
        return {entry.name: entry.stash_rev for entry in entries if entry.baseline_rev == start}

    def add(self, task: Point | Training) -> str:
        """Queue an experiment and return its entry."""
        changes = [set_param(key, value) for key, value in task.overrides.items()]
        while True:
            try:
                with _quiet(), lock_repo(self._repo):
                    entry = self._repo.experiments.queue_one(
                        self._queue,
                        name=task.name,
                        targets=task.stages,
                        params={"params.yaml": changes},
                        single_item=True,
                    )
                    return str(entry.stash_rev)
            except LockError:  # a worker collects a result
                time.sleep(BUSY_SECONDS)

    def waiting(self) -> set[str]:
        """Entries that no worker has taken yet."""
        return {entry.stash_rev for entry in self._queue.iter_queued()}

    def active(self) -> set[str]:
        """Entries that a worker took and did not finish, also one that died."""
        return {entry.stash_rev for entry in self._queue.iter_active()}

    def workers(self) -> int:
        """How many workers' processes are there; asking the workers themselves takes a second."""
        return sum(map(_is_worker, Path(self._queue.wdir).glob("dvc-exp-worker-*.json")))

    def start_workers(self, count: int) -> None:
        """Have so many of them."""
        self._queue.start_workers(count)

    def remove(self, names: Sequence[str]) -> None:
        """Remove experiments that are there."""
        if names:
            with _quiet():
                self._repo.experiments.remove(exp_names=list(names))

    def log(self, entry: str) -> str | None:
        """The last lines of an experiment, or what its worker says where it has none itself.

        None where neither said anything: its worker ended over it.
        """
        own = Path(self._queue.pid_dir) / entry / f"{entry}.out"
        if own.is_file() and (text := last_lines(own.read_text(errors="replace"), LAST_LINES)):
            return text
        for result, done in self._queue._iter_done_tasks():
            if done.stash_rev == entry and result.traceback:
                return last_lines(str(result.traceback), LAST_LINES)
        return None

    @property
    def folder(self) -> str:
        """Where the workers' own logs lie."""
        return str(self._queue.wdir)


@contextlib.contextmanager
def opened() -> Iterator[Queue]:
    """The queue of the repository in the working directory."""
    with Repo() as repo:
        yield Queue(repo)


def _is_worker(record: Path) -> bool:
    """Whether the process in a worker's record runs, and has not left its number to another one."""
    try:
        info = ProcessInfo.load(str(record))
        return info.returncode is None and WORKER in psutil.Process(info.pid).cmdline()
    except (OSError, ValueError, TypeError, psutil.Error):
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
