"""The native engine as an optional extension; all else is in pyproject.toml.

Where it cannot be compiled, the installation goes on and the PyTorch reference runs in its place.
"""

from glob import glob

from setuptools import Extension, setup

NATIVE = "tritbench/runtime/native"

setup(
    ext_modules=[
        Extension(
            "tritbench.runtime._engine",
            sorted(glob(f"{NATIVE}/*.cpp")),
            depends=glob(f"{NATIVE}/*.h"),
            language="c++",
            optional=True,
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
    ]
)
