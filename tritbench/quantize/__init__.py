"""From float weights to trits and scales: PTQ methods and QAT parametrizations.

The package can be called: `tritbench.quantize(model, images)` is `tritbench.api.quantize`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from tritbench.optional import explained

with explained():
    from tritbench.quantize.ptq import quantize_graph, quantize_ptq
    from tritbench.quantize.qat import check_schedule, train_qat, train_ternary
    from tritbench.quantize.ternary import Quantized, QuantizedWeight, TernaryWeight
    from tritbench.quantize.trits import quantize_to_trits

__all__ = [
    "Quantized",
    "QuantizedWeight",
    "TernaryWeight",
    "check_schedule",
    "quantize_graph",
    "quantize_ptq",
    "quantize_to_trits",
    "train_qat",
    "train_ternary",
]


class _Package(ModuleType):
    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """`tritbench.api.quantize`: a network of one's own in one call."""
        return import_module("tritbench.api").quantize(*arguments, **settings)


sys.modules[__name__].__class__ = _Package
