"""Rounding that minimizes a layer's output error, tr(D H Dᵀ) for the weight error D = W - Q.

H is the covariance of the layer's inputs. Trits and scales here are float32 matrices [out, inputs];
a scale that weights share is repeated for each.
"""

import itertools

import torch
from torch import Tensor

from tritbench.quantize.layer import DAMPING

BLOCK = 128  # inputs between two products with all that follow
ROWS = (
    1024  # outputs at once: so many that Python's steps cost little, and a block stays in a cache
)
PASSES = 20


def gptq(
    weight: Tensor, hessian: Tensor, scale: Tensor, bound: Tensor | None, largest: int = 1
) -> Tensor:
    """Trits, one input after the other, each error pushed into the inputs still to come.

    Inputs with the largest variance come first (GPTQ, arXiv 2210.17323, with activation order; OBQ,
    arXiv 2208.11580). An input that never varies gets 0 trits.

    Args:
        weight: float32 [out, inputs].
        hessian: float32 [inputs, inputs].
        scale: of each trit, float32 [out or 1, inputs].
        bound: a magnitude from which a weight becomes ±1, float32 [out or 1, inputs]; without it
            weights go to the nearest integers of at most `largest`.
        largest: magnitude of these.

    >>> weight = torch.tensor([[0.6, 0.4]])
    >>> correlated = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    >>> gptq(weight, correlated, torch.ones(1, 2), torch.full((1, 2), 0.5))
    tensor([[1., 0.]])
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    dead = hessian.diagonal() <= 0
    damped = hessian[order][:, order]
    damping = DAMPING * hessian.diagonal().mean()
    damped.diagonal().add_(damping if damping > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True)
    trits = torch.empty_like(weight)
    matrices = [weight, trits, scale] if bound is None else [weight, trits, scale, bound]
    rows = zip(*(m.expand_as(weight).split(ROWS) for m in matrices), strict=True)
    for some_weight, some_trits, *others in rows:
        # One input's weights lie side by side, so that a step reads and writes whole rows.
        rest, scales, *bounds = (m.T[order].contiguous() for m in (some_weight, *others))
        found = _push_errors(rest, scales, bounds[0] if bounds else None, factor, largest)
        some_trits[:, order] = found.T
    if bound is not None:
        trits[:, dead] = 0
    return trits


def _push_errors(
    rest: Tensor, scales: Tensor, bounds: Tensor | None, factor: Tensor, largest: int
) -> Tensor:
    """Trits of the weights `rest`, [inputs, out] as all here, which changes in place."""
    trits = torch.zeros_like(rest)
    for start in range(0, len(rest), BLOCK):
        block = slice(start, min(start + BLOCK, len(rest)))
        triangle = factor[block, block]
        inside = rest[block]
        errors = torch.empty_like(inside)
        for i in range(len(inside)):
            row = inside[i]
            if bounds is None:
                trits[start + i] = (row / scales[start + i]).round_().clamp_(-largest, largest)
            else:
                trits[start + i] = row.sign() * (row.abs() >= bounds[start + i])
            errors[i] = (row - scales[start + i] * trits[start + i]) / triangle[i, i]
            inside[i + 1 :].addr_(triangle[i, i + 1 :], errors[i], alpha=-1)
        rest[block.stop :].addmm_(factor[block, block.stop :].T, errors, alpha=-1)
    return trits


def descend(
    weight: Tensor, hessian: Tensor, trits: Tensor, scale: Tensor, passes: int = PASSES
) -> Tensor:
    """Better trits by coordinate descent: each set to its best value given all others, in turn.

    The output error never grows (QuantEase, arXiv 2309.01885).

    Args:
        weight, trits: float32 [out, inputs].
        hessian: float32 [inputs, inputs].
        scale: positive, float32 [out or 1, inputs].
        passes: over all inputs, at most.
    """
    rows = zip(
        weight.split(ROWS), trits.split(ROWS), scale.expand_as(weight).split(ROWS), strict=True
    )
    return torch.cat([_descend_rows(*some, hessian, passes) for some in rows])


def _descend_rows(
    weight: Tensor, trits: Tensor, scale: Tensor, hessian: Tensor, passes: int
) -> Tensor:
    scales = scale.T.contiguous()
    current = trits.T.clone(memory_format=torch.contiguous_format)
    residual = hessian @ (weight.T - scales * current)
    curvature = hessian.diagonal()[:, None]
    # What moves a trit by one; an input that never varies moves none.
    whole = torch.where(curvature > 0, torch.where(scales > 0, scales, 1) * curvature, torch.inf)
    for _ in range(passes):
        changed = False
        for start in range(0, len(current), BLOCK):
            block = slice(start, min(start + BLOCK, len(current)))
            square = hessian[block, block]
            inside, before = residual[block].clone(), current[block].clone()
            for i in range(len(inside)):
                trit = current[start + i]
                best = torch.addcdiv(trit, inside[i], whole[start + i]).round_().clamp_(-1, 1)
                step = scales[start + i] * (best - trit)
                inside[i + 1 :].addr_(square[i, i + 1 :], step, alpha=-1)
                trit.copy_(best)
            moved = scales[block] * (current[block] - before)
            if moved.any():
                changed = True
                residual.addmm_(hessian[:, block], moved, alpha=-1)
        if not changed:
            break
    return current.T.contiguous()


def least_squares(
    weight: Tensor, hessian: Tensor, trits: Tensor, rows: int, group_size: int
) -> Tensor:
    """The scales [rows, groups] with the least output error for these trits.

    Args:
        weight, trits: float32 [out, inputs].
        hessian: float32 [inputs, inputs].
        rows: 1, where all outputs share their scales, or `out`.
        group_size: inputs that share a scale.
    """
    groups = trits.split(group_size, 1)
    starts = range(0, trits.shape[1], group_size)
    products = [g @ hessian[s : s + g.shape[1]] for s, g in zip(starts, groups, strict=True)]
    normal = torch.stack(
        [
            torch.stack(
                [
                    (p[:, s : s + g.shape[1]] * g).sum(1)
                    for s, g in zip(starts, groups, strict=True)
                ],
                1,
            )
            for p in products
        ],
        1,
    ).double()
    wanted = torch.stack([(p * weight).sum(1) for p in products], 1).double()
    if rows == 1:
        normal, wanted = normal.sum(0, keepdim=True), wanted.sum(0, keepdim=True)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    # A group without a trit has a zero row; it gets scale 0.
    diagonal += torch.where(diagonal > 0, 1e-9 * diagonal, 1)
    solution: Tensor = torch.linalg.solve(normal, wanted)
    return solution.float()


def exhaustive(weight: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """The best trits and scales of rows so short that all 3^inputs candidates can be tried.

    Returns:
        trits float32 [out, inputs] and scales float32 [out, 1], positive.
    """
    values = torch.tensor([-1.0, 0.0, 1.0])
    candidates = torch.tensor(list(itertools.product(values.tolist(), repeat=weight.shape[1])))
    energy = ((candidates @ hessian) * candidates).sum(1)
    overlap = (weight @ hessian @ candidates.T).clamp(min=0)
    energy = torch.where(energy > 0, energy, torch.inf)
    best = (overlap**2 / energy).argmax(1)
    scale = overlap.gather(1, best[:, None]) / energy[best][:, None]
    return candidates[best], scale


def output_error(weight: Tensor, hessian: Tensor, quantized: Tensor) -> Tensor:
    """Each output's mean squared error [out]: dᵀ H d for its row d of the weight error."""
    difference = weight - quantized
    return ((difference @ hessian) * difference).sum(1)
