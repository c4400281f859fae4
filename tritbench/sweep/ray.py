"""Points on a Ray cluster: a task each. Ray places them, and repeats those whose node dies."""

import logging
from collections.abc import Sequence
from typing import Any

from tritbench.errors import TritbenchError
from tritbench.git import git
from tritbench.optional import explained
from tritbench.sweep import node
from tritbench.sweep.experiments import Progress, project_folder, reference
from tritbench.sweep.plan import Point, RayParams, Training, set_param, trainings

POLL_SECONDS = 1.0


def git_url(settings: RayParams) -> str:
    """Where nodes clone from and push to."""
    return settings.git or git("remote", "get-url", "origin")


def run(points: Sequence[Point], start: str, settings: RayParams, progress: Progress) -> None:
    """Make an experiment of each point; what fails is told to `progress`, and the others go on.

    A point's task takes the tasks of its FP32 trainings as arguments: Ray starts it after them.
    The experiments are in the git remote then, their files and the run cache in DVC's.

    Args:
        points: those that are not experiments yet.
        start: the commit that they start from.
        settings: the cluster and what its nodes share.
        progress: is told of every point that ends.

    Raises:
        TritbenchError: where Ray is not installed or there is no such cluster.
    """
    with explained():
        import ray
    ray.cloudpickle.register_pickle_by_value(node)
    try:
        ray.init(
            settings.address,
            runtime_env=settings.runtime_env or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError) as error:
        text = " ".join(str(error).split())
        raise TritbenchError(f"ray.address = {settings.address!r}: {text}") from None
    try:
        _run(ray, points, start, settings, progress)
    finally:
        ray.shutdown()


def _run(
    ray: Any, points: Sequence[Point], start: str, settings: RayParams, progress: Progress
) -> None:
    url, folder = git_url(settings), project_folder()
    work = ray.remote(num_cpus=settings.cpus, max_retries=settings.retries)(node.work)

    def task(item: Point | Training, ref: str | None) -> node.Task:
        changes = [set_param(key, value) for key, value in item.overrides.items()]
        share = ref is None or settings.run_cache
        stages, remote = item.stages, settings.remote
        return node.Task(item.name, start, stages, changes, url, folder, ref, remote, share)

    before: dict[str, list[Any]] = {point.name: [] for point in points}
    for training, needing in trainings(points):
        running = work.remote(task(training, None))
        for point in needing:
            before[point.name].append(running)
    left = {
        work.remote(task(point, reference(start, point.name)), *before[point.name]): point.name
        for point in points
    }
    while left:
        ended, _ = ray.wait(list(left), timeout=POLL_SECONDS)
        progress.running(min(len(left), int(ray.cluster_resources().get("CPU", 0) / settings.cpus)))
        for result in ended:
            try:
                error = ray.get(result)
            except ray.exceptions.RayError as lost:  # more nodes died than `retries` allows for
                error = str(lost)
            progress.finish(left.pop(result), error)
