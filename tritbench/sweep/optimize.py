"""Points that Optuna chooses: more accuracy and fewer bytes, as two objectives."""

import json
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

from tritbench.optional import explained
from tritbench.report.sweeps import SweepRow
from tritbench.sweep.experiments import finished
from tritbench.sweep.plan import Overrides, Point, Range, Sweep, make_points
from tritbench.sweep.results import collect

RunPoints = Callable[[list[Point]], dict[str, str]]


def optimize(
    sweep: Sweep, trials: int, start: str, run_points: RunPoints
) -> tuple[list[Point], dict[str, str]]:
    """Let Optuna choose from the sweep's grid until its study has that many completed trials.

    As many points as the file's `jobs` run at once. Told to Optuna are the means over a point's
    ternary rows: validation accuracy and bytes. The study is kept, so that a second call goes on.

    Args:
        sweep: one with a grid.
        trials: of the study, with those of earlier calls.
        start: the commit that points start from.
        run_points: makes an experiment of each; returns the last lines of those that failed.

    Returns:
        All points of the study, each once, and the last lines of those that failed now.

    Raises:
        TritbenchError: where Optuna is not installed.
    """
    with explained():
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=sweep.name,
        storage=sweep.settings.study or _journal(sweep),
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )
    # The seed tells a study that goes on from one that begins: it must not propose the same again.
    seed = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    completed = (optuna.trial.TrialState.COMPLETE,)
    space = {key: _distribution(optuna, values) for key, values in sweep.settings.grid.items()}
    failed: dict[str, str] = {}
    while (left := trials - len(study.get_trials(states=completed))) > 0:
        begun = [study.ask(space) for _ in range(min(left, sweep.settings.jobs))]
        asked = [(trial, _point(sweep, trial.params)) for trial in begun]
        lost = run_points(list({point.name: point for _, point in asked}.values()))
        for trial, point in asked:
            if point.name in lost:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, _objectives(collect([point], start, [])))
        failed |= lost
        if len(lost) == len(begun):  # nothing was learnt, and the next ones may fail as well
            break
    points = [_point(sweep, trial.params) for trial in study.get_trials(states=completed)]
    there = finished(start)
    return list({p.name: p for p in points if p.name in there}.values()), failed


def _point(sweep: Sweep, chosen: Mapping[str, Any]) -> Point:
    varied: Overrides = {
        key: value if isinstance(sweep.settings.grid[key], Range) else json.loads(value)
        for key, value in chosen.items()
    }
    return make_points(sweep.name, sweep.path, sweep.settings, [varied])[0]


def _objectives(rows: list[SweepRow]) -> tuple[float, float]:
    ternary = [row for row in rows if row["mode"] != "fp32"]
    return mean(row["accuracy"] for row in ternary), mean(row["bytes"] for row in ternary)


def _distribution(optuna: Any, values: list[Any] | Range) -> Any:
    if not isinstance(values, Range):
        # As JSON: Optuna's choices cannot be lists.
        return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in values])
    low, high, step = values.low, values.high, values.step
    if all(isinstance(value, int) for value in (low, high, step or 1)):
        return optuna.distributions.IntDistribution(low, high, step=step or 1)
    return optuna.distributions.FloatDistribution(low, high, step=step)


def _journal(sweep: Sweep) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(sweep.path.with_suffix(".optuna.log"))))
