"""Figures of a run in the documents: what stands between two comments comes from its files.

`<!-- figures:NAME -->` and `<!-- /figures -->` hold what FIGURES makes of `benchmarks/`, or the
Markdown file that NAME is. `tritbench docs` writes it there.
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.report import machines, seeds
from tritbench.report.rows import Peer, read_of_run
from tritbench.report.runs import Run, parse_runs, read_machine
from tritbench.report.summary import MODE_NAMES, advice, by_model_and_mode, results_table
from tritbench.report.text import NOTHING, escape_markdown, markdown_table, times

BENCHMARKS = Path("benchmarks")
RUNS = BENCHMARKS / "quantization_runs.csv"
SEEDS = BENCHMARKS / "methods_raw.csv"
KERNELS = BENCHMARKS / "kernels.csv"
MACHINES = BENCHMARKS / "machines.csv"
NETWORKS = BENCHMARKS / "networks.csv"
SCENARIOS = BENCHMARKS / "scenarios.csv"
BLOCK = re.compile(r"(<!-- figures:(\S+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
# What the first columns of README's table are called in the whole one, beside the first latency.
SHOWN = ("model", "mode", "test accuracy", "Δ", "bytes", "smaller")
WORDS = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
WORDS |= {"fp32": "FP32", "tq2_0": "TQ2_0", "dynamic": ""}


def fill(page: Path) -> bool:
    """Bring a page's figures up to date; whether that changed it.

    Raises:
        TritbenchError: naming the page and the figures that there are none of.
    """
    text = page.read_text(encoding="utf-8")
    new = filled(text, str(page))
    if new != text:
        write_atomic(page, new)
    return new != text


def filled(text: str, origin: str) -> str:
    """A page's text with today's figures; those whose file is not there stay as they are.

    Raises:
        TritbenchError: naming `origin` and a block that is not closed or has no such name.
    """

    def content(block: re.Match[str]) -> str:
        begin, name, end = block.groups()
        if not name.endswith(".md") and name not in FIGURES:
            known = ", ".join(FIGURES)
            raise TritbenchError(f"{origin}: figures:{name}: expected {known} or a .md file")
        source, make = FIGURES.get(name, (Path(name), None))
        if not source.exists():
            return block.group()
        made = make() if make else source.read_text(encoding="utf-8")
        return f"{begin}{made.rstrip()}\n{end}"

    found = BLOCK.findall(text)
    if len(found) != text.count("<!-- figures:") or len(found) != text.count("<!-- /figures -->"):
        raise TritbenchError(
            f"{origin}: expected <!-- /figures --> after each <!-- figures:NAME -->"
        )
    return BLOCK.sub(content, text)


def results() -> str:
    """README's table: accuracy, bytes and the first latency; and what they hold for."""
    runs = _runs()
    models = list(dict.fromkeys(run.model for run in runs))
    peers = read_of_run(BENCHMARKS / "peers.csv", Peer, models, runs[0].run_id)
    header, rows = results_table(runs, peers)
    first = f"batch {runs[0].batch_size}"
    shown = [i for i, name in enumerate(header) if name.startswith(SHOWN) or name.endswith(first)]
    table = markdown_table([header[i] for i in shown], [[row[i] for i in shown] for row in rows])
    machine, _ = read_machine(BENCHMARKS / "latency.json")
    run, threads = runs[0], f"{runs[0].threads} thread{'s' if runs[0].threads > 1 else ''}"
    cores = f"{machine.cpu}, {machine.isa}"
    about = f"{run.dataset}, seed {run.seed}; {threads} of {cores}; {run.timestamp[:10]}."
    return "\n".join([*table, "", escape_markdown(advice(runs)), "", escape_markdown(about)])


def over_seeds() -> str:
    """The default methods on fresh seeds: means, intervals and what they show."""
    found = seeds.summaries(seeds.read_seeds(SEEDS), "confirmation")
    lines = markdown_table(*seeds.brief_table(found))
    first = "Over seeds that had no part in choosing the methods:"
    return "\n".join([first, "", *lines, "", seeds.explanation(found)])


def summary() -> str:
    """The whole table and its circumstances, as benchmarks/summary.md has them."""
    _, table, about, *_ = (BENCHMARKS / "summary.md").read_text(encoding="utf-8").split("\n\n")
    return f"{table}\n\n{about}"


def sizes() -> str:
    """Zeros, file and entropy of each ternary network."""
    header = ["network", "mode", "zeros", "file, bytes", "smaller", "bits a weight"]
    header += ["entropy of the trits, bits"]
    fp32 = {group[0].model: group[0] for group in _groups() if group[0].mode == "fp32"}
    rows = [
        [
            run.model,
            MODE_NAMES[run.mode],
            NOTHING if run.zeros is None else f"{100 * run.zeros:.1f}%",
            f"{run.file_bytes:,}",
            times(fp32[run.model].bytes / run.file_bytes),
            _two_digits(run.bits_per_weight),
            _two_digits(run.entropy_bits),
        ]
        for run in (group[0] for group in _groups())
        if run.mode != "fp32"
    ]
    return "\n".join(markdown_table(header, rows))


def kernels() -> str:
    """The engine beside its peers: microseconds, and how many times the engine's."""
    return _engines(KERNELS, "µs", 1e6)


def networks() -> str:
    """The same for whole networks, in milliseconds."""
    return _engines(NETWORKS, "ms", 1e3)


def _engines(path: Path, unit: str, scale: float) -> str:
    rows = [row for row in _rows(path) if not row["engine"].startswith("native, ")]
    names = dict.fromkeys(_engine(row) for row in rows if row["engine"] != "native")
    header = ["instructions", unit, "batch", "tritbench", "limit", "reached", *names]
    table = []
    for case in dict.fromkeys((row["isa"], row["case"], row["batch_size"]) for row in rows):
        taken = {
            _engine(row): row
            for row in rows
            if (row["isa"], row["case"], row["batch_size"]) == case
        }
        native = taken["native"]
        cells = [
            f"**{_short(native['latency_s'], scale)}**",
            f"{_short(native['limit_s'], scale)} ({native['limit_by']})",
            f"{float(native['reached']):.0%}",
        ]
        for name in names:
            row = taken.get(name)
            ratio = row and f"{float(row['native_speedup']):.1f}×"
            cells.append(f"{_short(row['latency_s'], scale)} ({ratio})" if row else "")
        table.append([*case, *cells])
    lines = [f"| {' | '.join(header)} |", f"|---|---|{'--:|' * (len(header) - 2)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in table]
    machines = dict.fromkeys(
        f"{row['isa']}: machine {row['machine']}, {row['timestamp'][:10]}" for row in rows
    )
    return "\n".join([*lines, "", f"{'; '.join(machines)}."])


def threads() -> str:
    """How much faster more threads make the engine."""
    found = [
        f"{row['case']} at batch {row['batch_size']} ({row['isa']}) "
        f"{1 / float(row['native_speedup']):.2f}× faster ({_short(row['latency_s'], 1e6)} µs)"
        for path in (KERNELS, NETWORKS)
        for row in _rows(path)
        if row["engine"].startswith("native, ")
    ]
    return f"Two threads: {'; '.join(found)}."


def scenarios() -> str:
    """What a caller sees, by how the calls come in."""
    rows = _rows(SCENARIOS)
    of = {(row["model"], row["mode"], row["scenario"]): row for row in rows}
    header = ["network", "mode", "single stream, p90", "server, p99", "queries a second there"]
    header += ["offline, images a second", "its test accuracy"]
    table = []
    for model, mode in dict.fromkeys((row["model"], row["mode"]) for row in rows):
        single, server, offline = (
            of[model, mode, scenario] for scenario in ("single stream", "server", "offline")
        )
        table.append(
            [
                model,
                MODE_NAMES[mode],
                f"{_short(single['latency_p90_s'])} µs",
                f"{_short(server['latency_p99_s'])} µs",
                f"{float(server['images_per_s']):,.0f}",
                f"{float(offline['images_per_s']):,.0f}",
                f"{float(offline['test_accuracy']):.2%}",
            ]
        )
    threads = {row["scenario"]: row["threads"] for row in rows}
    about = (
        f"Machine {rows[0]['machine']}, {rows[0]['timestamp'][:10]}; single stream and server on "
        f"{threads['server']} thread, offline on {threads['offline']}."
    )
    return "\n".join([*markdown_table(header, table), "", about])


def _two_digits(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _runs() -> list[Run]:
    return parse_runs(RUNS.read_text(encoding="utf-8"), str(RUNS))


def _groups() -> list[list[Run]]:
    return by_model_and_mode(_runs())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _engine(row: dict[str, str]) -> str:
    """An engine's name for a reader, without the remark of one row.

    >>> _engine({"engine": "onnxruntime int8"}), _engine({"engine": "ggml tq2_0 (K=768)"})
    ('ONNX Runtime int8', 'ggml TQ2_0')
    """
    words = row["engine"].partition(" (")[0].split()
    return " ".join(filter(None, (WORDS.get(word, word) for word in words)))


def _short(seconds: str, scale: float = 1e6) -> str:
    value = scale * float(seconds)
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


FIGURES: dict[str, tuple[Path, Callable[[], str]]] = {
    "results": (RUNS, results),
    "seeds": (SEEDS, over_seeds),
    "summary": (BENCHMARKS / "summary.md", summary),
    "sizes": (RUNS, sizes),
    "kernels": (KERNELS, kernels),
    "networks": (NETWORKS, networks),
    "threads": (KERNELS, threads),
    "scenarios": (SCENARIOS, scenarios),
    "machines": (MACHINES, lambda: machines.table(MACHINES)),
}
