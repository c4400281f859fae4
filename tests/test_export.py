"""Packed networks in other formats: the same weights, the same predictions."""

import json
import sys

import gguf
import numpy as np
import onnxruntime
import pytest
import torch
from networks import CLASSES, SETTINGS, images, quantized, spec

from tritbench.errors import TritbenchError
from tritbench.export.gguf import BLOCK, TYPES, blocks, export_gguf
from tritbench.export.npz import export_t81
from tritbench.export.onnx import export_onnx
from tritbench.packing import PackedLayer, read_trit, trit_bytes
from tritbench.packing.dequantize import weights
from tritbench.packing.t81 import unpack_dense_matrix
from tritbench.runtime.reference import from_network

NETWORKS = [(name, "channel") for name in [*SETTINGS, "odd"]] + [
    ("odd", "group:5"),
    ("mlp", "tensor"),
]


@pytest.fixture(params=NETWORKS, ids=" ".join)
def network(request):
    ternary = quantized(*request.param)
    return read_trit(trit_bytes(ternary, spec(), CLASSES, {"seed": 0}), "it")


def test_onnx_gives_the_references_logits_for_any_batch(network, tmp_path):
    path = tmp_path / "it.onnx"
    export_onnx(network, path)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 7):
        pixels = images(count)
        (found,) = session.run(["logits"], {"images": pixels.numpy()})
        expected = from_network(network)(pixels).numpy()
        assert abs(found - expected).max() <= 1e-4
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES


def read_gguf(path):
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    return (
        fields,
        {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors},
        {t.name: t.tensor_type.name for t in reader.tensors},
    )


def ungrouped(rows, layer):
    """Rows without the padding of their groups."""
    size, columns = layer["group_size"], layer["in"] * int(np.prod(layer.get("kernel", [1])))
    groups = -(-columns // size)
    return rows.reshape(len(rows), groups, -1)[:, :, :size].reshape(len(rows), -1)[:, :columns]


@pytest.mark.parametrize("kind", TYPES)
def test_gguf_gives_the_same_weights_and_exact_predictions(network, tmp_path, kind):
    path = tmp_path / "it.gguf"
    export_gguf(network, path, kind)
    fields, tensors, types = read_gguf(path)
    about = json.loads(fields["tritbench.layers"])
    assert fields["general.architecture"] == "tritbench"
    assert fields["tritbench.classes"] == CLASSES
    assert fields["tritbench.input.shape"] == [1, 8, 8]
    layers = []
    for index, (layer, packed) in enumerate(zip(about, network.layers, strict=True)):
        name = f"layers.{index}"
        if "trits" not in packed.arrays:
            keys = ("scale", "bias") if packed.arrays else ()
            layers.append(PackedLayer(layer, {key: tensors[f"{name}.{key}"] for key in keys}))
            continue
        assert types[f"{name}.weight"] == kind
        rows = tensors[f"{name}.weight"]
        assert rows.shape[1] % BLOCK == 0
        found, expected = ungrouped(rows, layer), weights(packed).reshape(layer["out"], -1)
        np.testing.assert_allclose(found, expected, rtol=2**-11, atol=2**-25)
        correction = tensors[f"{name}.correction"]
        by_weight = correction.repeat(layer["group_size"], 1)[:, : found.shape[1]]
        np.testing.assert_allclose(found * by_weight, expected, rtol=3e-7)
        exact = {"trits": np.sign(expected).astype(np.int8), "bias": tensors[f"{name}.bias"]}
        starts = range(0, found.shape[1], layer["group_size"])
        scale = np.maximum.reduceat(abs(found * by_weight), starts, axis=1)
        layers.append(PackedLayer(layer, exact | {"scale": scale}))
    expected = from_network(network)(images(200))
    again = from_network(type(network)(layers, network.input, CLASSES, "", {}, {}))(images(200))
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(again.argmax(1), expected.argmax(1))


def test_scales_that_float16_cannot_hold_are_left_to_the_correction():
    scale = np.array([[1e-9], [1e9], [-0.3], [0.0]], np.float32)
    trits = np.array([[1, 0, -1]] * 4, np.int8)
    about = {"type": "linear", "in": 3, "out": 4, "group_size": 3}
    layer = PackedLayer(about, {"trits": trits, "scale": scale, "bias": np.zeros(4, np.float32)})
    rows, correction = blocks(layer)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose((rows * correction)[:, :3], trits * scale, rtol=1e-6)


def test_gguf_types_are_checked(network, tmp_path):
    with pytest.raises(TritbenchError, match="'Q4_0', expected TQ2_0 or TQ1_0"):
        export_gguf(network, tmp_path / "x", "Q4_0")


def test_limbs_and_scales_come_without_pickle(network, tmp_path):
    path = tmp_path / "it.npz"
    export_t81(network, path)
    archive = np.load(path, allow_pickle=False)
    about = json.loads(str(archive["about"]))
    assert about["classes"] == CLASSES
    for index, layer in enumerate(network.layers):
        if "trits" in layer.arrays:
            columns = int(archive[f"layers.{index}.columns"])
            trits = unpack_dense_matrix(archive[f"layers.{index}.limbs"], columns)
            np.testing.assert_array_equal(trits, layer.arrays["trits"])
            np.testing.assert_array_equal(archive[f"layers.{index}.scale"], layer.arrays["scale"])


@pytest.mark.parametrize("export", [export_gguf, export_onnx, export_t81])
def test_the_same_network_gives_the_same_bytes(network, tmp_path, export):
    for name in ("a", "b"):
        export(network, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("package", "export"), [("gguf", export_gguf), ("onnx", export_onnx)])
def test_a_missing_package_is_named(network, tmp_path, monkeypatch, package, export):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TritbenchError, match=rf"needs the package {package}: pip install .*export"):
        export(network, tmp_path / "x")
