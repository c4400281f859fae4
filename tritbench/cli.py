"""The `tritbench` command. `run` is what `make benchmark` calls: the pipeline, then its table."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tritbench.errors import EXIT_NO_SOURCE, TritbenchError, reported
from tritbench.measure.machine import fingerprint
from tritbench.params import load_params
from tritbench.report.runs import read_runs
from tritbench.report.summary import table_text

BENCHMARKS = Path("benchmarks")


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="tritbench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="bring the benchmark up to date and print its table")
    parser.parse_args()
    with reported("tritbench"):
        run()


def run() -> None:
    """Reproduce the pipeline in the working directory and print the result.

    Where no source has the data set, the embedded one is used instead, as a changed parameter.
    Latencies that another machine took are measured again on this one.

    Raises:
        TritbenchError: for wrong parameters, or where a stage failed.
    """
    load_params()
    if not _dvc("repro"):
        if not _no_source():
            raise TritbenchError("the pipeline stopped; the lines above say why")
        print(
            "\n*** NO SOURCE HAS THE DATA SET. Running on the EMBEDDED drawings instead: ***\n"
            "***   dvc exp run -S data.dataset=embedded                                 ***\n"
            "*** These figures are not Fashion-MNIST's. params.yaml shows the change.   ***\n",
            file=sys.stderr,
        )
        if not _dvc("exp", "run", "-S", "data.dataset=embedded"):
            raise TritbenchError("the pipeline stopped; the lines above say why")
    taken_on = json.loads((BENCHMARKS / "latency.json").read_text())["machine"]["id"]
    if taken_on != fingerprint()["id"]:
        print(f"tritbench: latencies are of another machine ({taken_on}); measuring them here")
        if not (_dvc("repro", "--force", "--single-item", "evaluate") and _dvc("repro")):
            raise TritbenchError("the pipeline stopped; the lines above say why")
    print(table_text(read_runs(BENCHMARKS / "quantization_runs.csv", load_params().models)))
    print(f"The report: {BENCHMARKS / 'report.html'}")


def _dvc(*arguments: str) -> bool:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments]).returncode == 0


def _no_source() -> bool:
    """Whether the download stage is what failed, and for want of a source.

    DVC does not pass a stage's exit code on, so the stage is asked again, quickly: without a
    source it fails the same way before it writes anything.
    """
    if load_params().data.folder.exists():
        return False
    stage = subprocess.run([sys.executable, "stages/download.py"], stderr=subprocess.DEVNULL)
    return stage.returncode == EXIT_NO_SOURCE
