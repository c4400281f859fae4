"""Peak memory of a process that loads a model and runs it, above one that does neither.

    python -m tritbench.measure.memory '{"runs": [[PATH, BATCH], ...], "threads": N}'

prints a list of bytes, one for each run. The process imports what runs models, PyTorch among it,
and forks for each run: every model meets the same process, fresh from its imports.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from pathlib import Path

STATUS = Path("/proc/self/status")

PeakMemory = dict[tuple[Path, int], int | None]  # by file and batch size


def peak_memory(
    paths: Iterable[Path], batch_sizes: Iterable[int], threads: int
) -> Callable[[], PeakMemory]:
    """Start to measure in the background; calling the result waits for the bytes.

    None where the system does not tell or a model fails.

    Args:
        paths: of model files.
        batch_sizes: images that each runs at once.
        threads: of PyTorch and the engine.
    """
    runs = list(product(paths, batch_sizes))
    if not STATUS.exists():
        return lambda: dict.fromkeys(runs)
    task = {"runs": [(str(path), batch) for path, batch in runs], "threads": threads}
    command = [sys.executable, "-m", "tritbench.measure.memory", json.dumps(task)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    @cache
    def result() -> PeakMemory:
        output, _ = process.communicate()
        if process.returncode:
            return dict.fromkeys(runs)
        return dict(zip(runs, json.loads(output), strict=True))

    return result


def _forked(path: str, batch: int, threads: int) -> int | None:
    """What a child process says that it took."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.write(write, str(_measured(path, batch, threads)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    os.wait()
    return int(answer) if answer else None


def _measured(path: str, batch: int, threads: int) -> int:
    import numpy as np

    from tritbench import runtime

    # Without the pages of files: a forked process maps the libraries' code as it comes to it.
    empty = _kilobytes("RssAnon")
    model = runtime.load(path, threads)
    model(np.zeros((batch, *model.input.shape), np.uint8))
    return 1024 * max(0, _kilobytes("VmHWM") - _kilobytes("RssFile") - empty)


def _kilobytes(key: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _main(runs: list[tuple[str, int]], threads: int) -> None:
    import torch

    from tritbench.runtime import NATIVE

    for module in ("reference", "engine" if NATIVE else "fallback"):  # the empty process holds them
        importlib.import_module(f"tritbench.runtime.{module}")
    torch.set_num_threads(threads)
    gc.collect()
    print(json.dumps([_forked(path, batch, threads) for path, batch in runs]))


if __name__ == "__main__":
    _main(**json.loads(sys.argv[1]))
