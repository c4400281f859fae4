"""Points on this machine, by DVC's own queue."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from tritbench.sweep.dvc_queue import Queue, opened
from tritbench.sweep.experiments import Progress, finished
from tritbench.sweep.plan import Point, Training, trainings

POLL_SECONDS = 0.5
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
    with opened() as queue:
        lost: dict[str, str] = {}
        shared = trainings(points)
        needing = {training.name: {p.name for p in needs} for training, needs in shared}
        # Those that only brought something into the cache are no results.
        queue.remove([name for name in needing if name in finished(start)])
        entries = queue.left_behind(start)
        first = [training for training, _ in shared]
        for name, error in _drain(queue, start, first, entries, jobs, progress):
            if error is not None:
                lost |= dict.fromkeys(needing[name], error)
        queue.remove([name for name in needing if name in finished(start)])
        for name, error in lost.items():
            progress.finish(name, error)
        left = [point for point in points if point.name not in lost]
        for name, error in _drain(queue, start, left, entries, jobs, progress):
            progress.finish(name, error)


def _drain(
    queue: Queue,
    start: str,
    tasks: Sequence[Point | Training],
    entries: Mapping[str, str],
    jobs: int,
    progress: Progress,
) -> Iterator[tuple[str, str | None]]:
    """Queue what is not queued, let workers run it, and yield each name with its last lines.

    The lines are None where an experiment came out of it. `entries` are in the queue, by name.
    """
    made = finished(start)  # also by a worker that outlived its driver
    left = deque(tasks)
    tasks_by_name = {task.name: task for task in tasks}
    pending: dict[str, str] = {}
    again: set[str] = set()  # those whose worker ended without a word: they have a second try
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
                    pending[task.name] = entries.get(task.name) or queue.add(task)
        # Workers end when they find nothing to do for a while, perhaps just before we queued.
        working = queue.workers()
        wanted = min(jobs, len(pending))
        if working < wanted and queue.waiting():
            queue.start_workers(wanted)
            working = wanted
        time.sleep(POLL_SECONDS)
        # In the order in which a point goes through them, so that none is missed between two.
        waiting = queue.waiting()
        active = queue.active() if working else set()
        made = finished(start)
        progress.running(sum(entry in active for entry in pending.values()))
        for name, entry in list(pending.items()):
            if name in made:
                del pending[name]
                yield name, None
            elif entry not in waiting | active:
                said = queue.log(entry)
                if said is None and name not in again:
                    # Killed for memory, say, or ended between taking a point and running it.
                    again.add(name)
                    pending[name] = queue.add(tasks_by_name[name])
                else:
                    del pending[name]
                    yield name, said or f"its worker ended twice (logs lie in {queue.folder})"
