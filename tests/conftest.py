"""Property tests draw the same examples at every run, and no test depends on the clock."""

import os

import pytest
from hypothesis import settings

# Read when PyTorch is imported, here and in what tests start. There is a test on every processor
# already; threads that wait for one another spin, which took most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("tritbench", deadline=None, derandomize=True)
settings.load_profile("tritbench")

# Files whose tests run pipelines, train, compile or start many processes: `make check` leaves them
# to `make test`.
SLOW = {
    "test_api",
    "test_augment",
    "test_avxvnni",
    "test_build",
    "test_c_api",
    "test_docs",
    "test_engine_memory",
    "test_graph_engine",
    "test_graph_files",
    "test_graph_ptq",
    "test_kernels",
    "test_page",
    "test_parallel",
    "test_peers",
    "test_pipeline",
    "test_programs",
    "test_ptq",
    "test_qat",
    "test_qat_networks",
    "test_reconstruct",
    "test_seeds",
    "test_single",
    "test_snippets",
    "test_sources",
    "test_sweep",
    "test_sweep_ray",
    "test_try",
    "test_wheel",
    "test_zoo",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
