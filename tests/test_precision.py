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
ZEN5 = {"avx512f", "avx512_bf16"}
ZEN3 = {"avx2"}
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@pytest.fixture
def pretend(monkeypatch):
    """Sets what the processor has, and a variable that holds to less."""

    def pretend(features, limit=None):
        monkeypatch.setattr("tritbench.precision.features", lambda: features)
        for name in LIMITS:
            monkeypatch.delenv(name, raising=False)
        if limit is not None:
            monkeypatch.setenv(*limit)

    return pretend


@pytest.mark.parametrize(
    ("features", "limit", "expected"),
    [
        (ZEN5, None, "bfloat16"),
        ({"avx512f", "amx_bf16"}, None, "bfloat16"),
        (ZEN5, ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16"), "bfloat16"),
        (ZEN5, ("ONEDNN_MAX_CPU_ISA", "avx2"), "float32"),
        (ZEN5, ("DNNL_MAX_CPU_ISA", "AVX512_CORE_VNNI"), "float32"),
        (ZEN5, ("ATEN_CPU_CAPABILITY", "avx512"), "bfloat16"),
        (ZEN5, ("ATEN_CPU_CAPABILITY", "avx2"), "float32"),
        (ZEN3, None, "float32"),
        ({"avx512f"}, None, "float32"),
        ({"asimd", "bf16"}, None, "bfloat16"),
        ({"asimd"}, None, "float32"),
    ],
)
def test_auto_is_what_this_processor_multiplies(pretend, features, limit, expected):
    pretend(features, limit)
    assert choose("auto", "cpu") == expected


def test_on_cuda_the_gpu_decides(pretend, monkeypatch):
    pretend(ZEN3)
    assert choose("auto", "auto") == "float32"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert choose("auto", "cuda") == choose("auto", "auto") == "bfloat16"
    assert choose("auto", "cpu") == "float32"


def test_what_is_asked_for_is_taken_everywhere(pretend):
    pretend(ZEN3)
    assert choose("bfloat16", "cpu") == "bfloat16"
    pretend(ZEN5)
    assert choose("float32", "cpu") == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_artifact_says_what_its_training_multiplied_in(tmp_path, precision):
    dataset = data.load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    about = provenance(dataset, load_params(PARAMS), "cnn", precision, "train")
    assert precision_of(about) == precision


def test_an_artifact_says_which_weights_were_kept(tmp_path):
    dataset = data.load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    params = load_params(PARAMS)
    kept = {"conv1": "int8"}
    changed = params.quantize.model_copy(update={"keep": kept})
    about = provenance(dataset, params, "cnn", "float32", "quantize", "ptq")
    assert "keep" not in about["recipe"]["params"]["quantize"]
    params = params.model_copy(update={"quantize": changed})
    about = provenance(dataset, params, "cnn", "float32", "quantize")
    assert about["recipe"]["params"]["quantize"]["keep"] == kept


@pytest.mark.isa
def test_this_processor_trains_in_what_it_multiplies():
    """Under the variables of `make test`'s second run, as on a processor without bfloat16."""
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        assert choose("auto", "cpu") == "float32"


@pytest.mark.isa
def test_the_processor_is_what_pytorch_sees():
    """PyTorch is not asked, since importing it takes longer than all else that runs each time."""
    capabilities = torch.cpu.get_capabilities()
    used = torch.backends.cpu.get_cpu_capability()
    multiplied = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    expected = capabilities.get("bf16") or (multiplied and used == "AVX512")
    assert (choose("auto", "cpu") == "bfloat16") == bool(expected)
