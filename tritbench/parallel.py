"""Data-parallel training: one program in several processes, each with its slice of every batch.

Whatever belongs to the global batch stays global: gradients (DistributedDataParallel), BatchNorm's
statistics, Dropout's masks. So the number of processes changes results by rounding only.
"""

import atexit
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from tritbench.errors import TritbenchError

STARTED = "TRITBENCH_LAUNCHER"  # set in what `launch` starts
PR_SET_PDEATHSIG = 1  # of prctl(2)
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


@dataclass(frozen=True)
class Group:
    """The processes that train one network together, and which of them this one is."""

    rank: int = 0
    size: int = 1

    def shard(self, count: int) -> slice:
        """This process's part of `count` things: equal parts, where the size divides them."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def gather(self, shard: Tensor, count: int) -> Tensor:
        """All `count` rows, of which each process has its shard; no gradient."""
        if self.size == 1:
            return shard
        rows = shard.new_zeros(count, *shard.shape[1:])
        rows[self.shard(count)] = shard
        return self.all_reduce(rows)

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same in each; no gradient."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values


def group() -> Group:
    """The group that `join` joined, or this process alone."""
    if not distributed.is_initialized():
        return Group()
    return Group(distributed.get_rank(), distributed.get_world_size())


def join(device: str) -> None:
    """Meet the other processes, where torchrun started this one; gloo on CPU, NCCL on CUDA.

    Raises:
        TritbenchError: where this machine has fewer CUDA devices than processes.
    """
    if "RANK" not in os.environ or distributed.is_initialized():
        return
    _end_with_parent()
    local_rank = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if local_rank >= (devices := torch.cuda.device_count()):
            raise TritbenchError(
                f"train.launcher: process {local_rank} of this machine has no CUDA device of its "
                f"own; expected at most {devices} processes"
            )
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    atexit.register(distributed.destroy_process_group)


def processes_here() -> int:
    """How many processes of the group share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def launch(launcher: str | None) -> bool:
    """Run this program anew under `launcher`, to its end; False where it is to run as it is.

    Raises:
        TritbenchError: in one line, what ended a process; all others are ended then.
    """
    if launcher is None or "RANK" in os.environ:
        return False
    key = f"train.launcher = {launcher!r}"
    if STARTED in os.environ:
        raise TritbenchError(f"{key}: sets no RANK; expected torchrun or what calls it")
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {STARTED: launcher}
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                [*shlex.split(launcher), *sys.argv],
                env=environment,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            raise TritbenchError(f"{key}: {error.strerror}: {error.filename}") from None
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        log.seek(0)
        errors = log.read().decode(errors="replace")
    if code == 0:
        return True
    # One line of a process says more than what torchrun makes of it.
    if said := re.search(r"^(?:\[.*\]:)?\S+: error: (.*)$", errors, re.MULTILINE):
        raise TritbenchError(said[1])
    for number in re.findall(r"exitcode\s*: -(\d+)", errors):
        if (name := signal.Signals(int(number)).name) != "SIGTERM":
            raise TritbenchError(f"{key}: {name} ended a process; nothing half-written is left")
    sys.stderr.write(errors)
    raise TritbenchError(f"{key}: ended with exit code {code}; the lines above say why")


def _end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies, so that nothing trains on without its stage."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def distribute(model: nn.Module, here: Group) -> Iterator[nn.Module]:
    """Within it, the network for one process's slice of a batch; backward averages over the group.

    Slices must be equally long. Parameters and running statistics are `model`'s own; in training
    the layers in it that look at the whole batch do so across the processes.
    """
    if here.size == 1:
        yield model
        return
    changed = [m for m in model.modules() if isinstance(m, BatchNorm | nn.Dropout)]
    for module in changed:
        module.forward = partial(_forward, module, module.forward, here)  # type: ignore[method-assign]
    # A fake quantizer has scales that learn only once its trits are frozen.
    some_unused = any(parametrize.is_parametrized(module) for module in model.modules())
    try:
        yield DistributedDataParallel(
            model, forward_sync_buffers=False, find_unused_parameters=some_unused
        )
    finally:
        for module in changed:
            del module.forward


def _forward(
    module: nn.Module, alone: Callable[[Tensor], Tensor], here: Group, x: Tensor
) -> Tensor:
    """What a layer makes of one process's slice."""
    if not module.training:
        return alone(x)
    if isinstance(module, BatchNorm):
        return _batch_norm(module, x, here)
    ones = torch.ones_like(x).repeat(here.size, *[1] * (x.dim() - 1))
    return x * alone(ones)[here.shard(len(ones))]


def _batch_norm(layer: BatchNorm, x: Tensor, here: Group) -> Tensor:
    """BatchNorm in training, over the slices of all processes, on any device.

    nn.SyncBatchNorm exists for GPUs alone. Mean and variance of the slices travel in one tensor
    [size, 2, channels] and are joined as in Chan et al., "Updating formulae" (1979), eq. 2.1.
    """
    values = x.float()
    variance, mean = torch.var_mean(values, [0, *range(2, x.dim())], correction=0)
    rows = [torch.zeros_like(mean).expand(2, -1)] * here.size
    rows[here.rank] = torch.stack([mean, variance])
    means, variances = _Sum.apply(torch.stack(rows)).unbind(1)  # type: ignore[no-untyped-call]
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    if layer.num_batches_tracked is not None:  # it tracks running statistics
        _track(layer, mean, variance, x.numel() // x.shape[1] * here.size)
    scale = (variance + layer.eps).rsqrt()
    shift = -mean * scale
    if layer.affine:
        scale = layer.weight * scale
        shift = layer.bias - mean * scale
    channels = [1, -1, *[1] * (x.dim() - 2)]
    normalized: Tensor = values * scale.view(channels) + shift.view(channels)
    return normalized.to(x.dtype)


@torch.no_grad()
def _track(layer: BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move running statistics towards those of a batch of `count` values a channel."""
    assert layer.num_batches_tracked is not None
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.num_batches_tracked += 1
    share = layer.momentum
    if share is None:  # then the layer keeps the plain average
        share = 1 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(variance * count / (count - 1), share)


class _Sum(Function):
    """The sum over all processes; backward, the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient
