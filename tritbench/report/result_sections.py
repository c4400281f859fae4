"""Sections of the page: trade-offs and speed, results, seeds and peers, and the method."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tritbench.report import charts, seeds
from tritbench.report.answer import minus
from tritbench.report.blocks import Chart, Panel, Section, Table
from tritbench.report.charts import between, mode_names
from tritbench.report.rows import Peer, SingleCalls
from tritbench.report.runs import Results, Run
from tritbench.report.seeds import Summary
from tritbench.report.summary import (
    DISTURBED,
    MODE_NAMES,
    W158A8,
    by_model_and_mode,
    difference,
    provenance,
    results_table,
    speedup,
)
from tritbench.report.text import NOTHING, percent, seconds, size, times, within


def results_section(results: Results) -> Section:
    """Every number of every model and mode."""
    header, rows = results_table(results.runs, results.peers)
    blocks = [Table("Accuracy, size and speed", header, [[minus(c) for c in row] for row in rows])]
    blocks += [
        table
        for table in (
            _agreement(results),
            _storage(results),
            _latency(results),
            _single_calls(results.single_calls),
        )
        if table
    ]
    lead = (
        f"{W158A8} Intervals are Wilson's 95% over the test images. Bytes are the stored weights "
        "(KB = 1000 bytes); latency is the median of a batch. Smaller and faster compare with the "
        "same model in FP32 as one deploys it (PyTorch, normalizations folded), measured in the "
        "same run."
    )
    return Section("results", "All results", lead, blocks)


def _filled(
    caption: str, names: Sequence[str], columns: dict[str, list[str]], rows: list[list[str]]
) -> Table | None:
    """A table of those columns that hold anything."""
    kept = {title: cells for title, cells in columns.items() if set(cells) - {NOTHING}}
    if not kept:
        return None
    body = [[*row, *(cells[i] for cells in kept.values())] for i, row in enumerate(rows)]
    return Table(caption, [*names, *kept], body, len(names))


def _text(value: float | None, form: str = "{:.4f}") -> str:
    return NOTHING if value is None else form.format(value)


def _agreement(results: Results) -> Table | None:
    firsts = [group[0] for group in by_model_and_mode(results.runs)]
    ternary = [run for run in firsts if run.mode != "fp32"]
    columns = {
        "same class as FP32": [_text(run.agreement, "{:.2%}") for run in ternary],
        "images lost": [_text(run.flips_lost, "{:.0f}") for run in ternary],
        "images won": [_text(run.flips_won, "{:.0f}") for run in ternary],
        "change (points)": [minus(difference(run, results.runs)) for run in ternary],
        "test loss": [_text(run.test_loss) for run in ternary],
        "calibration error": [_text(run.ece) for run in ternary],
    }
    rows = [[run.model, MODE_NAMES[run.mode]] for run in ternary]
    return _filled("Beside FP32, on the same test images", ["model", "mode"], columns, rows)


def _storage(results: Results) -> Table | None:
    firsts = [group[0] for group in by_model_and_mode(results.runs)]
    fp32 = {run.model: run for run in firsts if run.mode == "fp32"}
    columns = {
        "file": [size(run.file_bytes) for run in firsts],
        **{
            f"× as small as {name}": [
                NOTHING if count is None else times(count / run.bytes)
                for run in firsts
                for count in [of(fp32[run.model])]
            ]
            for name, of in {"float16": float16_bytes, "int8": int8_bytes}.items()
        },
        "bits a weight": [_text(run.bits_per_weight, "{:.3f}") for run in firsts],
        "entropy bound (bits)": [_text(run.entropy_bits, "{:.3f}") for run in firsts],
        "peak memory": [
            NOTHING if run.peak_memory_bytes is None else size(int(run.peak_memory_bytes))
            for run in firsts
        ],
        "energy an image": [
            NOTHING if run.joules_per_image is None else f"{1e6 * run.joules_per_image:.3g} µJ"
            for run in firsts
        ],
    }
    rows = [[run.model, MODE_NAMES[run.mode]] for run in firsts]
    return _filled(_storage_caption(firsts), ["model", "mode"], columns, rows)


def _storage_caption(runs: Sequence[Run]) -> str:
    energy = any(run.joules_per_image is not None for run in runs)
    return "Storage, memory and energy" if energy else "Storage and memory"


def float16_bytes(fp32: Run) -> float:
    """What the FP32 network's weights and biases take in float16."""
    return fp32.bytes / 2


def int8_bytes(fp32: Run) -> float | None:
    """Weights in 8 bits, a float32 scale and bias for each output; None where that is not known."""
    if fp32.bits_per_weight is None:
        return None
    weights = 8 * fp32.bytes / fp32.bits_per_weight
    return weights + 2 * (fp32.bytes - 4 * weights)


def _latency(results: Results) -> Table | None:
    timed = [run for run in results.runs if run.latency_s is not None]
    columns = {
        "median": [seconds(run.latency_s) for run in timed],
        "interquartile range": [seconds(run.latency_iqr_s) for run in timed],
        "95th percentile": [seconds(run.latency_p95_s) for run in timed],
        "99th percentile": [seconds(run.latency_p99_s) for run in timed],
        "× as fast as FP32 [95%]": [speedup(run) for run in timed],
        "disturbed": ["yes" if run.disturbed else NOTHING for run in timed],
    }
    rows = [[run.model, MODE_NAMES[run.mode], str(run.batch_size)] for run in timed]
    return _filled("Latency of a batch", ["model", "mode", "batch"], columns, rows)


def _single_calls(rows: Sequence[SingleCalls]) -> Table | None:
    if not rows:
        return None
    header = ["model", "mode", "cold", "× as fast as FP32, cold [95%]", "median", "99th percentile"]
    header += ["× as fast as FP32 [95%]"]
    cells = [
        [
            row.model,
            MODE_NAMES[row.mode],
            seconds(row.latency_cold_s),
            times(row.cold_speedup) + within(row.cold_speedup_low, row.cold_speedup_high),
            seconds(row.latency_p50_s),
            seconds(row.latency_p99_s),
            times(row.p50_speedup) + within(row.p50_speedup_low, row.p50_speedup_high),
        ]
        for row in rows
    ]
    about = f"batch {rows[0].batch_size}, {rows[0].processes} fresh processes"
    return Table(f"Single calls, also with cold caches ({about})", header, cells)


def seeds_section(found: Sequence[Summary]) -> Section | None:
    """Means over seeds with intervals and tests, where methods_raw.csv says them."""
    blocks = []
    for caption, phase in (
        ("The defaults on fresh seeds", "confirmation"),
        ("Every method, on the seeds that chose the defaults", "selection"),
    ):
        if here := [each for each in found if each.phase == phase]:
            header, rows = seeds.summaries_table(here, [])
            blocks.append(Table(caption, header, [[minus(c) for c in row] for row in rows], 3))
    if not blocks:
        return None
    lead = seeds.explanation([each for each in found if each.phase == "confirmation"] or found)
    return Section("seeds", "Over seeds", lead, blocks)


def peers_section(results: Results) -> Section | None:
    """What a user would run instead, where peers.csv says it."""
    if not results.peers and not results.notes.absent:
        return None
    own = [run for run in results.runs if run.mode != "fp32"]
    rows = [_peer(run, MODE_NAMES[run.mode]) for run in own]
    rows += [_peer(peer, peer.method) for peer in results.peers]
    order = {model: number for number, model in enumerate(results.models)}
    rows.sort(key=lambda row: (order[row[0]], int(row[2])))
    header = [
        "model",
        "runtime",
        "batch",
        "latency",
        "× as fast as FP32",
        "weights",
        "test accuracy",
    ]
    table = Table("Ternary networks beside other runtimes", header, rows, names=3)
    lead = (
        "The same networks as others run them, in the same run on the same machine; none of them "
        "is ternary. The engine that runs PTQ and QAT (W1.58A8) is there once more with weights of "
        "8 bits (tritbench int8, W8A8) and with activations in float32 (tritbench exact, W1.58A32)."
    )
    blocks = [table]
    if results.notes.absent:
        rows = [list(each) for each in results.notes.absent]
        blocks.append(Table("Could not be run here", ["model", "runtime", "why"], rows, names=3))
    return Section("peers", "Other runtimes", lead, blocks)


def _peer(run: Run | Peer, name: str) -> list[str]:
    accuracy = NOTHING
    if run.test_accuracy is not None:
        accuracy = percent(run.test_accuracy)
        accuracy += between(run.test_accuracy_low, run.test_accuracy_high)
    stored = NOTHING if run.bytes is None else size(int(run.bytes))
    row = [run.model, name, str(run.batch_size), seconds(run.latency_s), times(run.speedup)]
    return [*row, stored, accuracy]


# What a network costs: its name, and that of the axis.
COSTS = {
    "bytes": ("stored weights", "stored weights (logarithmic)"),
    "latency_s": ("latency", "latency of a batch (logarithmic)"),
}


def trade_off_section(results: Results) -> Section:
    """Accuracy against bytes, and against latency at each batch size."""
    timed = sorted({run.batch_size for run in results.runs if run.latency_s is not None})
    blocks = [_trade_off(results, "bytes", [results.runs[0].batch_size])]
    if timed:
        blocks.append(_trade_off(results, "latency_s", timed))
    lead = (
        "Up and to the left is better. The dashed line is the Pareto front: nothing is more "
        "accurate than the ringed points on it without being larger or slower."
    )
    return Section("trade-offs", "Trade-offs", lead, blocks)


def _trade_off(results: Results, x: str, batches: Sequence[int]) -> Chart:
    """One chart for bytes, and one for latency with a panel for each batch size."""
    cost, axis = COSTS[x]
    modes = mode_names([run.mode for run in results.runs]) + ["peer"] * bool(results.peers)
    panels, tables = [], []
    for batch in batches:
        runs = [run for run in results.runs if run.batch_size == batch]
        peers = [peer for peer in results.peers if peer.batch_size == batch]
        rows = charts.trade_off_rows(x, runs, peers)
        front = [row for row in sorted(rows, key=lambda row: row[x]) if row["front"]]
        names = "; ".join(f"{row['label']} ({row['cost']})" for row in front)
        title = f"batch size {batch}" if x == "latency_s" else ""
        label = f"Test accuracy against {cost}, {len(rows)} networks."
        panels.append(Panel(title, rows, label, f"On the front: {names}."))
        header = ["network", "test accuracy [95% interval]", cost, "on the front"]
        cells = [[r["label"], r["text"], r["cost"], "yes" if r["front"] else "no"] for r in rows]
        caption = f"Test accuracy against {cost}" + (f", {title}" if len(batches) > 1 else "")
        tables.append(Table(caption, header, cells, names=1))
    spec = charts.for_page(charts.trade_off(x, axis, modes), 340)
    views = [0] if len(batches) > 1 else []
    return Chart(f"Accuracy against {cost}", spec, panels, tables, modes=modes, views=views)


def speed_section(results: Results) -> Section | None:
    """Speed-up over FP32, a panel for each batch size."""
    rows = charts.speed_rows(results.runs)
    if not rows:
        return None
    known = all(row["low"] is not None and row["high"] is not None for row in rows)
    modes = mode_names([run.mode for run in results.runs if run.mode != "fp32"])
    panels = [
        Panel(batch, here, f"Speed-up over FP32 at {batch}: {_read(here)}.")
        for batch in dict.fromkeys(row["batch"] for row in rows)
        for here in [[row for row in rows if row["batch"] == batch]]
    ]
    table = Table(
        "Speed-up over FP32",
        ["model", "mode", "batch", "× as fast as FP32"],
        [[r["model"], r["mode"], r["batch"].split()[-1], r["text"]] for r in rows],
    )
    spec = charts.for_page(charts.speed(results.models, modes, known), 240)
    lead = (
        f"Ternary files run on {results.engine or 'an engine that is not recorded'}, FP32 on "
        "PyTorch, interleaved in one process."
    )
    if any(run.disturbed for run in results.runs):
        lead += f" ~: {DISTURBED}"
    chart = Chart("Speed-up over FP32", spec, panels, [table], modes=modes)
    return Section("speed", "Speed", lead, [chart])


def _read(rows: charts.Rows) -> str:
    return ", ".join(f"{row['model']} {row['mode']} {row['text']}" for row in rows)


LIMITS = (
    "One seed. The intervals cover the choice of test images, not what another seed would change.",
    "Small networks on small images: what ternary weights cost elsewhere may differ.",
    "Latencies belong to the machine that took them, in one process, and compare only with those "
    "of the same run.",
    "FP32 runs on PyTorch and the ternary files on an engine of their own: the speed-up is that of "
    "both changes together.",
    "Bytes count the weights, scales and biases; the program that runs them is not in them.",
)


@dataclass(frozen=True)
class Method:
    """The end of the page.

    Attributes:
        steps: how it was measured.
        limits: what that cannot say.
        note: what to know before running the commands.
        commands: to do it again.
        facts: name and value of each circumstance.
        machine: what is known of the machine, as name and value.
        hashes: file and digest of everything that was measured.
    """

    steps: list[str]
    limits: tuple[str, ...]
    note: str
    commands: list[str]
    facts: list[tuple[str, str]]
    machine: list[tuple[str, str]]
    hashes: list[tuple[str, str]]


def method(results: Results, hashes: list[tuple[str, str]], dataset: str) -> Method:
    """What the page says at its end; `dataset` is params.yaml's, which may name a folder."""
    run = results.runs[0]
    commit = re.match(r"[0-9a-f]{7,40}", run.git_rev)
    commands = [f"git checkout {commit[0]}"] if commit else []
    commands += [
        "make benchmark",
        "dvc repro --single-item --force evaluate && dvc repro  # again",
    ]
    note = "In a clone of this project:"
    if commit and commit[0] != run.git_rev:
        note = f"The revision was {run.git_rev}: not all of it is in the commit. {note}"
    if dataset.startswith("path:"):
        note += " The data set is a folder of its author's: set data.dataset in params.yaml to it."
    methods = {r.mode: r.method for r in results.runs if r.method}
    steps = [
        "Each network is trained in FP32. "
        + ("PTQ ({ptq}) makes it ternary without labels. " if "ptq" in methods else "").format(
            **methods
        )
        + ("QAT ({qat}) trains it on with ternary weights." if "qat" in methods else "").format(
            **methods
        ),
        "Every figure comes from a packed file on disk, executed by the engine that a user runs. "
        "The test images are used for nothing else.",
        "Latencies are medians of blocks of calls, modes interleaved in random order after "
        "warm-up, on the number of threads given above.",
    ]
    facts = provenance(results.runs, results.machine, results.engine or "not recorded")
    facts = [fact for fact in facts if fact[0] != "Machine"]  # it has a list of its own
    machine = list(results.machine.facts.items())
    if results.notes.energy:
        machine.append(("energy", results.notes.energy))
    return Method(steps, LIMITS, note, commands, facts, machine, hashes)
