from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

sources: str  # `tritbench.runtime.build_hash.source_hash` of what it was built from
compiler: str

class Network:
    def __init__(self, plan: object, isa: str, threads: int, exact: bool) -> None: ...
    @overload
    def __call__(self, images: Tensor, /) -> Tensor: ...
    @overload
    def __call__(self, images: NDArray[Any], /) -> NDArray[np.float32]: ...

def available_isas() -> list[str]: ...
def machine_limits(isa: str, bytes: int, /) -> tuple[float, float]: ...
