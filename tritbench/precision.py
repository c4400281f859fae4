"""The precision of matrix products in training: bfloat16 where the hardware multiplies it.

PyTorch is imported for a GPU alone: the stage `inputs` asks at every run.
"""

import os
from typing import Literal

from tritbench.processor import features

Precision = Literal["float32", "bfloat16"]

# Instructions that multiply bfloat16: on x86, and on Arm.
X86, ARM = {"avx512_bf16", "amx_bf16"}, "bf16"
# Values of ONEDNN_MAX_CPU_ISA that leave these instructions out; oneDNN emulates them then.
BELOW = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def choose(wanted: Literal["auto", "float32", "bfloat16"], device: str) -> Precision:
    """What `train.precision` comes to on `device` (cpu, cuda or auto): `auto` takes the faster one.

    Emulated bfloat16 is many times slower than float32. On a CPU the variables with which PyTorch
    (ATEN_CPU_CAPABILITY) and oneDNN (ONEDNN_MAX_CPU_ISA) use fewer instructions count as well.
    """
    if wanted != "auto":
        return wanted
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            multiplied = torch.cuda.is_bf16_supported(including_emulation=False)
            return "bfloat16" if multiplied else "float32"
    return "bfloat16" if _multiplied_here() else "float32"


def _multiplied_here() -> bool:
    found = features()
    if ARM in found:
        return True
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")
    return (
        bool(found & X86)
        and os.environ.get("ATEN_CPU_CAPABILITY") not in ("avx2", "default")
        and limit.upper() not in BELOW
    )
