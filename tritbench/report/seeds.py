"""What methods give over several seeds: means, t intervals, and tests corrected for their number.

The rows are those of benchmarks/methods_raw.csv, one for each network and seed, and all else
follows from them. `selection` are the seeds by whose validation images defaults are chosen,
`confirmation` fresh ones, on which the chosen are then measured.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from tritbench.errors import TritbenchError
from tritbench.measure.statistics import (
    MARGIN,
    SIGNIFICANT,
    Mean,
    equivalence,
    holm,
    paired_t,
    t_interval,
)
from tritbench.report.rows import Count, NotNegative, Share, read_rows
from tritbench.report.runs import Run
from tritbench.report.text import NOTHING, markdown_table

Phase = Literal["selection", "confirmation"]
# `control` is FP32 trained on by QAT's recipe: what the further epochs give by themselves.
MODES = {"fp32": "FP32", "control": "FP32, trained on", "ptq": "PTQ", "qat": "QAT"}


@dataclass(frozen=True)
class Row:
    """One network made from the FP32 network of a seed, beside it; accuracies are shares of 1.

    Attributes:
        accuracy, fp32_accuracy: on the validation images.
        zeros: share of 0 trits; none where no weight is ternary.
        seconds, fp32_seconds: that making it took, and training the FP32 network.
    """

    model: str
    mode: Literal["control", "ptq", "qat"]
    method: str
    phase: Phase
    seed: Count
    accuracy: Share
    fp32_accuracy: Share
    test_accuracy: Share
    fp32_test_accuracy: Share
    seconds: NotNegative
    fp32_seconds: NotNegative
    dataset: str
    zeros: Share | None = None


@dataclass(frozen=True)
class Summary:
    """A model, mode and method over the seeds of a phase.

    Attributes:
        accuracy, test_accuracy: percent, on the validation and on the test images.
        delta, test_delta: points, against the network of the same seed that `against` names; none
            for FP32 itself.
        p: of a paired t test that the test images' difference is 0, by Holm over the phase.
        p_level: of two one-sided t tests that it is `MARGIN` or more, by Holm over the phase.
    """

    model: str
    mode: str
    method: str
    phase: Phase
    against: str
    seeds: int
    accuracy: Mean
    delta: Mean | None
    test_accuracy: Mean
    test_delta: Mean | None
    p: float | None
    p_level: float | None
    zeros: float | None
    seconds: float

    @property
    def finding(self) -> str:
        """What the tests say of the difference; nothing of FP32 itself."""
        if self.test_delta is None or self.p is None or self.p_level is None:
            return NOTHING
        differs = ("worse" if self.test_delta.mean < 0 else "better") if _is(self.p) else ""
        level = f"by less than {MARGIN}" if differs else "level"
        found = [word for word in (differs, level if _is(self.p_level) else "") if word]
        return ", ".join(found) or "not shown"


def _is(p: float) -> bool:
    return p < SIGNIFICANT


def read_seeds(path: Path) -> list[Row]:
    """The rows of methods_raw.csv.

    Raises:
        TritbenchError: naming the file, line, column and value that is wrong.
    """
    return read_rows(path, Row)


def summaries(rows: Sequence[Row], phase: Phase) -> list[Summary]:
    """Each model's FP32, then what was made of it, as the rows have them; last QAT by the control.

    Raises:
        TritbenchError: where a network was made with one seed alone.
    """
    rows = [row for row in rows if row.phase == phase]
    for network, seeds in Counter((row.model, row.mode, row.method) for row in rows).items():
        if seeds < 2:
            raise TritbenchError(f"{' '.join(network)}: one seed, expected at least two")
    found = []
    for model in dict.fromkeys(row.model for row in rows):
        here = [row for row in rows if row.model == model]
        found.append(_fp32(here))
        for mode, method in dict.fromkeys((row.mode, row.method) for row in here):
            runs = [row for row in here if (row.mode, row.method) == (mode, method)]
            found.append(_summary(runs, "fp32"))
            control = {row.seed: row for row in here if row.mode == "control"}
            if mode == "qat" and all(run.seed in control for run in runs):
                found.append(_summary(runs, "control", [control[run.seed] for run in runs]))
    return _corrected(found)


def _fp32(rows: Sequence[Row]) -> Summary:
    runs = list({row.seed: row for row in rows}.values())
    return Summary(
        model=runs[0].model,
        mode="fp32",
        method="",
        phase=runs[0].phase,
        against="",
        seeds=len(runs),
        accuracy=t_interval([100 * run.fp32_accuracy for run in runs]),
        delta=None,
        test_accuracy=t_interval([100 * run.fp32_test_accuracy for run in runs]),
        test_delta=None,
        p=None,
        p_level=None,
        zeros=None,
        seconds=_mean([run.fp32_seconds for run in runs]),
    )


def _summary(runs: Sequence[Row], against: str, others: Sequence[Row] | None = None) -> Summary:
    """Beside FP32 of the same seed, or beside `others`; p values are not corrected yet."""
    if others is None:
        beside = [(run.fp32_accuracy, run.fp32_test_accuracy) for run in runs]
    else:
        beside = [(other.accuracy, other.test_accuracy) for other in others]
    deltas = [100 * (r.accuracy - valid) for r, (valid, _) in zip(runs, beside, strict=True)]
    tested = [100 * (r.test_accuracy - test) for r, (_, test) in zip(runs, beside, strict=True)]
    zeros = [run.zeros for run in runs if run.zeros is not None]
    return Summary(
        model=runs[0].model,
        mode=runs[0].mode,
        method=runs[0].method,
        phase=runs[0].phase,
        against=against,
        seeds=len(runs),
        accuracy=t_interval([100 * run.accuracy for run in runs]),
        delta=t_interval(deltas),
        test_accuracy=t_interval([100 * run.test_accuracy for run in runs]),
        test_delta=t_interval(tested),
        p=paired_t(tested),
        p_level=equivalence(tested),
        zeros=_mean(zeros) if zeros else None,
        seconds=_mean([run.seconds for run in runs]),
    )


def _corrected(found: Sequence[Summary]) -> list[Summary]:
    compared = [each for each in found if each.p is not None]
    p = iter(holm([each.p or 0.0 for each in compared]))
    level = iter(holm([each.p_level or 0.0 for each in compared]))
    return [
        each if each.p is None else replace(each, p=next(p), p_level=next(level)) for each in found
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def read_summaries(path: Path, models: Sequence[str], dataset: str) -> list[Summary]:
    """What methods_raw.csv says of `models` on `dataset`, both phases; none where it is not there.

    Raises:
        TritbenchError: naming the file, line, column and value that is wrong.
    """
    if not path.is_file():
        return []
    rows = read_seeds(path)
    rows = [row for name in models for row in rows if (row.model, row.dataset) == (name, dataset)]
    return [each for phase in get_args(Phase) for each in summaries(rows, phase)]


def of_runs(found: Sequence[Summary], runs: Iterable[Run]) -> list[Summary]:
    """The summaries of fresh seeds, against FP32, of what `runs` are of: the same methods."""
    made = {(run.model, run.mode, run.method) for run in runs}
    return [
        each
        for each in found
        if each.phase == "confirmation"
        and each.against == "fp32"
        and (each.model, each.mode, each.method) in made
    ]


def summaries_csv(found: Iterable[Summary], defaults: Sequence[tuple[str, str]]) -> str:
    """The summaries as CSV; `defaults` are the modes and methods of params.yaml."""
    lines = []
    for each in found:
        columns: dict[str, object] = {}
        for name in ("model", "mode", "method", "phase", "against", "seeds"):
            columns[name] = getattr(each, name)
        for name in ("accuracy", "delta", "test_accuracy", "test_delta"):
            mean: Mean | None = getattr(each, name)
            for end in ("mean", "low", "high"):
                columns[f"{name}_{end}"] = "" if mean is None else f"{getattr(mean, end):.4f}"
        columns["p"] = "" if each.p is None else f"{each.p:.3g}"
        columns["p_level"] = "" if each.p_level is None else f"{each.p_level:.3g}"
        columns["zeros"] = "" if each.zeros is None else f"{each.zeros:.4f}"
        columns["seconds"] = f"{each.seconds:.2f}"
        columns["is_default"] = str((each.mode, each.method) in defaults).lower()
        lines.append(columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def summaries_table(
    found: Sequence[Summary], defaults: Sequence[tuple[str, str]]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, unescaped; `defaults` (mode and method) are marked with a star."""
    header = ["model", "mode", "method", "validation", "Δ validation", "test [95% interval]"]
    header += ["Δ test (points)", "p", "p of level", "finding", "zeros", "seconds"]
    rows = []
    for each in found:
        star = "*" if (each.mode, each.method) in defaults else ""
        rows.append(
            [
                each.model,
                named(each),
                f"{each.method}{star}" or NOTHING,
                f"{each.accuracy.mean:.2f}%",
                NOTHING if each.delta is None else _between(each.delta, "+.2f"),
                _between(each.test_accuracy, ".2f", "%"),
                NOTHING if each.test_delta is None else _between(each.test_delta, "+.2f"),
                NOTHING if each.p is None else p_text(each.p),
                NOTHING if each.p_level is None else p_text(each.p_level),
                each.finding,
                NOTHING if each.zeros is None else f"{100 * each.zeros:.1f}%",
                f"{each.seconds:.1f}",
            ]
        )
    return header, rows


def summaries_markdown(found: Sequence[Summary], defaults: Sequence[tuple[str, str]]) -> str:
    """`summaries_table` as Markdown, and what it says in words."""
    lines = [*markdown_table(*summaries_table(found, defaults)), "", f"{explanation(found)}"]
    return "\n".join(lines) + "\n"


def explanation(found: Sequence[Summary]) -> str:
    """What the intervals and tests of a table of summaries are."""
    compared = sum(each.p is not None for each in found)
    return (
        f"Means over {max(each.seeds for each in found)} seeds with Student's 95% intervals; "
        "differences (points) are between networks of the same seed. p: paired t test that the "
        "test accuracies do not differ; p of level: two one-sided t tests that they differ by "
        f"{MARGIN} points or more, a margin fixed beforehand; both by Holm for {compared} "
        f"comparisons, and below {SIGNIFICANT:.2g} they make the finding."
    )


def brief_table(found: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of what was confirmed, FP32, PTQ and QAT alone, for a first look."""
    header = ["model", "mode", "test accuracy [95% interval]", "Δ to FP32 (points)", "finding"]
    rows = [
        [
            each.model,
            MODES[each.mode],
            _between(each.test_accuracy, ".2f", "%"),
            NOTHING if each.test_delta is None else _between(each.test_delta, "+.2f"),
            each.finding,
        ]
        for each in found
        if each.mode != "control" and each.against != "control"
    ]
    return header, rows


def named(each: Summary) -> str:
    """The mode for a reader, and what it is compared with where that is not FP32."""
    name = MODES[each.mode]
    return f"{name} against {MODES[each.against]}" if each.against == "control" else name


def p_text(p: float) -> str:
    """A p-value.

    >>> p_text(0.312), p_text(0.0123), p_text(1e-9)
    ('0.31', '0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.0005 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _between(mean: Mean, form: str, unit: str = "") -> str:
    return f"{mean.mean:{form}}{unit} [{mean.low:{form}}, {mean.high:{form}}]"
