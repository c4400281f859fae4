"""What runs a ternary network where the engine was not built: its definition, in NumPy."""

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.runtime import integer
from tritbench.runtime.chain import Chain
from tritbench.shapes import InputSpec

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("int8", "exact")
_BLOCK = 64  # images that go through at once: bounds the memory


@dataclass(frozen=True)
class NumpyModel:
    """Called as `EngineModel` is, with the same bits in int8 mode, and many times slower.

    Attributes:
        network: what runs.
        mode: `int8` or `exact`.
    """

    network: Chain
    mode: str

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise TritbenchError(f"mode {self.mode!r}: expected one of {', '.join(MODES)}")

    @property
    def input(self) -> InputSpec:
        """The images it takes."""
        return self.network.input

    @property
    def classes(self) -> list[str]:
        """One name for each logit."""
        return self.network.classes

    @property
    def engine(self) -> str:
        """What executes it, in words."""
        return f"NumPy reference ({self.mode})"

    @overload
    def __call__(self, images: "Tensor") -> "Tensor": ...
    @overload
    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]: ...
    def __call__(self, images: Any) -> Any:
        """float32 logits [n, classes] of uint8 images, or of floats in 0..1, of the same kind.

        Raises:
            TypeError: for other types, naming the one found.
            ValueError: for other shapes, naming both.
        """
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(images, torch.Tensor):
            return torch.from_numpy(self(images.numpy()))
        rows = self._rows(np.asarray(images))
        if not len(rows):  # an image tells how many logits there are
            return self._logits(np.zeros((1, *self.input.shape), np.uint8))[:0]
        blocks = [self._logits(rows[at : at + _BLOCK]) for at in range(0, len(rows), _BLOCK)]
        return np.concatenate(blocks)

    def _rows(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images as [n, *shape]."""
        if images.dtype not in (np.uint8, np.float32):
            raise TypeError(f"images are {images.dtype}, expected uint8 or float32")
        shape, size = self.input.shape, math.prod(self.input.shape)
        if images.ndim >= 2 and math.prod(images.shape[1:]) == size:
            return images.reshape(-1, *shape)
        if images.ndim >= 1 and images.size == size:
            return images.reshape(1, *shape)
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}, expected {['n', *shape]} or "
            f"{['n', size]}".replace("'", "")
        )

    def _logits(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        finite = np.isfinite(rows).reshape(len(rows), -1).all(1)
        known = np.where(finite.reshape(-1, 1, 1, 1), rows, rows.dtype.type(0))
        logits = integer.logits(self.network, known, self.mode == "exact")
        logits[~finite] = np.nan
        return logits
