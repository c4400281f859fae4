"""Points on this machine, by DVC's own queue: `dvc exp run --queue` and `dvc queue start`."""

import contextlib
import io
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc_task.proc.process import ProcessInfo

from tritbench.errors import TritbenchError, last_lines
from tritbench.sweep.experiments import Progress, finished
from tritbench.sweep.plan import Point, Training, set_param, trainings

POLL_SECONDS = 0.5
WORKER = "queue-worker"  # the command of DVC that one runs
LAST_LINES = 5  # that are shown of a point that failed
AHEAD = 8  # points in the queue for each worker


def run(points: Sequence[Point], start: str, jobs: int, progress: Progress) -> None:
    """Make an experiment of each point; what fails is told to `progress`, and the others go on.

    FP32 trainings go first, each once; their results reach the points through DVC's cache.

    Args:
        points: those that are not experiments yet.
        start: the commit that they start from.
        jobs: how many run at once.
        progress: is told of every point that ends.

    Raises:
        TritbenchError: where DVC cannot run experiments, before the first of them.
    """
    with Repo() as repo:
        _check_cache(repo)
        lost: dict[str, str] = {}
        shared = trainings(points)
        needing = {training.name: {p.name for p in needs} for training, needs in shared}
        _remove(repo, start, list(needing))
        queue = repo.experiments.celery_queue
        # What a driver that was killed left behind. Active is also what a worker died over, so only
        # where one lives; later, when we have started others, it could not be told any more.
        left_behind = [*queue.iter_queued(), *(queue.iter_active() if _working(queue) else ())]
        entries = {entry.name: entry for entry in left_behind if entry.baseline_rev == start}
        first = [training for training, _ in shared]
        for name, error in _drain(repo, start, first, entries, jobs, progress):
            if error is not None:
                lost |= dict.fromkeys(needing[name], error)
        _remove(repo, start, list(needing))
        for name, error in lost.items():
            progress.finish(name, error)
        left = [point for point in points if point.name not in lost]
        for name, error in _drain(repo, start, left, entries, jobs, progress):
            progress.finish(name, error)


def _drain(
    repo: Any,
    start: str,
    tasks: Sequence[Point | Training],
    entries: Mapping[str, Any],
    jobs: int,
    progress: Progress,
) -> Iterator[tuple[str, str | None]]:
    """Queue what is not queued, let workers run it, and yield each name with its last lines.

    The lines are None where an experiment came out of it. `entries` are in the queue, by name.
    """
    queue = repo.experiments.celery_queue
    made = finished(start)  # also by a worker that outlived its driver
    left = deque(tasks)
    pending: dict[str, Any] = {}
    waiting: set[str] = set()
    while left or pending:
        # Queueing a point takes a lock that a worker needs as well to start one, and a worker that
        # finds it taken sleeps for a second. So not one at a time, but many, and seldom.
        if len(waiting) <= jobs:
            while left and len(pending) < AHEAD * jobs:
                task = left.popleft()
                if task.name in made:
                    yield task.name, None
                else:
                    pending[task.name] = entries.get(task.name) or _queue(repo, task)
        # Workers end when they find nothing to do for a while, perhaps just before we queued.
        working = _working(queue)
        wanted = min(jobs, len(pending))
        if working < wanted and any(queue.iter_queued()):
            queue.start_workers(wanted)
            working = wanted
        time.sleep(POLL_SECONDS)
        # In the order in which a point goes through them, so that none is missed between two.
        waiting = {entry.stash_rev for entry in queue.iter_queued()}
        active = {entry.stash_rev for entry in queue.iter_active()} if working else set()
        made = finished(start)
        progress.running(sum(entry.stash_rev in active for entry in pending.values()))
        for name, entry in list(pending.items()):
            if name in made:
                del pending[name]
                yield name, None
            elif entry.stash_rev not in waiting | active:
                del pending[name]
                yield name, _log(queue, entry.stash_rev)


def _queue(repo: Any, task: Point | Training) -> Any:
    changes = [set_param(key, value) for key, value in task.overrides.items()]
    while True:
        try:
            with _quiet(), lock_repo(repo):
                return repo.experiments.queue_one(
                    repo.experiments.celery_queue,
                    name=task.name,
                    targets=task.stages,
                    params={"params.yaml": changes},
                    single_item=True,
                )
        except LockError:  # a worker collects a result
            time.sleep(POLL_SECONDS)


def _remove(repo: Any, start: str, names: Sequence[str]) -> None:
    """Remove experiments: those that only brought something into the cache are no results."""
    there = finished(start)
    if present := [name for name in names if name in there]:
        with _quiet():
            repo.experiments.remove(exp_names=present)


def _check_cache(repo: Any) -> None:
    # DVC writes this path into each experiment's configuration, by a library that writes ASCII.
    path = repo.cache.local_cache_dir
    if path and not path.isascii():
        raise TritbenchError(
            f"{path}: DVC runs queued experiments only where its cache has a path in ASCII; "
            "move this repository, or `dvc cache dir --local FOLDER`"
        )


def _working(queue: Any) -> int:
    """How many workers' processes are there; asking the workers themselves takes a second."""
    return sum(map(_is_worker, Path(queue.wdir).glob("dvc-exp-worker-*.json")))


def _is_worker(record: Path) -> bool:
    """Whether the process in a worker's record runs, and has not left its number to another one."""
    try:
        info = ProcessInfo.load(str(record))
        return info.returncode is None and WORKER in psutil.Process(info.pid).cmdline()
    except (OSError, ValueError, TypeError, psutil.Error):
        return False


def _log(queue: Any, rev: str) -> str:
    """The last lines of an experiment, or what its worker says of it where it has none itself."""
    own = Path(queue.pid_dir) / rev / f"{rev}.out"
    if own.is_file() and (text := last_lines(own.read_text(errors="replace"), LAST_LINES)):
        return text
    for result, entry in queue._iter_done_tasks():
        if entry.stash_rev == rev and result.traceback:
            return last_lines(str(result.traceback), LAST_LINES)
    return f"no output: its worker ended (its log lies in {queue.wdir})"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
