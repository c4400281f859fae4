"""The engine on graphs of any kind, against its NumPy reference bit for bit, and PyTorch."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from calibrated_networks import calibrated, normalized
from graph_networks import networks
from random_graphs import KINDS, NORMALIZATION, packed, random_graph

from tritbench import runtime
from tritbench.errors import TritbenchError
from tritbench.graph import capture, run
from tritbench.packing import Network
from tritbench.packing.graph_file import pack_graph
from tritbench.runtime.fallback import NumpyModel
from tritbench.runtime.program import lowered

pytestmark = pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")

ISAS = runtime.available_isas()
NETWORKS = networks()
SEEDS = range(24)


def engine(net, isa="auto", mode="int8", threads=1):
    from tritbench.runtime.engine import EngineModel

    return EngineModel(net, threads=threads, isa=isa, mode=mode)


@functools.cache
def captured(name):
    module, example = NETWORKS[name]
    return pack_graph(capture(module, example), {}).graph


def network(name, kind, mode="int8") -> Network:
    net = packed(captured(name), np.random.default_rng(0), [kind])
    return calibrated(net, NETWORKS[name][1]) if mode == "static" else net


def same_bits(found, expected):
    nan = np.isnan(found) & np.isnan(expected)
    different = (found.view(np.int32) != expected.view(np.int32)) & ~nan
    assert not different.any(), f"{different.sum()} of {different.size}"


@pytest.mark.isa
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["float", "ternary", "two-sided", "integer"])
@pytest.mark.parametrize("mode", ["int8", "static"])
def test_every_instruction_set_gives_the_reference(name, kind, mode):
    net = network(name, kind, mode)
    example = NETWORKS[name][1].numpy()
    expected = NumpyModel(net, mode)(example)
    for isa in ISAS:
        same_bits(engine(net, isa, mode)(example), expected)


@pytest.mark.isa
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_exact_mode_is_the_float_network(name, kind):
    net = network(name, kind)
    example = NETWORKS[name][1]
    expected = run(net.packed.dequantized(), example)
    found = engine(net, mode="exact")(example)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def random_network(seed):
    net = packed(
        random_graph(seed, 10 + seed % 31),
        np.random.default_rng(seed),
        KINDS,
        NORMALIZATION if seed % 2 else None,
    )
    random = np.random.default_rng(seed)
    images = [random.normal(0.5, 0.5, (3, 3, 8, 7)).astype(np.float32)]
    if seed % 2:
        images.append(random.integers(0, 256, (3, 3, 8, 7), np.uint8))
    return calibrated(net, images[0]), images


@pytest.mark.isa
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["int8", "static"])
def test_random_graphs_give_the_reference_on_every_instruction_set(seed, mode):
    net, images = random_network(seed)
    for given in images:
        expected = NumpyModel(net, mode)(given)
        for isa in ISAS:
            same_bits(engine(net, isa, mode, threads=1 + seed % 2)(given), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_in_exact_mode_are_those_of_pytorch(seed):
    net, (images, *_) = random_network(seed)
    expected = run(net.packed.dequantized(), normalized(net, images))
    found = torch.from_numpy(engine(net, mode="exact")(images))
    finite = expected.isfinite()
    most = float(expected[finite].abs().max())
    torch.testing.assert_close(found[finite], expected[finite], rtol=1e-4, atol=2e-5 * most)


def test_neighbouring_products_pass_bytes_where_ranges_are_known():
    """A float map is kept where something else than a product takes it."""
    net = network("residual", "ternary", "static")
    steps = [step for step, _ in lowered(net, "static").steps]
    passed = [step for step in steps if getattr(step, "requantize", None) is not None]
    assert [type(step).__name__ for step in passed] == ["Product"]
    assert passed[0].out.buffer >= 0
    assert lowered(net, "static").arena > 0


def test_static_mode_needs_ranges():
    with pytest.raises(
        TritbenchError, match="needs ranges of activations, and the file holds none"
    ):
        engine(network("residual", "ternary"), mode="static")


def test_a_product_without_a_range_is_scaled_for_each_image():
    net = network("residual", "ternary", "static")
    name, *_ = net.packed.ranges
    fewer = {key: range for key, range in net.packed.ranges.items() if key != name}
    assert fewer
    net = replace(net, packed=replace(net.packed, ranges=fewer))
    example = NETWORKS["residual"][1].numpy()
    same_bits(engine(net, mode="static")(example), NumpyModel(net, "static")(example))


def test_an_index_beyond_its_table_gives_nan_and_spoils_no_other():
    net = network("tokens", "ternary")
    indices = np.random.default_rng(0).integers(0, 50, (4, 8))
    expected = engine(net)(indices)
    for wrong in (50, -1, 2**40):
        changed = indices.copy()
        changed[1, 3] = wrong
        found = engine(net)(changed)
        assert np.isnan(found[1]).all()
        same_bits(found[[0, 2, 3]], expected[[0, 2, 3]])
        same_bits(found, NumpyModel(net, "int8")(changed))


def test_what_the_engine_cannot_run_runs_in_pytorch_and_says_so():
    class Sum(torch.nn.Module):
        def forward(self, x):
            return (x + x).view(-1, 3)

    graph = capture(Sum(), torch.zeros(2, 3, dtype=torch.int64))
    net = Network(pack_graph(graph, {}), None, [], "base3", {}, {})
    model = runtime.from_packed(net, 1, "auto", "int8")
    assert model.engine == "PyTorch reference (weights dequantized to float32)"


def test_every_operation_is_known_to_the_engine():
    from tritbench.graph import OPS
    from tritbench.runtime.lowering import LOWER

    assert set(OPS) == set(LOWER)


def test_buffers_that_are_not_alive_together_share_memory():
    net = network("residual", "ternary")
    program = lowered(net)
    alive = sum(b.count * b.size for b in program.buffers if b.place == "arena")
    assert program.arena < alive
