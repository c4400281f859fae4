"""The NEON kernels, cross-compiled and run under qemu-user, where both are at hand."""

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path("tritbench/runtime/native")
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
SOURCES = [Path("tests/native/agree.cpp")] + [
    NATIVE / f"{name}.cpp"
    for name in ("kernels", "generic", "avx2", "avxvnni", "avx512vnni", "neon")
]


@pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"needs {COMPILER} and {EMULATOR}",
)
def test_neon_agrees_with_generic(tmp_path):
    program = tmp_path / "agree"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-static", "-Wno-psabi", f"-I{NATIVE}"]
    subprocess.run([COMPILER, *flags, *SOURCES, "-o", program], check=True)
    command = [EMULATOR, "-cpu", "max", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["neon agrees", "generic agrees"]
