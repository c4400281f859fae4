"""Which machine this is, as far as it decides how fast things run."""

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tritbench import processor
from tritbench.runtime import engine_build

CPU0 = Path("/sys/devices/system/cpu/cpu0")
# Variables with which PyTorch, oneDNN (and OpenVINO) and the engine use fewer instructions.
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "TRITBENCH_ISA")
# The best instruction set for ternary kernels first.
ISAS = (
    ("avx512vnni", {"avx512_vnni", "avx512bw"}),
    ("avxvnni", {"avx_vnni"}),
    ("avx512", {"avx512bw"}),
    ("avx2", {"avx2"}),
    ("neon", {"asimd"}),
)


def fingerprint() -> dict[str, object]:
    """CPU, caches, instruction set, versions, the engine's build; `id`: a hash, eight hex digits.

    No name of a host, user or path is in it. PyTorch is not imported.

    Raises:
        TritbenchError: where the engine does not load, or is not built from the sources beside it.
    """
    features = processor.features()
    machine: dict[str, object] = {
        "cpu": _cpu_name(processor.fields()),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "isa": next((name for name, needed in ISAS if needed <= features), "generic"),
        "caches": _caches(),
        "governor": _read(CPU0 / "cpufreq/scaling_governor") or "unknown",
        "virtual": "hypervisor" in features,
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "torch": _version("torch"),
        "engine": engine_build(),
    }
    if limits := {name: value for name in LIMITS if (value := os.environ.get(name))}:
        machine["limits"] = limits
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    return {"id": digest[:8], **machine}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _caches() -> str:
    """Sizes by level, as the first processor sees them; `unknown` where Linux does not say."""
    sizes = {}
    for cache in sorted((CPU0 / "cache").glob("index*")):
        level, kind, size = (_read(cache / name) for name in ("level", "type", "size"))
        if kind != "Instruction" and level and size:
            sizes[f"L{level}"] = size
    return ", ".join(f"{level} {size}" for level, size in sizes.items()) or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cpu_name(fields: dict[str, str]) -> str:
    # A virtual machine says "AMD EPYC" of every generation: family and model tell them apart.
    name = fields.get("model name") or platform.processor() or platform.machine()
    keys = ("cpu family", "model", "stepping", "CPU implementer", "CPU part")
    details = [f"{key.removeprefix('cpu ')} {fields[key]}" for key in keys if key in fields]
    return f"{name} ({', '.join(details)})" if details else name
