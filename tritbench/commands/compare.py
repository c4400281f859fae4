"""`tritbench compare`: what a change did, as Markdown for a pull request, and whether it passes."""

from tritbench.errors import TritbenchError
from tritbench.measure.machine import fingerprint
from tritbench.params import load_params
from tritbench.report.comparison import Side, broken_gates, changes, comparison_markdown, side
from tritbench.report.history import WORKSPACE, Revision, answers, find_revision
from tritbench.report.runs import parse_confusions

CONFUSION = "benchmarks/confusion.csv"


def run(first: str, second: str | None) -> None:
    """Print the comparison of two revisions or DVC experiments; without `second`, the workspace.

    Raises:
        TritbenchError: for a revision without results, results that do not compare, or a gate of
            params.yaml that is broken.
    """
    gates = load_params().report.gates
    before = _side(find_revision(first))
    after = _side(Revision(WORKSPACE) if second is None else find_revision(second))
    datasets = [next(iter(one.groups.values()))[0].dataset for one in (before, after)]
    if datasets[0] != datasets[1]:
        raise TritbenchError(
            f"{before.name} is of {datasets[0]}, {after.name} of {datasets[1]}: expected results "
            "on one data set"
        )
    if before.images != after.images:
        raise TritbenchError(
            f"{datasets[0]} is not the same in both: {before.name} has {sum(before.images)} test "
            f"images, {after.name} {sum(after.images)}, or not as many of each class; expected "
            "results on one data set"
        )
    found = changes(before, after, gates)
    print(comparison_markdown(before, after, found, gates, str(fingerprint()["id"])))
    broken = broken_gates(found)
    if broken:
        listed = "; ".join(f"{name}: {', '.join(gates)}" for name, gates in broken.items())
        raise TritbenchError(f"gates of params.yaml are broken: {listed}")


def _side(revision: Revision) -> Side:
    runs = revision.runs()
    pair = (runs[0].model, runs[0].mode)
    origin = f"{revision.name}:{CONFUSION}"
    confusion = parse_confusions(revision.text(CONFUSION), origin, [pair])[0]
    images = [sum(row) for row in confusion.counts]
    return side(revision.name, runs, images, answers(revision, runs))
