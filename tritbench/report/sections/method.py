"""How it was measured, what that cannot say, and how to do it again."""

import re
from dataclasses import dataclass

from tritbench.report.runs import Results
from tritbench.report.summary import provenance

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
