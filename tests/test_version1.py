"""Files of version 1, written by tritbench 0.1.0, and the engine on chains of either version."""

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES, SETTINGS, images, quantized, spec

from tritbench import runtime
from tritbench.packing import Normalization, graph_trit_bytes, load_trit, trit_bytes
from tritbench.packing.graph_file import pack_graph, packed_arrays
from tritbench.runtime.fallback import NumpyModel

FOLDER = Path(__file__).parent / "fixtures/v1"
RECORDED = np.load(FOLDER / "logits.npz", allow_pickle=False)
FILES = sorted(path.stem for path in FOLDER.glob("*.trit"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_logits_it_gave(name):
    path = FOLDER / f"{name}.trit"
    found = runtime.load_reference(path)(RECORDED["images"])
    np.testing.assert_allclose(found, RECORDED[f"{name}.float"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(
        NumpyModel(load_trit(path), "int8")(RECORDED["images"]), RECORDED[f"{name}.int8"]
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
    packed = pack_graph(ternary.graph, packed_arrays(ternary.weights))
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
