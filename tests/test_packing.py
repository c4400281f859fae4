import numpy as np
import pytest
import torch
from networks import CLASSES, images, network, quantized, spec, two_sided
from safetensors.numpy import load

from tritbench import runtime
from tritbench.errors import TritbenchError
from tritbench.graph import run
from tritbench.models import Checkpoint, save_checkpoint
from tritbench.packing import load_trit, read_trit, save_trit, trit_bytes
from tritbench.packing.codecs import CODECS
from tritbench.packing.half import half_arrays

SPEC = spec()


@pytest.fixture
def trit(tmp_path):
    path = tmp_path / "model.trit"
    save_trit(path, quantized(), SPEC, CLASSES, {"seed": 0})
    return path


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:4"])
def test_a_packed_network_gives_the_quantized_models_logits(tmp_path, granularity):
    ternary = quantized("odd", granularity)
    path = tmp_path / "model.trit"
    save_trit(path, ternary, SPEC, CLASSES, {})
    expected = run(ternary.graph, SPEC.normalize(images(50)))
    for model in (runtime.load_reference(path), runtime.load(path, mode="exact")):
        torch.testing.assert_close(model(images(50)), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model(images(50).float() / 255), expected, rtol=1e-4, atol=1e-4)
        assert model.classes == CLASSES


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:4"])
def test_scales_of_negative_trits_are_kept(tmp_path, granularity):
    ternary = two_sided(quantized("odd", granularity))
    path = tmp_path / "model.trit"
    save_trit(path, ternary, SPEC, CLASSES, {})
    expected = run(ternary.graph, SPEC.normalize(images(50)))
    torch.testing.assert_close(
        runtime.load_reference(path)(images(50)), expected, rtol=1e-4, atol=1e-4
    )


def test_batchnorm_is_folded_where_it_follows_weights_and_kept_elsewhere(trit):
    operations = [node.op for node in load_trit(trit).packed.graph.nodes]
    assert operations == [
        *("mul", "add", "conv2d", "relu", "avg_pool2d", "reshape"),
        *("mul", "add", "linear", "relu", "linear"),
    ]


def test_packing_twice_gives_the_same_bytes(trit, tmp_path):
    save_trit(tmp_path / "again.trit", quantized(), SPEC, CLASSES, {"seed": 0})
    assert (tmp_path / "again.trit").read_bytes() == trit.read_bytes()


def test_a_checkpoint_runs_as_the_model_it_was_saved_from(tmp_path):
    path = tmp_path / "fp32.safetensors"
    save_checkpoint(path, Checkpoint.of(network("odd"), SPEC, CLASSES, {}))
    with torch.no_grad():
        expected = network("odd")(SPEC.normalize(images(9)))
    assert torch.equal(runtime.load_reference(path)(images(9)), expected)


@pytest.mark.parametrize("codec", CODECS)
def test_the_safetensors_package_reads_the_file(codec):
    data = trit_bytes(quantized(), SPEC, CLASSES, {}, codec)
    arrays = load(data)
    stored = read_trit(data, "it").stored
    assert len(arrays) == len(stored)
    for name, array in stored.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_the_file_of_a_linear_network_is_small():
    """The issue's limit for Fashion-MNIST: 2,400 bytes, provenance and names included."""
    recipe = {"model": "linear", "params": {f"key{i}": i / 7 for i in range(30)}}
    provenance = {"dataset": "fashion-mnist", "sha256": "0123456789abcdef" * 4, "recipe": recipe}
    classes = [f"ten letter{i}" for i in range(3)]
    data = trit_bytes(quantized("linear", size=28), spec(28), classes, provenance)
    network = read_trit(data, "it")
    overhead = len(data) - sum(array.nbytes for array in network.stored.values())
    assert overhead < 700
    assert network.provenance["dataset"] == "fashion-mnist"
    assert network.provenance["recipe"].startswith("sha256:")


def test_provenance_is_whole_where_it_takes_little_of_the_file():
    provenance = {"dataset": "x", "recipe": {"seed": 0}}
    small = read_trit(trit_bytes(quantized(), SPEC, CLASSES, provenance), "it")
    large = trit_bytes(quantized("mlp", size=128), spec(128), CLASSES, provenance)
    assert small.provenance["recipe"] != provenance["recipe"]
    assert read_trit(large, "it").provenance == provenance


def test_the_input_is_normalized_by_float32_numbers():
    network = read_trit(trit_bytes(quantized(), SPEC, CLASSES, {}), "it")
    assert network.packed.graph.inputs["x"].shape == (-1, *SPEC.shape)
    assert np.float32(network.normalization.mean).tolist() == np.float32(SPEC.mean).tolist()
    assert np.float32(network.normalization.std).tolist() == np.float32(SPEC.std).tolist()


def test_float16_is_used_where_no_prediction_changes(tmp_path):
    ternary = quantized("mlp")
    many = images(500)
    half = half_arrays(ternary, SPEC, many)
    assert "1.bias" in half
    models = []
    for chosen in ((), half):
        path = tmp_path / f"{len(chosen)}.trit"
        save_trit(path, ternary, SPEC, CLASSES, {}, half=chosen)
        models.append(runtime.load(path))
    before, after = (model(many) for model in models)
    assert torch.equal(before.argmax(1), after.argmax(1))
    assert not torch.equal(before, after)
    network = load_trit(path)
    halves = [name for name, array in network.stored.items() if array.dtype == np.float16]
    assert set(halves) == half
    assert network.packed.graph.parameters["1.bias"].dtype == np.float32
    assert network.packed.weights["1.weight"].scale.dtype == np.float32


def test_float16_is_left_out_where_it_overflows_or_changes_a_prediction():
    ternary = quantized("linear")
    weight = ternary.weights["1.weight"]
    weight.scale.fill_(1e5)  # the same for all classes, and over 65,504
    ternary.graph.parameters["1.bias"][:] = [0.0, 1.0, 1.0001]  # the last two are 1 in float16
    blank = torch.zeros(4, 1, 8, 8)
    weight.trits.zero_()
    assert half_arrays(ternary, SPEC, blank) == frozenset()
    with pytest.raises(TritbenchError, match=r"1\.weight\.scale holds NaN or infinity as float16"):
        trit_bytes(ternary, SPEC, CLASSES, {}, half={"1.weight.scale"})


def test_a_network_of_other_classes_is_not_packed(tmp_path):
    with pytest.raises(
        TritbenchError, match=r"m\.trit: the network gives \[n, 3\], expected \[n, 2\]"
    ):
        save_trit(tmp_path / "m.trit", quantized(), SPEC, ["a", "b"], {})


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
