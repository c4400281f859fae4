"""`train.precision: auto` takes bfloat16 only where the hardware multiplies it."""

from pathlib import Path

import pytest
import torch
from tiny import write_tiny_dataset

from tritbench import data
from tritbench.params import load_params
from tritbench.precision import choose
from tritbench.provenance import precision_of, provenance

PARAMS = Path(__file__).parents[1] / "params.yaml"
ZEN5 = {"avx512_f": True, "avx512_bf16": True}
ZEN3 = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}


@pytest.fixture
def processor(monkeypatch):
    """Sets what the processor has, what ATen uses of it, and oneDNN's limit."""

    def pretend(capabilities, aten, limit=None):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: aten)
        for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(name, raising=False)
        if limit is not None:
            monkeypatch.setenv(*limit)

    return pretend


@pytest.mark.parametrize(
    ("capabilities", "aten", "limit", "expected"),
    [
        (ZEN5, "AVX512", None, "bfloat16"),
        ({"avx512_f": True, "amx_bf16": True}, "AVX512", None, "bfloat16"),
        (ZEN5, "AVX512", ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"), "bfloat16"),
        (ZEN5, "AVX512", ("ONEDNN_MAX_CPU_ISA", "avx2"), "float32"),
        (ZEN5, "AVX512", ("DNNL_MAX_CPU_ISA", "AVX512_CORE_VNNI"), "float32"),
        (ZEN5, "AVX2", None, "float32"),
        (ZEN3, "AVX2", None, "float32"),
        ({"avx512_f": True}, "AVX512", None, "float32"),
        ({"neon": True, "bf16": True}, "DEFAULT", None, "bfloat16"),
        ({"neon": True, "bf16": False}, "DEFAULT", None, "float32"),
    ],
)
def test_auto_is_what_this_processor_multiplies(processor, capabilities, aten, limit, expected):
    processor(capabilities, aten, limit)
    assert choose("auto", "cpu") == expected


def test_on_cuda_the_gpu_decides(processor, monkeypatch):
    processor(ZEN3, "AVX2")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert choose("auto", "cuda") == "bfloat16"


def test_what_is_asked_for_is_taken_everywhere(processor):
    processor(ZEN3, "AVX2")
    assert choose("bfloat16", "cpu") == "bfloat16"
    processor(ZEN5, "AVX512")
    assert choose("float32", "cpu") == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_artifact_says_what_its_training_multiplied_in(tmp_path, precision):
    dataset = data.load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    about = provenance(dataset, load_params(PARAMS), "cnn", precision, "train")
    assert precision_of(about) == precision


@pytest.mark.isa
def test_this_processor_trains_in_what_it_multiplies():
    """Under the variables of `make test`'s second run, as on a processor without bfloat16."""
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        assert choose("auto", "cpu") == "float32"
