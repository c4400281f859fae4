"""What runs on a node of a Ray cluster. Sent there by value, so it imports nothing of ours.

A node needs git, Python with this project's dependencies, and the way to the two remotes. This
project itself comes from the clone.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 5


@dataclass(frozen=True)
class Task:
    """One experiment, or one training for others, on a node.

    Attributes:
        name: of the experiment.
        revision: the commit that it starts from.
        stages: of dvc.yaml, in order.
        changes: of parameters, as `key=value` in Hydra's grammar.
        git: URL of the repository to clone and to push the experiment to.
        folder: of the project in the repository; empty where it is the whole.
        reference: the experiment's git reference; None where only its caches matter.
        remote: of DVC; None is the default one.
        run_cache: whether DVC's run cache goes to the remote.
    """

    name: str
    revision: str
    stages: list[str]
    changes: list[str]
    git: str
    folder: str
    reference: str | None
    remote: str | None
    run_cache: bool


class CommandError(Exception):
    """A command failed; the text is its last lines."""


def work(task: Task, *errors_before: str | None) -> str | None:
    """Run a task; the last lines of what failed, or None.

    What a task finished is pushed before Ray hears of it, and the reference last: an experiment
    that is listed is whole, and one that is not is run again.

    Args:
        task: what to run.
        errors_before: what the trainings that it needs returned.
    """
    for error in errors_before:
        if error is not None:
            return error
    try:
        home = _home(task)
        with tempfile.TemporaryDirectory(dir=home) as folder:
            _run_in_clone(task, home, Path(folder))
    except CommandError as error:
        return str(error)
    return None


def _run_in_clone(task: Task, home: Path, clone: Path) -> None:
    python = Path(sys.executable)
    project = clone / task.folder
    environment = os.environ | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(home / "site"),  # before any tritbench that is installed
    }

    def run(*command: str) -> str:
        return _run(*command, folder=project, environment=environment)

    def dvc(*arguments: str) -> str:
        return run(str(python), "-m", "dvc", *arguments)

    _run("git", "clone", "-q", "--no-checkout", str(home / "source"), ".", folder=clone)
    _run("git", "checkout", "-q", task.revision, folder=clone)
    for key, value in (("user.name", "tritbench sweep"), ("user.email", "sweep@localhost")):
        run("git", "config", key, value)
    if task.reference and run("git", "ls-remote", task.git, task.reference):
        return  # it was pushed, and the node died before Ray heard of it
    local = f"[cache]\n    dir = {home / 'cache'}\n"
    if task.remote:
        local += f"[core]\n    remote = {task.remote}\n"
    (project / ".dvc/config.local").write_text(local)
    changes = [part for change in task.changes for part in ("-S", change)]
    # Not --allow-missing: the folder `models` is there as soon as one network is, and `evaluate`
    # would miss those of stages that were skipped as unchanged. --pull brings just these stages'.
    dvc("exp", "run", "--pull", "--single-item", "--name", task.name, *changes, *task.stages)
    dvc("push", "-q", *(["--run-cache"] if task.run_cache else []), *task.stages)
    if task.reference:
        run("git", "push", "-q", task.git, f"{task.reference}:{task.reference}")


def _home(task: Task) -> Path:
    """This node's folder for a revision: source, built package, and a cache that points share."""
    home = Path(tempfile.gettempdir()) / f"tritbench-sweep-{os.getuid()}" / task.revision[:12]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            source = home / "source"
            _run("rm", "-rf", str(source), str(home / "site"), folder=home)
            _run("git", "clone", "-q", task.git, str(source), folder=home)
            _run("git", "checkout", "-q", task.revision, folder=source)
            install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
            install += ["--no-build-isolation", "--target", str(home / "site"), "."]
            _run(*install, folder=source / task.folder)
            (home / "ready").touch()
    return home


def _run(*command: str, folder: Path, environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        lines = [line for line in result.stdout.splitlines() if line.strip()]
        raise CommandError("\n".join(lines[-LAST_LINES:]) or f"{command[0]} failed")
    return result.stdout.strip()
