"""The precision of matrix products in training: bfloat16 where the hardware multiplies it."""

import os
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]

# Of torch.cpu.get_capabilities: the instructions that multiply bfloat16 on x86, and on Arm.
X86, ARM = ("avx512_bf16", "amx_bf16"), "bf16"
# Values of ONEDNN_MAX_CPU_ISA that leave these instructions out; oneDNN emulates them then.
BELOW = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def choose(wanted: Literal["auto", "float32", "bfloat16"], device: str) -> Precision:
    """What `train.precision` comes to on `device` (cpu or cuda): `auto` takes the faster one.

    Emulated bfloat16 is many times slower than float32. On a CPU the variables with which PyTorch
    (ATEN_CPU_CAPABILITY) and oneDNN (ONEDNN_MAX_CPU_ISA) use fewer instructions count as well.
    """
    if wanted != "auto":
        return wanted
    if device == "cuda":
        multiplied = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        multiplied = _multiplied_here()
    return "bfloat16" if multiplied else "float32"


def _multiplied_here() -> bool:
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get(ARM):
        return True
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")
    return (
        any(capabilities.get(name) for name in X86)
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and limit.upper() not in BELOW
    )
