"""The table of results, as Markdown for a review and as plain text for a terminal."""

from collections.abc import Sequence

from tritbench.measure.statistics import SIGNIFICANT
from tritbench.report.rows import Peer
from tritbench.report.runs import Machine, Run
from tritbench.report.text import (
    NOTHING,
    aligned,
    escape_markdown,
    markdown_table,
    percent,
    seconds,
    size,
    times,
    within,
)

MODE_NAMES = {"fp32": "FP32", "ptq": "PTQ", "qat": "QAT"}
W158A8 = "Ternary networks are W1.58A8: weights of log2(3) = 1.58 bits, activations of 8."
# The peers that run a network in FP32, as peers.csv names them.
FP32_RUNTIMES = ("torch eager", "torch compile", "onnxruntime fp32", "openvino fp32")
DISTURBED = (
    "the machine was disturbed while this or FP32 was timed (the 95th percentile is a quarter or "
    "more above the median); measure again before you rely on it."
)


def interval(run: Run) -> str:
    """Test accuracy with its 95% interval."""
    low, high = 100 * run.test_accuracy_low, 100 * run.test_accuracy_high
    return f"{percent(run.test_accuracy)} [{low:.2f}, {high:.2f}]"


def speedup(run: Run) -> str:
    """The speed-up with its 95% interval; ~ marks a disturbed measurement."""
    text = times(run.speedup)
    if run.mode == "fp32" or run.speedup is None:
        return text
    text += within(run.speedup_low, run.speedup_high)
    return f"~{text}" if run.disturbed else text


def by_model_and_mode(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs grouped by model and mode; each group holds every batch size."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.model, run.mode), []).append(run)
    return list(groups.values())


def points(run: Run, runs: Sequence[Run]) -> float:
    """Test accuracy against the same model in FP32, in percentage points."""
    fp32 = next(other for other in runs if other.model == run.model and other.mode == "fp32")
    return 100 * (run.test_accuracy - fp32.test_accuracy)


def difference(run: Run, runs: Sequence[Run]) -> str:
    """`points` with McNemar's verdict; a star marks a significant difference."""
    if run.mode == "fp32":
        return NOTHING
    text = f"{points(run, runs):+.2f}"
    return text if run.mcnemar_p is None else f"{text}{verdict(run.mcnemar_p)}"


def advice(runs: Sequence[Run]) -> str:
    """Which ternary form of each network to take, and why; nothing where there is none.

    That is PTQ, which takes seconds and no labels, unless it loses significantly and QAT does not;
    where both do, the one that loses less.
    """
    found = []
    for model in dict.fromkeys(run.model for run in runs):
        firsts = [g[0] for g in by_model_and_mode([run for run in runs if run.model == model])]
        ternary = [run for run in firsts if run.mode != "fp32"]
        if not ternary:
            continue
        cost = {run.mode: f"{points(run, runs):+.2f}" for run in ternary}
        losing = [run for run in ternary if _loses(run, runs)]
        kept = [run for run in ternary if run not in losing]
        best = kept[0] if kept else max(losing, key=lambda run: run.test_accuracy)
        words = f"{cost[best.mode]} points, {'not ' * (best not in losing)}a significant loss"
        if kept and losing:
            others = ", ".join(f"{MODE_NAMES[run.mode]}'s {cost[run.mode]}" for run in losing)
            words += f"; {others} {'are' if len(losing) > 1 else 'is'}"
        found.append(f"{MODE_NAMES[best.mode]} for {model} ({words})")
    return f"Use {', '.join(found)}." if found else ""


def _loses(run: Run, runs: Sequence[Run]) -> bool:
    lost = points(run, runs) < 0
    return lost and run.mcnemar_p is not None and run.mcnemar_p < SIGNIFICANT


def verdict(p: float) -> str:
    """A p-value, after a star where the difference is significant.

    >>> verdict(0.312), verdict(0.0123), verdict(1e-9)
    (' (p = 0.31)', '* (p = 0.012)', '* (p < 0.001)')
    """
    text = "p < 0.001" if p < 0.0005 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
    return f"{'*' if p < SIGNIFICANT else ''} ({text})"


def fastest_fp32(run: Run, runs: Sequence[Run], peers: Sequence[Peer]) -> tuple[str, float] | None:
    """What runs this model in FP32 at this batch size soonest, and how many times `run` is as fast.

    None where it was not timed.
    """
    taken = {
        f"{peer.method}": peer.latency_s
        for peer in peers
        if (peer.model, peer.batch_size) == (run.model, run.batch_size)
        and peer.method in FP32_RUNTIMES
    }
    own = next(
        other
        for other in runs
        if (other.model, other.mode, other.batch_size) == (run.model, "fp32", run.batch_size)
    )
    taken["torch"] = own.latency_s
    timed = {name: latency for name, latency in taken.items() if latency is not None}
    if not timed or run.latency_s is None:
        return None
    name = min(timed, key=timed.__getitem__)
    return name, timed[name] / run.latency_s


def results_table(
    runs: Sequence[Run], peers: Sequence[Peer] = ()
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table that the summary and the page show, unescaped."""
    header = [
        "model",
        "mode",
        "validation accuracy",
        "test accuracy [95% interval]",
        "Δ to FP32 (points)",
        "bytes",
        "smaller",
        "bits/weight",
        "zeros",
    ]
    for run in by_model_and_mode(runs)[0]:
        header += [f"latency, batch {run.batch_size}", f"speed-up, batch {run.batch_size}"]
        header += [f"to the fastest FP32, batch {run.batch_size}"] if peers else []
    rows = []
    for group in by_model_and_mode(runs):
        run = group[0]
        row = [
            run.model,
            MODE_NAMES[run.mode],
            percent(run.accuracy),
            interval(run),
            difference(run, runs),
            size(run.bytes),
            times(run.compression),
            NOTHING if run.bits_per_weight is None else f"{run.bits_per_weight:.2f}",
            NOTHING if run.zeros is None else f"{100 * run.zeros:.1f}%",
        ]
        for timed in group:
            row += [seconds(timed.latency_s), speedup(timed)]
            fastest = fastest_fp32(timed, runs, peers)
            row += [times(fastest[1]) if fastest else NOTHING] if peers else []
        rows.append(row)
    return header, rows


def provenance(runs: Sequence[Run], machine: Machine, engine: str) -> list[tuple[str, str]]:
    """What the figures hold for: name and value of each circumstance."""
    run = runs[0]
    methods = {MODE_NAMES[r.mode]: r.method for r in runs if r.method}
    trained = {r.model: r.precision for r in runs if r.precision}
    ternary = next((r for r in runs if r.threshold), None)
    return [
        ("Data set", run.dataset),
        ("Machine", machine.text),
        ("Methods", ", ".join(f"{mode} {method}" for mode, method in methods.items())),
        *([("Quantization", _quantization(ternary))] if ternary else []),
        *(
            [("Trained in", ", ".join(" ".join(pair) for pair in trained.items()))]
            if trained
            else []
        ),
        ("Threads", str(run.threads)),
        ("Ternary engine", engine),
        ("Seed", str(run.seed)),
        ("Run", f"{run.run_id}, {run.timestamp}"),
        ("Git revision", run.git_rev),
    ]


def _quantization(run: Run) -> str:
    return f"threshold {run.threshold}, reference {run.reference}, granularity {run.granularity}"


def summary_markdown(
    runs: Sequence[Run], machine: Machine, engine: str, title: str, peers: Sequence[Peer] = ()
) -> str:
    """benchmarks/summary.md.

    Args:
        runs: as `read_runs` returns them.
        machine: where the latencies were taken.
        engine: what executed the ternary models.
        title: the report's.
        peers: what else ran the FP32 networks.
    """
    header, rows = results_table(runs, peers)
    lines = [
        f"# {escape_markdown(title)}: {escape_markdown(runs[0].dataset)}",
        "",
        *markdown_table(header, rows),
        "",
        "; ".join(
            f"{name}: {escape_markdown(value)}" for name, value in provenance(runs, machine, engine)
        )
        + ".",
        "",
        f"{W158A8} Bytes are the stored weights (KB = 1000 bytes); latency is the median of a "
        "batch; smaller and speed-up are against the same model in FP32 as one deploys it "
        "(PyTorch, normalizations folded), measured in the same run on the machine named above. "
        "Intervals are 95%: Wilson's over the test images, which do not cover what another seed "
        "would change, and a bootstrap's over the timed rounds. p is McNemar's exact test against "
        "FP32 on the same images, \\* a significant difference (p below 0.05).",
    ]
    if any(run.disturbed for run in runs):
        lines += ["", f"\\~: {DISTURBED}"]
    return "\n".join(lines) + "\n"


def table_text(runs: Sequence[Run], engine: str) -> str:
    """The results in columns of plain text, for the end of a run in a terminal.

    Args:
        runs: as `read_runs` returns them.
        engine: what executed the ternary models.
    """
    header = ["model", "mode", "test accuracy", "Δ points", "bytes", "smaller"]
    for run in by_model_and_mode(runs)[0]:
        header += [f"batch {run.batch_size}", "speed-up"]
    rows = [header]
    for group in by_model_and_mode(runs):
        run = group[0]
        row = [run.model, MODE_NAMES[run.mode], interval(run), difference(run, runs)]
        row += [size(run.bytes), times(run.compression)]
        for timed in group:
            row += [seconds(timed.latency_s), speedup(timed)]
        rows.append(row)
    first = runs[0]
    about = f"{first.dataset}, seed {first.seed}, threads {first.threads}, machine {first.machine}"
    lines = [about, f"ternary engine: {engine}", "", *aligned(rows)]
    if any(run.disturbed for run in runs):
        lines += ["", f"~ {DISTURBED}"]
    return "\n".join(lines) + "\n"
