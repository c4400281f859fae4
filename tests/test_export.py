"""Packed networks in other formats: the same weights, the same predictions."""

import dataclasses
import json
import sys

import gguf
import numpy as np
import onnxruntime
import pytest
import torch
from networks import SETTINGS
from ternary_files import module, ternary_file

from tritbench.errors import TritbenchError
from tritbench.export.gguf import BLOCK, TYPES, blocks, export_gguf
from tritbench.export.npz import export_t81
from tritbench.export.onnx import export_onnx
from tritbench.graph import from_json
from tritbench.packing import read_trit
from tritbench.packing.t81 import unpack_dense_matrix
from tritbench.packing.weights import PackedGraph, TernaryArray
from tritbench.runtime.reference import from_network

NETWORKS = {
    **{name: {} for name in (*SETTINGS, "odd", "resnet", "vit")},
    "odd in groups": {"granularity": "group:5"},
    "mlp of one scale": {"granularity": "tensor"},
    "dscnn with int8": {"int8": ["0.0.weight", "13.weight"]},
}


@pytest.fixture(params=NETWORKS)
def network(request):
    made, taken = module(request.param.split()[0])
    data = ternary_file(made, torch.zeros(2, *taken.shape), taken, **NETWORKS[request.param])
    return read_trit(data, "it")


def pixels_for(network, count):
    ((_, *shape),) = (value.shape for value in network.packed.graph.inputs.values())
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), generator=generator).to(torch.uint8)


def test_onnx_gives_the_references_logits_for_any_batch(network, tmp_path):
    path = tmp_path / "it.onnx"
    export_onnx(network, path)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 7):
        pixels = pixels_for(network, count)
        (found,) = session.run(["logits"], {"images": pixels.numpy()})
        expected = from_network(network)(pixels).numpy()
        assert abs(found - expected).max() <= 1e-4
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == network.classes


def read_gguf(path):
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    return (
        fields,
        {
            t.name: t.data
            if t.tensor_type.name.startswith("I")
            else gguf.quants.dequantize(t.data, t.tensor_type)
            for t in reader.tensors
        },
        {t.name: t.tensor_type.name for t in reader.tensors},
    )


@pytest.mark.parametrize("kind", TYPES)
def test_gguf_gives_the_same_weights_and_exact_predictions(network, tmp_path, kind):
    path = tmp_path / "it.gguf"
    export_gguf(network, path, kind)
    fields, tensors, types = read_gguf(path)
    assert fields["general.architecture"] == "tritbench"
    assert fields["tritbench.classes"] == network.classes
    mean = np.float32(fields["tritbench.normalization.mean"])
    assert mean.tolist() == np.float32(network.normalization.mean).tolist()
    described, parameters = json.loads(fields["tritbench.weights"]), {}
    for name, array in tensors.items():
        if name not in described:
            parameters[name] = array
            continue
        if types[name] == "I8":
            scaled = array * tensors[f"{name}.scale"]
            parameters[name] = scaled.astype(np.float32).reshape(described[name])
            continue
        assert types[name] == kind
        assert array.shape[1] % BLOCK == 0
        shape = [size for size in described[name] if isinstance(size, int)]
        columns = int(np.prod(shape[1:]))
        size = described[name][-1]["group_size"] if len(shape) < len(described[name]) else columns
        groups = array.reshape(len(array), -(-columns // size), -1)[:, :, :size]
        found = groups.reshape(len(array), -1)[:, :columns]
        expected = network.packed.weights[name].dequantize().reshape(len(array), -1)
        np.testing.assert_allclose(found, expected, rtol=2**-11, atol=2**-25)
        found = found * tensors[f"{name}.correction"].repeat(size, 1)[:, :columns]
        np.testing.assert_allclose(found, expected, rtol=3e-7)
        parameters[name] = found.reshape(shape)
    kept = {n: a for n, a in parameters.items() if not n.endswith((".correction", ".scale"))}
    graph = from_json(json.loads(fields["tritbench.graph"]), kept)
    images = pixels_for(network, 200)
    expected = from_network(network)(images)
    again = dataclasses.replace(network, packed=PackedGraph(graph, {}))
    logits = from_network(again)(images)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits.argmax(1), expected.argmax(1))


def test_scales_that_float16_cannot_hold_are_left_to_the_correction():
    scale = np.array([[1e-9], [1e9], [-0.3], [0.0]], np.float32)
    trits = np.array([[1, 0, -1]] * 4, np.int8)
    rows, correction = blocks("it", TernaryArray(trits, scale, 3, (4, 3)))
    assert np.isfinite(rows).all()
    np.testing.assert_allclose((rows * correction)[:, :3], trits * scale, rtol=1e-6)


def test_two_scales_for_a_group_are_refused_by_name(network, tmp_path):
    name, weight = next(
        (n, w) for n, w in network.packed.weights.items() if isinstance(w, TernaryArray)
    )
    two_sided = dataclasses.replace(weight, negative_scale=weight.scale)
    packed = PackedGraph(network.packed.graph, {**network.packed.weights, name: two_sided})
    with pytest.raises(TritbenchError, match=f"{name} has other scales for trits of -1"):
        export_gguf(dataclasses.replace(network, packed=packed), tmp_path / "x")


def test_gguf_types_are_checked(network, tmp_path):
    with pytest.raises(TritbenchError, match="'Q4_0', expected TQ2_0 or TQ1_0"):
        export_gguf(network, tmp_path / "x", "Q4_0")


def test_limbs_and_scales_come_without_pickle(network, tmp_path):
    path = tmp_path / "it.npz"
    export_t81(network, path)
    archive = np.load(path, allow_pickle=False)
    about = json.loads(str(archive["about"]))
    assert about["classes"] == network.classes
    assert set(about["weights"]) == set(network.packed.weights)
    for name, weight in network.packed.weights.items():
        np.testing.assert_array_equal(archive[f"{name}.scale"], weight.scale)
        if not isinstance(weight, TernaryArray):
            np.testing.assert_array_equal(archive[f"{name}.int8"], weight.values)
            continue
        trits = unpack_dense_matrix(archive[f"{name}.limbs"], int(archive[f"{name}.columns"]))
        np.testing.assert_array_equal(trits, weight.trits)


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


def test_names_that_are_too_long_for_ggml_are_numbered(tmp_path):
    inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    made = torch.nn.ModuleDict({"a" * 60: inner})
    made.forward = inner.forward
    found = read_trit(ternary_file(made, torch.zeros(2, 1, 8, 8)), "it")
    export_gguf(found, tmp_path / "it.gguf")
    fields, tensors, _ = read_gguf(tmp_path / "it.gguf")
    names = json.loads(fields["tritbench.names"])
    assert set(names.values()) == {
        f"{'a' * 60}.1.{key}" for key in ("weight", "weight.correction", "bias")
    }
    assert set(tensors) == set(names)


class FiveDimensions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(32, 3)
        self.mask = torch.nn.Parameter(torch.randn(1, 2, 2, 2, 4))

    def forward(self, x):
        return self.head((x.view(-1, 2, 2, 2, 4) * self.mask).flatten(1))


def test_arrays_of_more_dimensions_than_ggml_has_are_folded(tmp_path):
    found = read_trit(ternary_file(FiveDimensions(), torch.zeros(2, 32)), "it")
    export_gguf(found, tmp_path / "it.gguf")
    fields, tensors, _ = read_gguf(tmp_path / "it.gguf")
    assert json.loads(fields["tritbench.shapes"]) == {"mask": [1, 2, 2, 2, 4]}
    expected = found.packed.graph.parameters["mask"]
    np.testing.assert_array_equal(tensors["mask"].reshape(expected.shape), expected)
