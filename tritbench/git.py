"""What git says about the repository in the working directory."""

import subprocess
from pathlib import Path

from tritbench.errors import TritbenchError, last_lines


class GitError(TritbenchError):
    """git ran and failed; the text is its last line."""


def git(*arguments: str, folder: Path = Path()) -> str:
    """What a git command prints, without the last line's end.

    Raises:
        GitError: where it failed.
        TritbenchError: where there is no git.
    """
    return git_bytes(*arguments, folder=folder).decode(errors="replace").strip()


def git_bytes(*arguments: str, folder: Path = Path()) -> bytes:
    """What a git command prints, as it is; raises as `git` does."""
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True)
    except FileNotFoundError:
        raise TritbenchError("git: no such program; expected it on PATH") from None
    if result.returncode:
        why = last_lines(result.stderr.decode(errors="replace"), 1)
        raise GitError(f"git {arguments[0]}: {why}")
    return result.stdout
