"""Every number in tables, and what others give in place of the ternary networks."""

from collections.abc import Sequence

from tritbench.report import seeds
from tritbench.report.answer import minus
from tritbench.report.blocks import Section, Table
from tritbench.report.chart_data import between
from tritbench.report.extras import Peer, SingleCalls
from tritbench.report.runs import Results, Run
from tritbench.report.seeds import Summary
from tritbench.report.summary import (
    MODE_NAMES,
    NOTHING,
    W158A8,
    by_model_and_mode,
    difference,
    percent,
    results_table,
    seconds,
    size,
    speedup,
    times,
    within,
)


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
