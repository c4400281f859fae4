"""The top of the page: the answer in one sentence, three figures and a card for each model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tritbench.measure.statistics import SIGNIFICANT
from tritbench.report.runs import Results, Run
from tritbench.report.seeds import Summary, of_runs
from tritbench.report.summary import MODE_NAMES, by_model_and_mode, fastest_fp32, points
from tritbench.report.text import percent, seconds, size, times


@dataclass(frozen=True)
class Figure:
    """One of the three figures: what it is about, its value, what it means."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Line:
    """One mode of a card; `left`, `width` and `middle` place its interval, in percent."""

    mode: str
    accuracy: str
    interval: str
    left: float
    width: float
    middle: float
    delta: str
    size: str
    smaller: str
    speeds: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    """One model in all its modes."""

    model: str
    batches: Sequence[int]
    lines: Sequence[Line]


def minus(text: str) -> str:
    """A number with the sign that is as wide as its plus."""
    return text.replace("-", "−")


def span(values: Sequence[float], form: str = "{:.1f}") -> str:
    """The least and the greatest of some numbers, or the one they all are.

    >>> span([19.26, 19.81]), span([-0.5, 0.2], "{:+.2f}"), span([4.0, 4.01])
    ('19.3–19.8', '−0.50 to +0.20', '4.0')
    """
    low, high = (minus(form.format(value)) for value in (min(values), max(values)))
    if low == high:
        return low
    return f"{low} to {high}" if "+" in form else f"{low}–{high}"


def figures(results: Results, seeds: Sequence[Summary] = ()) -> list[Figure]:
    """What ternary weights do to accuracy, size and speed, over all models and modes.

    Accuracy is that of fresh seeds where `seeds` have all of these networks.
    """
    ternary = [run for run in results.runs if run.mode != "fp32"]
    if not ternary:
        return []
    once = {(run.model, run.mode): run for run in ternary}.values()
    confirmed = of_runs(seeds, once)
    if len(confirmed) == len(once):
        deltas = [each.test_delta.mean for each in confirmed if each.test_delta]
        meaning = _findings(confirmed)
    else:
        deltas = [points(run, results.runs) for run in once]
        meaning = _significance(list(once))
    bits = [run.bits_per_weight for run in once if run.bits_per_weight is not None]
    found = [
        Figure("Test accuracy", f"{span(deltas, '{:+.2f}')} points", meaning),
        Figure(
            "Size",
            f"{span([run.compression for run in once])}× smaller",
            f"{span(bits, '{:.2f}')} bits a weight instead of 32" if bits else "stored weights",
        ),
    ]
    timed = [run for run in ternary if run.speedup is not None]
    batches = " and ".join(str(size) for size in sorted({run.batch_size for run in timed}))
    if timed:
        ratios = [fastest_fp32(run, results.runs, results.peers) for run in timed]
        fastest = span([ratio for _, ratio in filter(None, ratios)])
        found.append(
            Figure(
                "Speed",
                f"{span([run.speedup or 0 for run in timed])}× as fast",
                f"as FP32 in PyTorch, normalizations folded; {fastest}× the fastest FP32 runtime; "
                f"batches of {batches}, {timed[0].threads} thread{'s' * (timed[0].threads > 1)}",
            )
        )
    return found


def _significance(runs: Sequence[Run]) -> str:
    """How many of the differences to FP32 are more than chance."""
    known = [run.mcnemar_p for run in runs if run.mcnemar_p is not None]
    if not known:
        return "against the same network in FP32"
    count = sum(p < SIGNIFICANT for p in known)
    which = f"{count} of {len(known)} differences" if count else f"none of {len(known)} differences"
    return f"against FP32; {which} significant (McNemar, p < {SIGNIFICANT:.2g})"


def _findings(confirmed: Sequence[Summary]) -> str:
    """What the tests over seeds show of the differences to FP32."""
    counts = Counter(each.finding for each in confirmed)
    shown = ", ".join(f"{count} {finding}" for finding, count in counts.most_common())
    return f"against FP32, means of {confirmed[0].seeds} seeds; of {len(confirmed)}: {shown}"


def sentence(results: Results) -> str:
    """What was compared, on what."""
    ternary = [run.mode for run in results.runs if run.mode != "fp32"]
    names = {"ptq": "after training (PTQ)", "qat": "in training (QAT)"}
    ways = " and ".join(dict.fromkeys(names[mode] for mode in ternary))
    models = results.models
    listed = ", ".join(models[:-1]) + " and " + models[-1] if len(models) > 1 else models[0]
    images = sum(map(sum, results.confusions[0].counts))
    return (
        f"What the weights of {listed} lose and gain when they become −1, 0 or +1 {ways}, "
        f"measured on {images:,} test images."
    )


def cards(results: Results) -> list[Card]:
    """A card for each model; their intervals share one scale within a card."""
    found = []
    for model in results.models:
        groups = by_model_and_mode([run for run in results.runs if run.model == model])
        firsts = [group[0] for group in groups]
        low = min(run.test_accuracy_low for run in firsts)
        reach = max(run.test_accuracy_high for run in firsts) - low or 1
        lines = [_line(group, results.runs, low, reach) for group in groups]
        timed = [run.batch_size for run in groups[0] if run.latency_s is not None]
        found.append(Card(model, timed, lines))
    return found


def _line(group: Sequence[Run], runs: Sequence[Run], low: float, reach: float) -> Line:
    run = group[0]
    fp32 = run.mode == "fp32"
    return Line(
        MODE_NAMES[run.mode],
        percent(run.test_accuracy),
        f"{100 * run.test_accuracy_low:.2f}–{100 * run.test_accuracy_high:.2f}",
        round(100 * (run.test_accuracy_low - low) / reach, 2),
        round(100 * (run.test_accuracy_high - run.test_accuracy_low) / reach, 2),
        round(100 * (run.test_accuracy - low) / reach, 2),
        "" if fp32 else minus(f"{points(run, runs):+.2f}"),
        size(run.bytes),
        "" if fp32 else times(run.compression),
        [
            (seconds(timed.latency_s), "") if fp32 else (times(timed.speedup), _beside(timed))
            for timed in group
            if timed.latency_s is not None
        ],
    )


def _beside(run: Run) -> str:
    """The interval of a speed-up; where it is not known, the latency."""
    if run.speedup_low is None or run.speedup_high is None:
        return seconds(run.latency_s)
    return f"{times(run.speedup_low)[:-1]}–{times(run.speedup_high)[:-1]}"
