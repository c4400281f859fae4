"""What runs a ternary network where the engine was not built: its definition, in NumPy."""

import math
import sys
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tritbench.errors import TritbenchError
from tritbench.graph.shapes import with_batch
from tritbench.packing import Network
from tritbench.runtime.builder import image_shape
from tritbench.runtime.numpy_steps import run
from tritbench.runtime.program import lowered
from tritbench.shapes import InputSpec

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("int8", "static", "exact")
_BLOCK = 2**24  # elements of rows of a product that are held at once, as far as images go


class NumpyModel:
    """Called as `EngineModel` is, with the same bits unless in exact mode, and many times slower.

    Attributes:
        network: what runs.
        classes: one name for each logit.
        mode: one of MODES.
        engine: what executes it, in words.
    """

    def __init__(self, network: Network, mode: str) -> None:
        if mode not in MODES:
            raise TritbenchError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
        self.network = network
        self.classes = network.classes
        self.mode = mode
        self.engine = f"NumPy reference ({mode})"
        self._program = lowered(network, mode)

    @property
    def input(self) -> InputSpec:
        """The images it takes.

        Raises:
            TritbenchError: where it takes something else.
        """
        return self.network.input

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
        result = self._program.result
        if not len(rows):
            return np.zeros(with_batch(result, 0), np.float32)
        step = max(1, _BLOCK // max(self._program.arena, rows.shape[1]))
        blocks = [run(self._program, rows[at : at + step]) for at in range(0, len(rows), step)]
        return np.concatenate(blocks).reshape(with_batch(result, len(rows)))

    def _rows(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images as [n, elements]."""
        if images.dtype.name not in self._program.dtypes:
            expected = " or ".join(self._program.dtypes)
            raise TypeError(f"images are {images.dtype}, expected {expected}")
        shape = self._program.shape
        size, together = math.prod(image_shape(shape)), max(1, -shape[0])
        if images.ndim >= 2 and math.prod(images.shape[1:]) * together == size:
            return np.ascontiguousarray(images).reshape(-1, size)
        if images.ndim >= 1 and images.size == size:
            return np.ascontiguousarray(images).reshape(1, size)
        sizes = ["n" if n == -1 else f"{-n} n" if n < 0 else n for n in shape]
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}, expected {sizes} or "
            f"{['n', size]}".replace("'", "")
        )
