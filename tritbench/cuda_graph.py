"""A step of a training as one launch on a GPU."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

_WARMUP = 3  # calls before the capture, in which libraries choose their kernels and allocate


class Replayed:
    """A function of tensors, recorded as a CUDA graph after a few calls and replayed from then on.

    A small network's step is bound by the launches of its kernels, some thousand, not by what they
    compute. The graph holds addresses and Python's constants as they were: inputs are copied to
    where it reads them, what it returns is overwritten by the next call, and `forget` must be
    called where anything else has changed. What cannot be recorded runs as before.

    Args:
        function: of tensors whose shapes never change; it must not wait for the GPU.
        possible: where this is false, every call is the function's own.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], possible: bool = True) -> None:
        self.function, self.possible = function, possible
        self.forget()

    def forget(self) -> None:
        """Record anew, after a few calls."""
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the function returns."""
        if self.graph is None and self.calls == _WARMUP and self.possible:
            self._record(inputs)
        if not self.possible:
            return self.function(*inputs)
        if self.graph is None:
            self.calls += 1
            return self._aside(inputs)
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.outputs

    def _aside(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A call on another stream, as those before a capture must be."""
        present, other = torch.cuda.current_stream(), torch.cuda.Stream()
        other.wait_stream(present)
        with torch.cuda.stream(other):
            outputs = self.function(*inputs)
        present.wait_stream(other)
        return outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = tuple(given.clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.outputs = self.function(*self.inputs)
        except RuntimeError as error:
            self.possible = False
            reason = str(error).splitlines()[0]
            print(f"no CUDA graph, each kernel is launched alone: {reason}", file=sys.stderr)
        else:
            self.graph = graph
