"""A sweep's experiments as DVC keeps them: git references on the commit that they start from."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from tritbench.errors import TritbenchError
from tritbench.git import git

# What a sweep itself writes, as git's pathspecs that leave it out.
WRITTEN = (":!sweeps", ":!docs/sweeps.md")


@dataclass
class Progress:
    """Points done, running and failed, with the time left; `failed` holds their last lines."""

    total: int
    done: int
    failed: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Progress":
        self._bar = tqdm(total=self.total, initial=self.done, unit="point", desc="sweep")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def finish(self, name: str, error: str | None = None) -> None:
        """Count one point; with its last lines if it failed, which are printed at once."""
        self.done += 1
        if error is not None:
            self.failed[name] = error
            lines = "\n  ".join(error.splitlines())
            self._bar.write(f"{name} failed:\n  {lines}", file=sys.stderr)
        self._bar.update()

    def running(self, count: int) -> None:
        """Show how many run now."""
        self._bar.set_postfix(running=count, failed=len(self.failed))


def baseline() -> str:
    """The commit that the experiments start from.

    Raises:
        TritbenchError: where the working tree differs from it: points would carry the difference,
            and their names would not tell.
    """
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN)
    if changed:
        raise TritbenchError(
            f"{changed.split()[1]} differs from the last commit, expected a clean working tree; "
            "commit, or git checkout"
        )
    return git("rev-parse", "HEAD")


def finished(start: str) -> set[str]:
    """Names of the experiments on commit `start`."""
    lines = git("for-each-ref", "--format=%(refname)", reference(start, "")).split()
    return {line.rsplit("/", 1)[1] for line in lines}


def fetch(start: str, url: str) -> None:
    """Bring the experiments on commit `start` from another git repository, not their models."""
    every = reference(start, "*")
    git("fetch", "-q", "--no-tags", url, f"{every}:{every}")


def reference(start: str, name: str) -> str:
    """The git reference of an experiment, as DVC names it."""
    return f"refs/exps/{start[:2]}/{start[2:]}/{name}"


def read_file(start: str, name: str, path: Path) -> str:
    """A file as an experiment left it in git, its path relative to the working directory."""
    return git("show", f"{reference(start, name)}:./{path}")


def project_folder() -> str:
    """The working directory's place in its repository, as `folder/`; empty where it is the root."""
    return git("rev-parse", "--show-prefix")


def use_this_python() -> None:
    """Let `python` and `dvc` of the stages be those that run this, also outside its environment."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
