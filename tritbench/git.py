"""What git says about the repository in the working directory."""

import os
import subprocess
from pathlib import Path

from tritbench.errors import TritbenchError


class GitError(TritbenchError):
    """git ran and failed; the text is what it said, in one line."""


class NoRepositoryError(GitError):
    """The folder lies in no git repository; the text says how to make one."""


def git(*arguments: str, folder: Path = Path()) -> str:
    """What a git command prints, without the last line's end.

    Raises:
        NoRepositoryError: where the folder is in none.
        GitError: where git failed, for example in a clone that another user owns.
        TritbenchError: where there is no git.
    """
    return git_bytes(*arguments, folder=folder).decode(errors="replace").strip()


def git_bytes(*arguments: str, folder: Path = Path()) -> bytes:
    """What a git command prints, as it is; raises as `git` does."""
    result = _run(*arguments, folder=folder)
    if result.returncode:
        raise _error(arguments[0], result.stderr, folder)
    return result.stdout


def git_object(name: str, folder: Path = Path()) -> str | None:
    """The hash of what a name like `HEAD`, `v1^{commit}` or `HEAD:./file` means, None of nothing.

    Raises as `git` does: what git cannot look up is not what is not there.
    """
    command = ("rev-parse", "--verify", "--quiet", "--end-of-options", name)
    result = _run(*command, folder=folder)
    if result.returncode not in (0, 1):
        raise _error(command[0], result.stderr, folder)
    return result.stdout.decode().strip() or None


def check_repository(folder: Path = Path()) -> None:
    """Raise NoRepositoryError where the folder lies in no git repository, as DVC asks for one.

    A repository that git refuses to read, as another user's, is one: DVC reads it by itself.
    """
    try:
        git("rev-parse", "--git-dir", folder=folder)
    except NoRepositoryError:
        raise
    except GitError:
        pass


def _run(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[bytes]":
    untranslated = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(
            ["git", *arguments], cwd=folder, env=untranslated, capture_output=True
        )
    except FileNotFoundError:
        raise TritbenchError("git: no such program; expected it on PATH") from None


def _error(command: str, stderr: bytes, folder: Path) -> GitError:
    said = " ".join(stderr.decode(errors="replace").split())
    if "not a git repository" in said:
        return NoRepositoryError(
            f"{folder.resolve()}: in no git repository, expected a clone; "
            "`git init && git add -A && git commit -m start` makes one of a copy"
        )
    return GitError(f"git {command}: {said}")
