"""Where the elements of a value lie: sizes and strides, in parts finer than dimensions.

A dimension is a row of atoms, (size, stride) from the outermost to the innermost. So what reshapes,
permutes, slices or expands a value moves nothing, as long as each dimension can be said in atoms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tritbench.runtime.parts import View

Dim = tuple[tuple[int, int], ...]
Dims = tuple[Dim, ...]


@dataclass(frozen=True)
class Value:
    """A result, or a parameter, as it lies in a buffer; sizes are for one image."""

    buffer: int
    offset: int
    dims: Dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(math.prod(size for size, _ in dim) for dim in self.dims)

    @property
    def size(self) -> int:
        """Its elements."""
        return math.prod(self.shape)


def dense(shape: Sequence[int], order: Sequence[int] | None = None) -> Dims:
    """Dimensions without gaps; `order` has the outermost first.

    >>> dense((2, 3, 4), (1, 2, 0))
    (((2, 1),), ((3, 8),), ((4, 2),))
    """
    strides, stride = [0] * len(shape), 1
    for dim in reversed(range(len(shape)) if order is None else order):
        strides[dim], stride = stride, stride * shape[dim]
    return tuple(merged([(n, s)]) for n, s in zip(shape, strides, strict=True))


def merged(atoms: Sequence[tuple[int, int]]) -> Dim:
    """As few atoms as say the same; none for a size of 1.

    >>> merged([(4, 32), (1, 7), (8, 4)])
    ((32, 4),)
    """
    result: list[tuple[int, int]] = []
    for size, stride in atoms:
        if size == 1:
            continue
        if result and result[-1][1] == size * stride:
            result[-1] = (result[-1][0] * size, stride)
        else:
            result.append((size, stride))
    return tuple(result)


def reshaped(value: Value, shape: Sequence[int]) -> Value | None:
    """The same elements as `shape`; None where they must be moved for it."""
    atoms = list(merged([atom for dim in value.dims for atom in dim]))[::-1]
    dims = []
    for wanted in shape:
        taken: list[tuple[int, int]] = []
        while wanted > 1:
            size, stride = atoms.pop()
            if wanted % size == 0:
                taken.append((size, stride))
                wanted //= size
            elif size % wanted == 0:
                rest = size // wanted
                taken.append((wanted, stride * rest))
                atoms.append((rest, stride))
                wanted = 1
            else:
                return None
        dims.append(merged(taken))
    return replace(value, dims=tuple(dims))


def permuted(value: Value, order: Sequence[int]) -> Value:
    """Dimensions in another order."""
    return replace(value, dims=tuple(value.dims[d] for d in order))


def sliced(value: Value, dim: int, start: int, count: int, step: int) -> Value | None:
    """`count` elements of a dimension; None where they must be moved for it."""
    atoms = value.dims[dim]
    if not atoms:
        return value
    if len(atoms) > 1:
        return None
    stride = atoms[0][1]
    dims = (*value.dims[:dim], merged([(count, stride * step)]), *value.dims[dim + 1 :])
    return Value(value.buffer, value.offset + start * stride, dims)


def expanded(value: Value, shape: Sequence[int]) -> Value:
    """Broadcast: sizes of 1 repeated, more dimensions in front."""
    missing = len(shape) - len(value.dims)
    dims = [
        dim if size == math.prod(n for n, _ in dim) else merged([(size, 0)])
        for size, dim in zip(shape, ((),) * missing + value.dims, strict=True)
    ]
    return replace(value, dims=tuple(dims))


def atoms_of(value: Value) -> list[tuple[int, int]]:
    """All atoms in the order of the dimensions."""
    return [atom for dim in value.dims for atom in dim]


def is_dense(value: Value) -> bool:
    """Whether its elements fill a piece of memory, in any order."""
    stride = 1
    for size, found in sorted(atoms_of(value), key=lambda atom: atom[1]):
        if found != stride:
            return False
        stride *= size
    return True


def dense_like(value: Value) -> Dims:
    """Dimensions without gaps in the order in which `value` lies."""
    atoms = atoms_of(value)
    if any(stride == 0 for _, stride in atoms):
        return dense(value.shape)
    strides, stride = {}, 1
    for index in sorted(range(len(atoms)), key=lambda i: atoms[i][1]):
        strides[index], stride = stride, stride * atoms[index][0]
    found = iter((size, strides[index]) for index, (size, _) in enumerate(atoms))
    return tuple(merged([next(found) for _ in dim]) for dim in value.dims)


def single(value: Value) -> View | None:
    """The value with one size and stride for each dimension; None where that cannot be."""
    if any(len(dim) > 1 for dim in value.dims):
        return None
    pairs = [dim[0] if dim else (1, 0) for dim in value.dims]
    sizes, strides = tuple(n for n, _ in pairs), tuple(s for _, s in pairs)
    return View(value.buffer, value.offset, sizes, strides)


def refined(values: Sequence[Value]) -> list[Value] | None:
    """Values of one shape with the same atoms each, as dimensions; None where that cannot be."""
    result: list[list[Dim]] = [[] for _ in values]
    for dims in zip(*(value.dims for value in values), strict=True):
        cuts = set()
        for dim in dims:
            inner = 1
            for size, _ in reversed(dim):
                inner *= size
                cuts.add(inner)
        sizes, before = [], 1
        for cut in sorted(cuts):
            if cut % before:
                return None
            sizes.append(cut // before)
            before = cut
        for value, dim in zip(result, dims, strict=True):
            value.extend(_cut(dim, sizes[::-1]))
    return [replace(v, dims=tuple(d)) for v, d in zip(values, result, strict=True)]


def _cut(dim: Dim, sizes: Sequence[int]) -> list[Dim]:
    """The atoms of a dimension in smaller ones of these sizes."""
    atoms = list(dim)[::-1]
    pieces: list[Dim] = []
    for wanted in sizes:
        size, stride = atoms.pop()
        rest = size // wanted
        pieces.append(merged([(wanted, stride * rest)]) or ((1, 0),))
        if rest > 1:
            atoms.append((rest, stride))
    return pieces


def aligned(values: Sequence[Value], rank: int = 0) -> list[View] | None:
    """Values of one shape as views with the same few sizes, in the order in which the first lies.

    Args:
        values: of one shape.
        rank: dimensions that the views have at least.
    """
    fine = refined(values)
    if fine is None:
        return None
    order = sorted(
        range(len(fine[0].dims)), key=lambda d: -fine[0].dims[d][0][1] if fine[0].dims[d] else 0
    )
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in values]
    for d in order:
        size = fine[0].dims[d][0][0]
        if size == 1:
            continue
        found = [value.dims[d][0][1] for value in fine]
        if sizes and all(s[-1] == size * n for s, n in zip(strides, found, strict=True)):
            sizes[-1] *= size
            for known, new in zip(strides, found, strict=True):
                known[-1] = new
        else:
            sizes.append(size)
            for known, new in zip(strides, found, strict=True):
                known.append(new)
    spare = max(0, max(rank, 1) - len(sizes))
    full = (1,) * spare + tuple(sizes)
    return [
        View(value.buffer, value.offset, full, (0,) * spare + tuple(known))
        for value, known in zip(fine, strides, strict=True)
    ]
