import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save
from torch import nn

from tritbench import runtime
from tritbench.errors import TritbenchError
from tritbench.models import Checkpoint, InputSpec, save_checkpoint
from tritbench.packing import load_trit, save_trit
from tritbench.packing.codecs import CODECS
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize import quantize_ptq

SPEC = InputSpec((1, 8, 8), 0.3, 0.4)


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 6, 3, padding=1, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 7, bias=False),
        nn.Dropout(0.5),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, 3),
    )
    for module in model:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def quantized(granularity="channel"):
    settings = QuantizeParams(
        threshold=0.5, reference="absmean", granularity=granularity, backend="native"
    )
    ptq = PtqParams(method="threshold", calibration=16, batchnorm=False)
    return quantize_ptq(network(), images(16), SPEC, settings, ptq)


def images(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 8, 8), generator=generator).to(torch.uint8)


@pytest.fixture
def trit(tmp_path):
    path = tmp_path / "model.trit"
    save_trit(path, quantized(), SPEC, ["a", "b", "c"], {"seed": 0})
    return path


@given(
    hnp.arrays(
        np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(-1, 1)
    )
)
@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_is_its_own_inverse(codec, trits):
    packed = CODECS[codec].pack(trits)
    np.testing.assert_array_equal(CODECS[codec].unpack(packed, trits.shape[1]), trits)


def test_base3_is_five_trits_a_byte_low_power_first():
    codec = CODECS["base3"]
    assert codec.pack(np.array([[1, 1, 1, 1, 1]], np.int8)).tolist() == [[242]]
    assert codec.pack(np.array([[1, -1, -1, -1, -1]], np.int8)).tolist() == [[2]]
    with pytest.raises(TritbenchError, match="code 243"):
        codec.unpack(np.array([[243]], np.uint8), 5)
    with pytest.raises(TritbenchError, match="padding"):
        codec.unpack(np.array([[242]], np.uint8), 4)
    with pytest.raises(TritbenchError, match="expected \\[rows, 2\\]"):
        codec.unpack(np.array([[1]], np.uint8), 6)


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:4"])
def test_a_packed_network_gives_the_quantized_models_logits(tmp_path, granularity):
    ternary = quantized(granularity)
    path = tmp_path / "model.trit"
    save_trit(path, ternary, SPEC, ["a", "b", "c"], {})
    with torch.no_grad():
        expected = ternary.model(SPEC.normalize(images(50)))
    for model in (runtime.load_reference(path), runtime.load(path, mode="exact")):
        torch.testing.assert_close(model(images(50)), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model(images(50).float() / 255), expected, rtol=1e-4, atol=1e-4)
        assert model.classes == ["a", "b", "c"]


def test_batchnorm_is_folded_where_it_follows_weights_and_kept_elsewhere(trit):
    kinds = [layer.about["type"] for layer in load_trit(trit).layers]
    assert kinds == [
        "affine",
        "conv2d",
        "relu",
        "avgpool2d",
        "flatten",
        "linear",
        "relu",
        "linear",
    ]


def test_packing_twice_gives_the_same_bytes(trit, tmp_path):
    save_trit(tmp_path / "again.trit", quantized(), SPEC, ["a", "b", "c"], {"seed": 0})
    assert (tmp_path / "again.trit").read_bytes() == trit.read_bytes()


def test_a_checkpoint_runs_as_the_model_it_was_saved_from(tmp_path):
    path = tmp_path / "fp32.safetensors"
    save_checkpoint(path, Checkpoint(network(), SPEC, ["a", "b", "c"], {}))
    with torch.no_grad():
        expected = network()(SPEC.normalize(images(9)))
    assert torch.equal(runtime.load(path)(images(9)), expected)


def rewrite(path, change):
    """Write the file again with its tensors and metadata changed by `change(tensors, about)`."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"]["tritbench"])
    tensors = load(content)
    change(tensors, about)
    path.write_bytes(save(tensors, metadata={"tritbench": json.dumps(about)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, a: a.update(format_version=2), "format version 2, expected 1"),
        (lambda t, a: a.update(codec="zip"), "codec 'zip'"),
        (lambda t, a: t["layers.1.trits"].fill(250), "layers.1.trits: code 250"),
        (lambda t, a: t["layers.1.trits"][:, -1:].fill(242), "padding"),
        (lambda t, a: t["layers.1.scale"].fill(np.nan), "layers.1.scale holds NaN"),
        (lambda t, a: t.update({"layers.1.bias": np.zeros(5, np.float32)}), "expected float32"),
        (lambda t, a: t.pop("layers.1.bias"), "layers.1.bias is missing"),
        (lambda t, a: t.update(more=np.zeros(1)), "unexpected tensors more"),
        (lambda t, a: a["layers"][2].update(type="tanh"), "unknown type 'tanh'"),
        (lambda t, a: a["layers"][1].update(out=7), "expected uint8 \\[7"),
    ],
)
def test_a_wrong_file_is_one_clear_error(trit, change, message):
    rewrite(trit, change)
    with pytest.raises(TritbenchError, match=message) as error:
        load_trit(trit)
    assert str(trit) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_truncated_and_foreign_files_are_named(trit, tmp_path):
    with pytest.raises(TritbenchError, match="no such file"):
        runtime.load(tmp_path / "none.trit")
    with pytest.raises(TritbenchError, match="no such file"):
        runtime.load(tmp_path / "none.safetensors")
    with pytest.raises(TritbenchError, match=r"expected a \.trit"):
        runtime.load(tmp_path / "model.pkl")
    trit.write_bytes(trit.read_bytes()[:-3])
    with pytest.raises(TritbenchError, match=r"not a valid \.trit file"):
        runtime.load(trit)
    (tmp_path / "x.safetensors").write_bytes(b"no model")
    with pytest.raises(TritbenchError, match="not a tritbench checkpoint"):
        runtime.load(tmp_path / "x.safetensors")
