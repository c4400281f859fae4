"""The reference benchmark for ternary neural networks.

>>> import tritbench
>>> ternary = tritbench.quantize(model, images)  # doctest: +SKIP
>>> ternary.save("mine.trit")  # doctest: +SKIP
>>> logits = tritbench.load("mine.trit")(images)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tritbench.runtime import load

__version__ = "0.1.0"
__all__ = ["load", "quantize"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: `import tritbench` takes nothing, a .trit file NumPy alone."""
    if name == "load":
        return import_module("tritbench.runtime").load
    if name == "quantize":
        return import_module("tritbench.quantize")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
