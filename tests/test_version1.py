"""Files of version 1, written by tritbench 0.1.0, and the engine on chains of either version."""

from pathlib import Path

import numpy as np
import pytest
import torch
from graph_networks import networks
from networks import CLASSES, SETTINGS, images, quantized, spec

from tritbench import runtime
from tritbench.graph import capture
from tritbench.packing import Network, Normalization, graph_trit_bytes, load_trit, trit_bytes
from tritbench.packing.graph_file import pack_graph, packed_arrays
from tritbench.packing.weights import TernaryArray
from tritbench.runtime.chain import chain_of
from tritbench.runtime.fallback import NumpyModel

FOLDER = Path(__file__).parent / "fixtures/v1"
RECORDED = np.load(FOLDER / "logits.npz", allow_pickle=False)
FILES = sorted(path.stem for path in FOLDER.glob("*.trit"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_logits_it_gave(name):
    path = FOLDER / f"{name}.trit"
    found = runtime.load_reference(path)(RECORDED["images"])
    np.testing.assert_allclose(found, RECORDED[f"{name}.float"], rtol=1e-5, atol=1e-5)
    chain = chain_of(load_trit(path))
    assert chain is not None
    np.testing.assert_array_equal(
        NumpyModel(chain, "int8")(RECORDED["images"]), RECORDED[f"{name}.int8"]
    )


@pytest.mark.isa
@pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")
@pytest.mark.parametrize("name", FILES)
def test_the_engine_gives_the_bits_it_gave(name):
    model = runtime.load(FOLDER / f"{name}.trit")
    assert model.engine.startswith("tritbench native")
    np.testing.assert_array_equal(model(RECORDED["images"]), RECORDED[f"{name}.int8"])


def test_a_file_keeps_what_is_beside_the_network():
    network = load_trit(FOLDER / "mlp-half.trit")
    assert network.classes == CLASSES
    assert network.provenance["dataset"] == "random"
    assert network.normalization == Normalization((0.2861271,), (0.35315055,))
    assert network.stored["layers.1.weight.scale"].dtype == np.float16
    assert network.packed.graph.parameters["layers.1.bias"].dtype == np.float32


def second_version(name, mean=(0.28612709,)):
    """What `quantized` makes as a file of version 2."""
    ternary = quantized(name)
    weights = {f"{key}.weight": weight for key, weight in ternary.weights.items()}
    packed = pack_graph(
        capture(ternary.model, torch.zeros(2, *spec().shape)), packed_arrays(weights)
    )
    return graph_trit_bytes(packed, Normalization(mean, (0.35315055,) * len(mean)), CLASSES, {})


@pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")
@pytest.mark.parametrize("name", [*SETTINGS, "odd"])
def test_a_chain_runs_on_the_engine_from_either_version(tmp_path, name):
    first, second = tmp_path / "1.trit", tmp_path / "2.trit"
    first.write_bytes(trit_bytes(quantized(name), spec(), CLASSES, {}))
    second.write_bytes(second_version(name))
    models = [runtime.load(path) for path in (first, second)]
    assert models[0].engine == models[1].engine
    assert "native" in models[0].engine
    assert torch.equal(models[0](images(9)), models[1](images(9)))


def test_what_is_no_chain_runs_in_pytorch_and_says_so(tmp_path):
    module, example = networks()["residual"]
    normalization = Normalization((0.5,) * 3, (0.5,) * 3)
    path = tmp_path / "it.trit"
    classes = [str(index) for index in range(5)]
    packed = pack_graph(capture(module, example), {})
    path.write_bytes(graph_trit_bytes(packed, normalization, classes, {}))
    assert runtime.load(path).engine == "PyTorch reference (weights dequantized to float32)"


def test_channels_that_are_normalized_apart_are_no_chain():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    graph = capture(module, torch.zeros(2, 3, 2, 2))
    trits = np.ones((2, 12), np.int8)
    weight = TernaryArray(trits, np.ones((2, 1), np.float32), 12, (2, 12))
    packed = pack_graph(graph, {"1.weight": weight})

    def found(*mean):
        return chain_of(Network(packed, Normalization(mean, (1.0,) * 3), ["a", "b"], "", {}, {}))

    assert found(0.5, 0.5, 0.5) is not None
    assert found(0.5, 0.5, 0.4) is None
