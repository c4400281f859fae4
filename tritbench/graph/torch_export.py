"""From any `nn.Module` to a graph: `torch.export`, then each ATen operation as rows of `OPS`."""

import copy
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tritbench.errors import TritbenchError
from tritbench.graph.batch import check_batch
from tritbench.graph.graph import Graph
from tritbench.graph.interpret import run
from tritbench.graph.reader import read_program, short_path

TOLERANCE = 1e-4  # of the graph against the module, relative to the greatest output


def capture(module: nn.Module, *example: Tensor) -> Graph:
    """The network that `module` is in evaluation mode, for a batch of any size.

    Args:
        module: any; it stays as it is.
        example: its inputs, with the batch first; shapes and dtypes count, not values.

    Raises:
        TritbenchError: naming every operation that has no row in `OPS`, with its module and the
            line of the user's code; or why PyTorch cannot export the module.
    """
    if any(t.device.type != "cpu" for t in module.state_dict().values()):
        module = copy.deepcopy(module).cpu()
    with _evaluation(module), torch.no_grad():
        arguments = tuple(torch.cat([x[:1]] * 2).detach().cpu() for x in example)
        program = _export(module, arguments)
        graph = read_program(program)
        check_batch(graph.shapes(), graph.nodes)
        _verify(graph, module, arguments)
    return graph


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, without the fused attention that PyTorch swaps in there."""
    training = {m: m.training for m in module.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for each, mode in training.items():
            each.training = mode


def _export(module: nn.Module, example: tuple[Tensor, ...]) -> ExportedProgram:
    batch = Dim("batch")
    with _watched_numbers() as lines, redirect_stdout(io.StringIO()):
        try:
            return torch.export.export(
                module, example, dynamic_shapes=tuple({0: batch} for _ in example), strict=False
            )
        except Exception as error:  # whatever the user's code and PyTorch raise
            name = type(module).__name__
            reason = _reason(error, lines)
            raise TritbenchError(f"{name}: PyTorch cannot export it: {reason}") from error


@contextmanager
def _watched_numbers() -> Iterator[list[str]]:
    """The lines of the user's code that make a plain number of a symbolic batch."""
    lines: list[str] = []
    length: Any = Tensor.__len__

    def watched(self: Tensor) -> Any:
        if self.dim() and isinstance(self.shape[0], torch.SymInt):
            caller = sys._getframe(1)
            lines.append(f"{short_path(caller.f_code.co_filename)}:{caller.f_lineno}")
        return length(self)

    Tensor.__len__ = watched  # type: ignore[method-assign]
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # PyTorch logs what becomes an error's one line here
    try:
        yield lines
    finally:
        logging.disable(level)
        Tensor.__len__ = length  # type: ignore[method-assign]


def _reason(error: Exception, numbers: list[str]) -> str:
    """The sentence that says why, and the user's line where one is known."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "specialized it to be a constant" in text:
        where = f" ({numbers[0]})" if numbers else ""
        return (
            f"the batch must stay symbolic, and the code makes a number of it{where}; "
            "write x.shape[0] instead of len(x), and no int() of a size"
        )
    reason = lines[0] if lines else type(error).__name__
    files = [line for line in lines if line.startswith("File ") and "/torch/" not in line]
    return " ".join([reason[:300], *(files[-1:])])


def _verify(graph: Graph, module: nn.Module, example: tuple[Tensor, ...]) -> None:
    """The graph against the module, on random images and another batch."""
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn((3, *x.shape[1:]), generator=generator)
        if x.is_floating_point()
        else torch.cat([x, x[:1]])
        for x in example
    ]
    # What is not finite in both is equal: weights that are NaN get an error of their own.
    expected, found = (
        network(*inputs).nan_to_num(0, 0, 0) for network in (module, partial(run, graph))
    )
    wrong = f"{type(module).__name__}: its graph computes something else"
    if found.shape != expected.shape:
        raise TritbenchError(f"{wrong}: {list(found.shape)}, expected {list(expected.shape)}")
    scale = max(float(expected.abs().max()), 1e-30)
    difference = float((found - expected).abs().max()) / scale
    if not difference <= TOLERANCE:
        raise TritbenchError(
            f"{wrong}, off by {difference:.2g} of the greatest output; expected at most {TOLERANCE}"
        )
