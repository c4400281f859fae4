"""The engine on graphs of any kind, against its NumPy reference bit for bit, and PyTorch."""

import functools

import numpy as np
import pytest
import torch
from graph_networks import networks
from random_graphs import KINDS, NORMALIZATION, packed, random_graph

from tritbench import runtime
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


def network(name, kind) -> Network:
    return packed(captured(name), np.random.default_rng(0), [kind])


def same_bits(found, expected):
    nan = np.isnan(found) & np.isnan(expected)
    different = (found.view(np.int32) != expected.view(np.int32)) & ~nan
    assert not different.any(), f"{different.sum()} of {different.size}"


@pytest.mark.isa
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["float", "ternary", "two-sided", "integer"])
def test_every_instruction_set_gives_the_reference(name, kind):
    net = network(name, kind)
    example = NETWORKS[name][1].numpy()
    expected = NumpyModel(net, "int8")(example)
    for isa in ISAS:
        same_bits(engine(net, isa)(example), expected)


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
    return net, images


@pytest.mark.isa
@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_give_the_reference_on_every_instruction_set(seed):
    net, images = random_network(seed)
    for given in images:
        expected = NumpyModel(net, "int8")(given)
        for isa in ISAS:
            same_bits(engine(net, isa, threads=1 + seed % 2)(given), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_in_exact_mode_are_those_of_pytorch(seed):
    net, (images, *_) = random_network(seed)
    x = torch.from_numpy(images)
    if net.normalization is not None:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in vars(net.normalization).values())
        x = (x - mean) / std
    expected = run(net.packed.dequantized(), x)
    found = torch.from_numpy(engine(net, mode="exact")(images))
    finite = expected.isfinite()
    most = float(expected[finite].abs().max())
    torch.testing.assert_close(found[finite], expected[finite], rtol=1e-4, atol=2e-5 * most)


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
