"""Bringing a data set into data/NAME/: verified, decoded, and as a whole or not at all."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tritbench.data.sources import open_source
from tritbench.data.store import PROGRESS, store
from tritbench.errors import TritbenchError
from tritbench.params import DataParams

KEPT = 2**28  # bytes of arrays that are worth keeping


def fetch(
    params: DataParams, seed: int, *, into: Path = Path("data"), program: str = "download"
) -> Path:
    """Make `into`/NAME/ hold the arrays of `params.dataset` and dataset.json; return it.

    The files are gathered in a hidden folder beside data/NAME/, which takes its place at the end,
    so that an interruption leaves nothing, but for many decoded pictures: those are kept beside
    `into`, out of DVC's reach, and the next run goes on from there.

    Args:
        params: which data set, mirrors to try, and the size of images.
        seed: selects the images of the embedded set, and the test images of sets without them.
        into: the parent of the data set's folder.
        program: begins the lines on stderr.

    Raises:
        NoSource: nothing that was tried has the data set.
        TritbenchError: a user's folder does not hold a data set.
    """
    folder = into / params.name
    users = params.users_folder
    if users is not None and (not params.name or users.is_relative_to(into.resolve())):
        raise TritbenchError(
            f"data.dataset = {params.dataset}: expected a folder outside {into}/, which is replaced"
        )
    is_new = not folder.parent.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as work:
            (Path(work) / "downloads").mkdir()
            unfinished = into.absolute().parent / f".unfinished.{params.name}"
            with _resumed(Path(work) / "new", unfinished):
                source = open_source(params, seed, Path(work) / "downloads", program)
                store(source, Path(work) / "new", params.name, params.size, seed, program)
            if folder.exists():
                os.replace(folder, Path(work) / "old")
            os.replace(Path(work) / "new", folder)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        raise
    return folder


@contextlib.contextmanager
def _resumed(folder: Path, unfinished: Path) -> Iterator[None]:
    """Give the body what an interrupted run left, and leave what it has where it is interrupted."""
    if os.path.isdir(unfinished):
        os.replace(unfinished, folder)  # one process gets it
    try:
        yield
    except BaseException:
        size = sum(file.stat().st_size for file in folder.glob("*.npy"))
        if (folder / PROGRESS).exists() and size >= KEPT and not unfinished.exists():
            shutil.move(folder, unfinished)
            print(f"{unfinished}: decoded pictures; the next run goes on there", file=sys.stderr)
        raise
