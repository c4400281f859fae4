"""Two runs side by side, and whether the change between them is acceptable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tritbench.measure.statistics import SIGNIFICANT, mcnemar, two_proportions
from tritbench.params import GatesParams
from tritbench.report.history import Answers
from tritbench.report.runs import Run
from tritbench.report.summary import MODE_NAMES, by_model_and_mode, interval, speedup, verdict
from tritbench.report.text import NOTHING, escape_markdown, markdown_table, percent, size, times

Key = tuple[str, str]  # model and mode


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        name: the revision's, as it was asked for.
        groups: by model and mode, the runs of every batch size.
        images: of the test split, by class.
        answers: which of them each model gets right, where predictions are at hand.
    """

    name: str
    groups: dict[Key, list[Run]]
    images: tuple[int, ...]
    answers: Answers | None


@dataclass(frozen=True)
class Change:
    """One model in one mode before and after; either may be missing.

    Attributes:
        p: of the test that both are equally accurate.
        broken: the gates, each in a few words.
    """

    key: Key
    before: list[Run]
    after: list[Run]
    p: float | None
    broken: list[str]

    @property
    def points(self) -> float:
        """Test accuracy gained, in percentage points."""
        return 100 * (self.after[0].test_accuracy - self.before[0].test_accuracy)


def side(name: str, runs: Sequence[Run], images: Sequence[int], answers: Answers | None) -> Side:
    """Group the runs of a revision."""
    groups = {(group[0].model, group[0].mode): group for group in by_model_and_mode(runs)}
    return Side(name, groups, tuple(images), answers)


def paired(first: Side, second: Side) -> bool:
    """Whether predictions of both on the same images are at hand, for McNemar's test."""
    if first.answers is None or second.answers is None:
        return False
    return np.array_equal(first.answers.labels, second.answers.labels)


def same_clock(first: Side, second: Side) -> bool:
    """Whether latencies of both are of one machine and as many threads."""
    runs = [next(iter(one.groups.values()))[0] for one in (first, second)]
    return runs[0].machine == runs[1].machine and runs[0].threads == runs[1].threads


def changes(first: Side, second: Side, gates: GatesParams) -> list[Change]:
    """What changed from the first to the second, model by model and mode by mode."""
    found = []
    for key in dict.fromkeys([*first.groups, *second.groups]):
        before, after = first.groups.get(key, []), second.groups.get(key, [])
        p = _p_value(first, second, key) if before and after else None
        change = Change(key, before, after, p, [])
        change.broken.extend(_broken(change, gates))
        found.append(change)
    return found


def _p_value(first: Side, second: Side, key: Key) -> float:
    if first.answers and second.answers and paired(first, second):
        return mcnemar(first.answers.right[key], second.answers.right[key]).p
    before, after = (
        (round(one.groups[key][0].test_accuracy * sum(one.images)), sum(one.images))
        for one in (first, second)
    )
    return two_proportions(before, after)


def _broken(change: Change, gates: GatesParams) -> list[str]:
    found = []
    if change.before and change.after:
        significant = change.p is not None and change.p < SIGNIFICANT
        if significant and -change.points > gates.accuracy_drop:
            found.append(f"accuracy {change.points:+.2f} points")
        before, after = change.before[0].bytes, change.after[0].bytes
        if after > before * (1 + gates.bytes_growth / 100):
            found.append(f"bytes {100 * (after / before - 1):+.2g}%")
    for run in change.after:
        # A disturbed measurement proves nothing, in either direction; FP32 is its own measure.
        high = None if run.mode == "fp32" or run.disturbed else run.speedup_high
        if high is not None and high < gates.speedup_floor:
            found.append(f"speed-up {times(run.speedup)} at batch {run.batch_size}")
    return found


def comparison_markdown(
    first: Side, second: Side, found: Sequence[Change], gates: GatesParams, here: str
) -> str:
    """The table for a pull request.

    Args:
        first: the run before.
        second: the run after.
        found: as `changes` returns them.
        gates: that were applied.
        here: the fingerprint of this machine.
    """
    runs = [next(iter(one.groups.values())) for one in (first, second)]
    machines = [group[0].machine for group in runs]
    comparable = same_clock(first, second)
    sizes = [run.batch_size for run in runs[1]]
    header = ["model", "mode", "test accuracy [95% interval]", "Δ (points)", "bytes"]
    header += [f"speed-up, batch {batch}" for batch in sizes] + ["verdict"]
    rows = [_cells(change, sizes, comparable) for change in found]
    names = [escape_markdown(one.name) for one in (first, second)]
    test = "McNemar's exact test on the same test images"
    if not paired(first, second):
        test = "Fisher's exact test of two shares (predictions of both were not at hand)"
    notes = [
        f"p: {test}; \\* marks a significant difference.",
        f"Gates: accuracy not over {gates.accuracy_drop:g} points down and significant, bytes not "
        f"over {gates.bytes_growth:g}% up, speed-up interval not below {gates.speedup_floor:g}×.",
    ]
    warnings = []
    if not comparable:
        warnings = [
            f"**Not one machine**: {names[0]} was timed on machine {machines[0]} "
            f"({runs[0][0].threads} threads), {names[1]} on {machines[1]} "
            f"({runs[1][0].threads} threads). Such figures do not compare; speed-ups are "
            f"{names[1]}'s alone.",
            "",
        ]
    if machines[1] != here:
        notes.append(f"Machine {machines[1]} is not the one that made this table ({here}).")
    if any(run.disturbed for change in found for run in change.after):
        notes.append("\\~: the machine was disturbed; no gate judges that speed-up.")
    return "\n".join(
        [
            f"### {names[0]} → {names[1]}: {escape_markdown(runs[1][0].dataset)}",
            "",
            *warnings,
            *markdown_table(header, rows),
            "",
            *(f"- {note}" for note in notes),
        ]
    )


def _cells(change: Change, sizes: Sequence[int], comparable: bool) -> list[str]:
    model, mode = change.key
    before, after = change.before, change.after
    if not after:
        return [model, MODE_NAMES[mode], *[NOTHING] * (3 + len(sizes)), "gone"]
    now = after[0]
    cells = [model, MODE_NAMES[mode]]
    if before:
        cells += [
            f"{percent(before[0].test_accuracy)} → {interval(now)}",
            f"{change.points:+.2f}{'' if change.p in (None, 1) else verdict(change.p)}",
            _arrow(size(before[0].bytes), size(now.bytes)),
        ]
    else:
        cells += [interval(now), NOTHING, size(now.bytes)]
    old = {run.batch_size: run for run in before} if comparable else {}
    for run in after:
        was = old.get(run.batch_size)
        cells.append(
            NOTHING
            if mode == "fp32"
            else _arrow(times(was.speedup), speedup(run))
            if was
            else speedup(run)
        )
    return [*cells, _verdict(change)]


def _arrow(before: str, after: str) -> str:
    return after if before == after else f"{before} → {after}"


def _verdict(change: Change) -> str:
    if change.broken:
        return "broken: " + ", ".join(change.broken)
    if not change.before:
        return "new"
    if change.p is None or change.p >= SIGNIFICANT:
        return "no significant change"
    return "more accurate" if change.points > 0 else "less accurate, within the gate"


def broken_gates(found: Sequence[Change]) -> Mapping[str, list[str]]:
    """`MODEL MODE` to the gates that it breaks; empty where all is well."""
    return {
        f"{change.key[0]} {MODE_NAMES[change.key[1]]}": change.broken
        for change in found
        if change.broken
    }
