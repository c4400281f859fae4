"""The AVX-VNNI kernels on machines that have their instruction in AVX-512's encoding."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tritbench import runtime

NATIVE = Path("tritbench/runtime/native")
SOURCES = [Path("tests/native") / f"{name}.cpp" for name in ("agree", "avxvnni_evex")] + [
    NATIVE / f"{name}.cpp" for name in ("kernels", "generic", "avx2", "avx512vnni", "neon")
]


@pytest.mark.skipif(
    "avx512vnni" not in runtime.available_isas() or not shutil.which("g++"),
    reason="needs AVX-512 VNNI and g++",
)
def test_avxvnni_agrees_with_generic(tmp_path):
    program = tmp_path / "agree"
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wno-psabi", f"-I{NATIVE}"]
    subprocess.run(["g++", *flags, *SOURCES, "-o", program], check=True)
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    lines = output.splitlines()
    assert "avxvnni agrees" in lines
    assert not [line for line in lines if not line.endswith(" agrees")]
