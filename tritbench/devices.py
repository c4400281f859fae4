"""What a training runs on, and PyTorch set up for it."""

import ctypes
import os

import torch
import torch.utils.deterministic

from tritbench import parallel
from tritbench.errors import TritbenchError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def use_device(device: str, threads: int) -> str:
    """Set PyTorch up for reproducible work and name the device: cpu, or cuda where `auto` finds it.

    `threads` are this machine's: the processes that train together share them.

    Raises:
        TritbenchError: where cuda is asked for and absent.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, 1 s sooner
    # That mode also fills new memory, so that reading it too early is seen: a fifth of all time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(max(1, threads // parallel.processes_here()))
    _keep_freed_memory()
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise TritbenchError("train.device = 'cuda': no CUDA device here; expected cpu or auto")
    if device == "auto":
        device = "cuda" if available else "cpu"
    parallel.join(device)
    return device


def _keep_freed_memory() -> None:
    """Ask glibc to keep what is freed: a tensor of megabytes otherwise goes back to the kernel and
    comes anew, page by page, at every step, which doubles the time of elementwise work."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
