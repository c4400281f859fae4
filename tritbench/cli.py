"""The `tritbench` command. `run` is what `make benchmark` calls: the pipeline, then its table."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tritbench import __version__
from tritbench.errors import (
    EXIT_CODE_VARIABLE,
    EXIT_ERROR,
    EXIT_NO_SOURCE,
    TritbenchError,
    reported,
)
from tritbench.git import check_repository
from tritbench.optional import explained

BENCHMARKS = Path("benchmarks")
PIPELINE = (
    "run",
    "compare",
    "history",
    "sweep",
    "docs",
    "machines",
)  # commands that need tritbench[pipeline]
STOPPED = "the pipeline stopped; the lines above say why"


def main() -> None:
    """Parse the command line and run the command."""
    with reported("tritbench"):
        parser = make_parser()
        flags = parser.parse_args()
        with explained("pipeline" if flags.command in PIPELINE else None):
            _run_command(parser, flags)


def make_parser() -> argparse.ArgumentParser:
    """The command line; `shtab` makes a shell's completion from it."""
    parser = argparse.ArgumentParser(prog="tritbench", description=__doc__)
    parser.add_argument("--version", action="version", version=f"tritbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    bring = commands.add_parser("run", help="bring the benchmark up to date and print its table")
    bring.add_argument("--preset", metavar="NAME", help="with the parameters of presets/NAME.yaml")
    _add_compare(commands)
    _add_history(commands)
    _add_inspect(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_try(commands)
    _add_sweep(commands)
    commands.add_parser("docs", help="write the figures of benchmarks/ into README and docs/")
    commands.add_parser("machines", help="keep this run's timings in benchmarks/machines.csv")
    return parser


def _run_command(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    # Imported when asked for: they bring what `pip install tritbench` leaves out, and PyTorch takes
    # longer than a run of nothing.
    match flags.command:
        case "run":
            run(flags.preset)
        case "compare":
            from tritbench.commands import compare

            compare.run(flags.before, flags.after)
        case "history":
            from tritbench.commands import history

            history.run(flags.csv, flags.html)
        case "docs":
            from tritbench.commands import docs

            docs.run()
        case "machines":
            from tritbench.commands import machines

            machines.run()
        case "inspect":
            from tritbench.commands import inspect

            form = "json" if flags.json else "mermaid" if flags.mermaid else "table"
            inspect.run(flags.file, form)
        case "predict":
            from tritbench.commands import predict

            form = "json" if flags.json else "csv" if flags.csv else "text"
            predict.run(flags.file, flags.images, form)
        case "export":
            if not (flags.gguf or flags.onnx or flags.t81 or flags.program):
                parser.error("export: expected --gguf, --onnx, --t81 or --program with a file")
            from tritbench.commands import export

            paths = (flags.onnx, flags.t81, flags.program)
            export.run(flags.file, flags.gguf, flags.gguf_type, *paths, flags.mode)
        case "try":
            from tritbench.commands import attempt

            attempt.run(_attempt(parser, flags))
        case "sweep":
            from tritbench.commands import sweep

            sweep.run(flags.file, flags.optimize, flags.time)


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare", help="what a change did, as Markdown; fails where it breaks a gate"
    )
    parser.add_argument("before", help="a git revision or a DVC experiment")
    parser.add_argument("after", nargs="?", help="the same; without it, the working tree")


def _add_history(commands: Any) -> None:
    parser = commands.add_parser("history", help="the runs of git's history and DVC's experiments")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="every row, for a spreadsheet")
    parser.add_argument("--html", type=Path, metavar="OUT", help="a page with figure and table")


def _add_inspect(commands: Any) -> None:
    parser = commands.add_parser("inspect", help="layers, sizes and origin of a network's file")
    parser.add_argument("file", type=Path, help="a .trit file, or an FP32 checkpoint")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for machines")
    form.add_argument("--mermaid", action="store_true", help="a picture of the graph")


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser("predict", help="classify images")
    parser.add_argument("file", type=Path, help="a .trit file, or an FP32 checkpoint")
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="image",
        help="PNG, JPEG, BMP, WEBP, IDX, or a folder",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects")
    form.add_argument("--csv", action="store_true", help="a row for each image")


def _add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a .trit file in another format")
    parser.add_argument("file", type=Path, help="a .trit file")
    parser.add_argument("--gguf", type=Path, metavar="OUT", help="for ggml")
    parser.add_argument("--gguf-type", default="TQ2_0", help="TQ2_0 (default) or TQ1_0")
    parser.add_argument("--onnx", type=Path, metavar="OUT", help="float32, uint8 images to logits")
    parser.add_argument("--t81", type=Path, metavar="OUT.npz", help="t81lib's limbs")
    parser.add_argument("--program", type=Path, metavar="OUT.tb", help="for C programs")
    modes = ("int8", "static", "exact")
    parser.add_argument("--mode", choices=modes, default="int8", help="of a Program (default int8)")


def _add_try(commands: Any) -> None:
    parser = commands.add_parser("try", help="what ternary costs your network, on your images")
    parser.add_argument("network", help="package.module:name of what makes it, or a built-in one")
    parser.add_argument("--data", required=True, help="a folder of images, or a data set's name")
    parser.add_argument("--weights", type=Path, help="in FP32: .safetensors, .pt or .pth")
    parser.add_argument("--qat", type=int, default=0, metavar="EPOCHS", help="train as well")
    parser.add_argument("--size", type=int, help="pixels that images become")
    parser.add_argument("--no-latency", action="store_true", help="accuracy and bytes alone")
    for name in ("mean", "std"):
        what = "of each channel in 0..1, as the weights were trained: 0.485,0.456,0.406"
        parser.add_argument(f"--{name}", type=_numbers, help=what)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for all that is written")


def _attempt(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> Any:
    from tritbench.attempt import Attempt
    from tritbench.commands.attempt import default_folder

    if (flags.mean is None) != (flags.std is None):
        parser.error("try: expected --mean and --std together")
    out = flags.out or default_folder(flags.network)
    given = (flags.weights, flags.size, flags.mean, flags.std, flags.qat, not flags.no_latency)
    return Attempt(flags.network, flags.data, out, *given)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with commas") from None


def _add_sweep(commands: Any) -> None:
    parser = commands.add_parser("sweep", help="many experiments from one file (docs/sweeps.md)")
    parser.add_argument("file", type=Path, help="what varies, and where it runs")
    parser.add_argument(
        "--optimize", type=_count, metavar="N", help="let Optuna choose N points of the grid"
    )
    parser.add_argument("--time", action="store_true", help="time the Pareto front at the end")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of points")
    return int(text)


def run(preset: str | None = None) -> None:
    """Reproduce the pipeline in the working directory and print the result.

    Where no source has the data set, the embedded one is used instead, as a changed parameter.
    A preset changes params.yaml, as `dvc exp run -S` does.

    Raises:
        TritbenchError: for wrong parameters, outside of a git repository, or where a stage failed.
    """
    from tritbench.params import load_params, read_preset
    from tritbench.report.runs import read_machine, read_runs
    from tritbench.report.summary import table_text

    load_params()  # DVC would say it in its own words, or not at all
    check_repository()
    changes = [part for change in read_preset(preset) for part in ("-S", change)] if preset else []
    code = _reproduce(*(["exp", "run", *changes] if preset else ["repro"]))
    if code == EXIT_NO_SOURCE:
        print(
            "\n*** NO SOURCE HAS THE DATA SET. Running on the EMBEDDED drawings instead: ***\n"
            "***   dvc exp run -S data.dataset=embedded                                 ***\n"
            "*** These figures are not Fashion-MNIST's. params.yaml shows the change.   ***\n",
            file=sys.stderr,
        )
        code = _reproduce("exp", "run", "-S", "data.dataset=embedded")
    if code:
        raise TritbenchError(STOPPED)
    _, engine = read_machine(BENCHMARKS / "latency.json")
    runs = read_runs(BENCHMARKS / "quantization_runs.csv", load_params().models)
    print(table_text(runs, engine or "not recorded"))
    print(f"The report: {BENCHMARKS / 'report.html'}")


def _reproduce(*arguments: str) -> int:
    """Run DVC; return 0, or the exit code of the stage that failed."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "exit-code"
        command = [sys.executable, "-m", "dvc", *arguments]
        if subprocess.run(command, env=os.environ | {EXIT_CODE_VARIABLE: str(note)}).returncode:
            return int(note.read_text()) if note.exists() else EXIT_ERROR
        return 0
