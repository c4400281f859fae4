"""`tritbench sweep FILE`: its points as experiments, then its table, front and curves."""

from pathlib import Path

from tritbench.errors import TritbenchError
from tritbench.report.sweeps import sweep_table
from tritbench.report.text import aligned
from tritbench.sweep import results
from tritbench.sweep.experiments import Progress, baseline, fetch, finished, use_this_python
from tritbench.sweep.plan import Point, Sweep, read_sweep


def run(path: Path, trials: int | None, time: bool) -> None:
    """Bring a sweep to its end, or as far as it goes.

    Args:
        path: the sweep's file.
        trials: how many points of the grid Optuna chooses; None: all are run.
        time: whether to measure the latencies of the Pareto front's networks at the end.

    Raises:
        TritbenchError: for a wrong file, or where points failed; the others are done then.
    """
    sweep = read_sweep(path, optimize=trials is not None)
    use_this_python()
    start = baseline()
    if trials is not None:
        from tritbench.sweep.optimize import optimize

        points, failed = optimize(
            sweep, trials, start, lambda chosen: run_points(sweep, chosen, start)
        )
    else:
        points, failed = sweep.points, run_points(sweep, sweep.points, start)
    done = [point for point in points if point.name in finished(start)]
    if done:
        varied = results.varied_keys(sweep)
        rows = results.collect(done, start, varied)
        if time:
            from tritbench.sweep.timing import time_front

            time_front(rows, {point.name: point for point in done}, start)
        written = results.write(sweep, rows, varied)
        header, cells = sweep_table(rows, varied)
        print("\n".join(aligned([header, *cells])))
        print(f"\n{len(done)} points: {', '.join(map(str, written))}")
    if failed:
        raise TritbenchError(f"{path}: {len(failed)} points failed, {len(done)} did not; see above")


def run_points(sweep: Sweep, points: list[Point], start: str) -> dict[str, str]:
    """Make an experiment of each point that is none yet; the last lines of those that failed."""
    settings = sweep.settings
    on_ray = settings.run == "ray"
    if on_ray:
        from tritbench.sweep import ray

        fetch(start, ray.git_url(settings.ray))  # what ran before, also when its driver died
    there = finished(start)
    missing = [point for point in points if point.name not in there]
    if not missing:
        return {}
    with Progress(len(points), len(points) - len(missing)) as progress:
        if on_ray:
            ray.run(missing, start, settings.ray, progress)
            fetch(start, ray.git_url(settings.ray))
        else:
            from tritbench.sweep import local

            local.run(missing, start, settings.jobs, progress)
    return progress.failed
