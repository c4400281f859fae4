"""Some rows of an array that is too large for memory, used as a tensor of them would be."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Rows:
    """The rows `indices` of a memory-mapped tensor [n, ...]; indexing reads them.

    It has what those who go through images batch by batch ask a tensor for.
    """

    def __init__(self, array: Tensor, indices: Tensor, device: Any = "cpu") -> None:
        self.array, self.indices = array, indices
        self.device = torch.device(device)
        self.dtype = array.dtype
        self.shape = torch.Size((len(indices), *array.shape[1:]))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, Tensor):
            key = key.cpu()
        return self.array[self.indices[key]].to(self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive pieces of `size` rows, the last one shorter, read one after another."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: Any) -> "Rows":
        """Rows that go to this device when they are read."""
        return Rows(self.array, self.indices, device)
