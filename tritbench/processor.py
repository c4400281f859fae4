"""What the system says of the first processor."""

import platform
import subprocess
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What macOS, which has no such file, says of instructions by names of its own.
SYSCTL = {"bf16": "hw.optional.arm.FEAT_BF16"}


def fields() -> dict[str, str]:
    """Its entry in /proc/cpuinfo; empty where there is none."""
    if not CPUINFO.exists():
        return {}
    first = CPUINFO.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def features() -> set[str]:
    """Its instructions, by Linux's names."""
    found = fields()
    names = set((found.get("flags") or found.get("Features") or "").split())
    if platform.machine() in ("arm64", "aarch64"):
        names.add("asimd")  # every 64-bit Arm has it, also where /proc/cpuinfo is absent
    if platform.system() == "Darwin":
        names |= {name for name, key in SYSCTL.items() if _sysctl(key) == "1"}
    return names


def _sysctl(key: str) -> str:
    return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True).stdout.strip()
