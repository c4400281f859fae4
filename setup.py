"""The native engine as an extension module; all else is in pyproject.toml.

Without a C++ compiler the package is installed without it, and says so. A compiler that fails is an
error: a broken build never becomes a slow one.
"""

import os
import runpy
import shlex
import shutil
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

NATIVE = "tritbench/runtime/native"
BUILD_HASH = "tritbench/runtime/build_hash.py"
# One module for every Python from 3.11 on. Builds of Python without the GIL have no stable ABI.
STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")


def find_compiler() -> str | None:
    """The C++ compiler that setuptools will call, if there is one that can build the engine."""
    if os.name == "nt":  # kernels for each instruction set need GCC's function attributes
        return None
    command = os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++"
    return shutil.which(shlex.split(command)[0])


def engine() -> Extension:
    """The extension module, which carries the hash of what it was built from."""
    source_hash = runpy.run_path(BUILD_HASH)["source_hash"]()
    return Extension(
        "tritbench.runtime._engine",
        sorted(glob(f"{NATIVE}/*.cpp")),
        depends=[*sorted(glob(f"{NATIVE}/*.h")), "include/tritbench.h", "setup.py", BUILD_HASH],
        define_macros=[
            ("TRITBENCH_SOURCES", f'"{source_hash}"'),
            *([("Py_LIMITED_API", "0x030B0000")] if STABLE_ABI else []),
        ],
        py_limited_api=STABLE_ABI,
        language="c++",
        extra_compile_args=[
            "-std=c++17",
            "-O3",
            "-g0",
            "-ffp-contract=off",  # no fused multiply-add: instruction sets must round alike
            "-fvisibility=hidden",
            "-pthread",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Wconversion",
            "-Wno-psabi",
        ],
        extra_link_args=["-pthread"],
    )


class BuildEngine(build_ext):  # type: ignore[misc]
    """Leaves one engine beside the sources: Python would prefer an older one of its own ABI."""

    def copy_extensions_to_source(self) -> None:
        """Put the module where a checkout imports it from."""
        for old in glob("tritbench/runtime/_engine.*.so"):
            os.remove(old)
        super().copy_extensions_to_source()


class BuildPackage(build_py):  # type: ignore[misc]
    """Adds params.yaml, which `tritbench try` takes what it is not told from."""

    def run(self) -> None:
        """Copy the package's files, and this one among them."""
        super().run()
        if not self.editable_mode:  # a checkout has it in its root
            self.copy_file("params.yaml", os.path.join(self.build_lib, "tritbench"))


if __name__ == "__main__":
    found = find_compiler()
    if found is None:
        print("tritbench: no C++ compiler: installed without the native engine", file=sys.stderr)
    limited = {"py_limited_api": "cp311"} if STABLE_ABI and found else {}
    setup(
        ext_modules=[engine()] if found else [],
        cmdclass={"build_ext": BuildEngine, "build_py": BuildPackage},
        options={"bdist_wheel": limited},
    )
