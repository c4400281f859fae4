"""Networks: the built-in ones, a user's own, and their FP32 checkpoints."""

from tritbench.optional import explained
from tritbench.shapes import InputSpec

with explained():
    from tritbench.models.built_in import BUILT_IN
    from tritbench.models.check import check_network
    from tritbench.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from tritbench.models.factory import build, make
    from tritbench.models.state import load_state, read_state

__all__ = [
    "BUILT_IN",
    "Checkpoint",
    "InputSpec",
    "build",
    "check_network",
    "load_checkpoint",
    "load_state",
    "make",
    "read_state",
    "save_checkpoint",
]
