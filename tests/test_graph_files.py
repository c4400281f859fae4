"""Graphs in .trit files: what was quantized comes back, and what cannot be is refused."""

import contextlib
import json

import numpy as np
import pytest
import torch
from graph_networks import networks

from tritbench import runtime
from tritbench.commands import inspect
from tritbench.errors import TritbenchError
from tritbench.graph import capture, run
from tritbench.models import InputSpec
from tritbench.packing import (
    Normalization,
    graph_trit_bytes,
    load_trit,
    read_trit,
    save_trit,
)
from tritbench.packing.artifact import KEY
from tritbench.packing.calibration import calibrated
from tritbench.packing.codecs import CODECS
from tritbench.packing.container import read_container, write_container
from tritbench.packing.graph_file import pack_graph, packed_arrays
from tritbench.packing.half import half_arrays
from tritbench.packing.weights import IntegerArray
from tritbench.params import PtqParams, QuantizeParams
from tritbench.quantize import quantize_graph

NETWORKS = networks()
PTQ = PtqParams(method="threshold", calibration=256, bias_correction=True, batchnorm=True)


def quantized(name, granularity="channel"):
    module, example = NETWORKS[name]
    settings = QuantizeParams(
        threshold=0.7, reference="absmean", granularity=granularity, backend="native"
    )
    return quantize_graph(capture(module, example), [torch.cat([example] * 2)], settings, PTQ)


def classes(graph):
    return [str(index) for index in range(graph.shapes()[graph.output][-1])]


def file(name="residual", granularity="channel", codec="base3", normalization=None, **weights):
    found = quantized(name, granularity)
    packed = pack_graph(found.graph, packed_arrays(found.weights) | weights)
    packed = calibrated(packed, [NETWORKS[name][1]], normalization is not None)
    return graph_trit_bytes(packed, normalization, classes(found.graph), {"seed": 0}, codec), found


@pytest.mark.parametrize("name", ["residual", "squeeze_shuffle", "tokens", "signals", "attention"])
@pytest.mark.parametrize("codec", CODECS)
def test_a_graph_comes_back_from_its_file_with_the_same_results(tmp_path, name, codec):
    data, found = file(name, codec=codec)
    path = tmp_path / "it.trit"
    path.write_bytes(data)
    model = runtime.load(path, mode="exact")
    example = NETWORKS[name][1]
    expected = run(found.graph, example)
    torch.testing.assert_close(model(example), expected, rtol=1e-4, atol=1e-4)
    assert isinstance(model(example.numpy()), np.ndarray)
    assert file(name, codec=codec)[0] == data


@pytest.mark.parametrize("granularity", ["tensor", "group:5"])
def test_scales_are_kept_as_they_are_grouped(granularity):
    data, found = file("residual", granularity)
    network = read_trit(data, "it")
    example = NETWORKS["residual"][1]
    torch.testing.assert_close(
        run(network.packed.dequantized(), example), run(found.graph, example), rtol=1e-4, atol=1e-4
    )


def test_eight_bit_weights_stand_beside_ternary_ones():
    found = quantized("residual")
    weight = found.graph.parameters["head.weight"]
    scale = (np.abs(weight).max(1, keepdims=True) / 127).astype(np.float32)
    values = np.rint(weight / scale).astype(np.int8)
    kept = {"head.weight": IntegerArray(values, scale, weight.shape)}
    network = read_trit(file("residual", **kept)[0], "it")
    example = NETWORKS["residual"][1]
    difference = run(network.packed.dequantized(), example) - run(found.graph, example)
    assert difference.abs().max() < 0.02


def test_ranges_are_those_of_what_products_take_on_calibration_images():
    data, found = file("residual")
    ranges = read_trit(data, "it").packed.ranges
    taken = {}

    def tap(node, inputs, _):
        if len(inputs) > 1 and node.inputs[1] in found.weights:
            taken[node.inputs[1]] = torch.aminmax(inputs[0])

    run(found.graph, NETWORKS["residual"][1], tap=tap)
    expected = [(min(float(low), 0), max(float(high), 0)) for low, high in taken.values()]
    np.testing.assert_allclose(list(ranges.values()), expected, rtol=1e-3)
    assert list(ranges) == ["0", "2", "7"]


def test_a_value_that_is_always_zero_has_a_range_all_the_same():
    packed = pack_graph((found := quantized("residual")).graph, packed_arrays(found.weights))
    zeros = calibrated(packed, [torch.zeros_like(NETWORKS["residual"][1])], False)
    assert zeros.ranges["0"] == (0, 1)


def test_what_is_not_finite_has_no_range():
    packed = pack_graph((found := quantized("residual")).graph, packed_arrays(found.weights))
    wrong = torch.full_like(NETWORKS["residual"][1], torch.inf)
    assert not calibrated(packed, [wrong], False).ranges


def test_images_are_normalized_channel_by_channel(tmp_path):
    normalization = Normalization((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    data, found = file("residual", normalization=normalization)
    path = tmp_path / "it.trit"
    path.write_bytes(data)
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in vars(normalization).values())
    expected = run(found.graph, (images / 255 - mean) / std)
    model = runtime.load(path, mode="exact")
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


def test_a_file_holds_no_more_than_it_needs():
    data, _ = file("residual")
    arrays, metadata = read_container(data)
    content = json.loads(metadata[KEY])
    assert all(sum(isinstance(part, dict) for part in node) <= 1 for node in content["nodes"])
    assert "norm.running_mean" not in arrays
    assert len(data) < 4096


def changed(data, change):
    arrays, metadata = read_container(data)
    arrays, content = dict(arrays), json.loads(metadata[KEY])
    change(arrays, content)
    return write_container(arrays, {KEY: json.dumps(content)})


def put(*path, to):
    def change(_, content):
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return change


def normalized(mean, std):
    def change(_, content):
        content |= {"mean": mean, "std": std}

    return change


def array(name, value):
    def change(arrays, _):
        arrays[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format_version", to=3), "format version 3, expected 1 or 2"),
        (put("codec", to="zip"), "codec 'zip', expected one of"),
        (put("classes", to=["a"]), r"gives \[n, 5\], expected \[n, 1\], a logit for each class"),
        (put("inputs", to=[]), "inputs = a list of 0: expected an object"),
        (put("nodes", to={}), "nodes = an object of 0: expected a list"),
        (put("nodes", 0, 0, to="shell"), "unknown operation 'shell'"),
        (put("nodes", 3, 1, to=3), "node 3: input 3 is no earlier node"),
        (put("nodes", 3, 1, to=-1), "node 3: input -1 is no earlier node"),
        (put("nodes", 3, 1, to=10**400), "node 3: input 1000.* is no earlier node"),
        (put("nodes", 3, 1, to=True), "node 3: True, expected inputs"),
        (put("nodes", 3, 1, to="8"), "node 3: input '8' is no input and no parameter"),
        (put("nodes", 8, 1, to=0), "do not fit"),
        (put("nodes", 6, to=["relu", 5, 5]), "2 inputs, expected self"),
        (put("nodes", 6, to=["relu", None]), "has no self"),
        (put("nodes", 6, to=["clamp", 5]), "expected min or max"),
        (put("nodes", 6, to=["softmax", 5, {"dim": 0}]), "is the batch"),
        (put("nodes", 4, 2, "stride", to=[2**32, 2]), "stride"),
        (put("nodes", 0, 2, "pad", to=[1, 1]), "do not fit"),
        (put("nodes", 5, to=["add", 3]), "expected one other operand, a tensor or a number"),
        (put("nodes", 5, to=["add", 3, 4, {"other": 1}]), "expected one other operand"),
        (put("nodes", 6, to=["relu", 5, {"x": 1}]), "unknown attribute 'x'"),
        (put("nodes", 3, 4, "groups", to="2"), "attribute groups = '2', expected int"),
        (put("nodes", 6, to=["reshape", 5, {"shape": [-1, 2**40]}]), "do not fit"),
        (put("nodes", 6, to=["expand", 5, {"size": [2**28, -1, 4, 4, 4]}]), "gives the shape"),
        (put("nodes", 6, to=["relu", 5, {}, {"name": "x"}]), "the name 'x' stands twice"),
        (put("nodes", to=[["relu", "x"]] * 20_000), "expected a list of 1 to 16384"),
        (put("weights", "conv.weight", to=[4, 2**40]), "expected 2 to 4 sizes"),
        (put("weights", "conv.weight", to=[2**30, 2**20]), "trits in .* bytes"),
        (put("weights", "conv.weight", to=[4, 27, {"group_size": 0}]), "group_size = 0"),
        (put("weights", "conv.weight", to=[4, 27, {"groups": 1}]), "expected sizes and group_size"),
        (put("weights", "other", to=[1, 1]), r"other\.scale is missing"),
        (put("extra", to=1), "extra is no key of the format"),
        (put("ranges", to={}), "ranges = an object of 0: expected a list"),
        (put("ranges", to=[]), "ranges: expected a list of 1 to 3"),
        (put("ranges", to=[[0, -1, 1]] * 4), "ranges: expected a list of 1 to 3"),
        (put("ranges", 0, to=[0, 1]), r"ranges\.0: \[0, 1\], expected \[value, least, greatest\]"),
        (put("ranges", 0, 0, to=1), r"ranges\.0: 1 is nothing that a product takes"),
        (put("ranges", 0, 0, to=-1), r"ranges\.0: -1 is nothing that a product takes"),
        (put("ranges", 0, 0, to=10**400), r"ranges\.0: 1000.* is nothing that a product takes"),
        (put("ranges", 0, 0, to="x"), r"ranges\.0: 'x' is nothing that a product takes"),
        (put("ranges", 0, 0, to=[]), r"ranges\.0: \[\] is nothing that a product takes"),
        (put("ranges", 1, 0, to=0), r"ranges\.1: 0 has a range already"),
        (put("ranges", 1, 1, to=0.5), r"ranges\.1: 0\.5 to .* is no range that holds 0"),
        (put("ranges", 1, 2, to=-1), r"ranges\.1: 0 to -1 is no range that holds 0"),
        (put("ranges", 1, 2, to=0), r"ranges\.1: 0 to 0 is no range that holds 0"),
        (put("ranges", 1, 2, to=1e-40), r"ranges\.1: 0 to 1e-40 is no range that holds 0"),
        (put("ranges", 1, 2, to=10**400), r"ranges\.1: 0 to 1000.* is no range that holds 0"),
        (put("ranges", 1, 2, to=True), r"ranges\.1: 0 to True is no range that holds 0"),
        (put("ranges", 1, 2, to=float("nan")), "NaN"),
        (put("ranges", 1, 2, to="1"), r"ranges\.1: 0 to '1' is no range that holds 0"),
        (normalized([0.5], [1.0]), "expected 3, those of the input"),
        (put("mean", to=[0.5]), "std is missing"),
        (array("conv.bias", np.full(4, np.nan, np.float32)), "conv.bias holds NaN"),
        (array("conv.bias", np.zeros(3, np.float32)), "do not fit"),
        (array("conv.weight.scale", np.zeros((3, 1), np.float32)), r"scale is float32 \[3, 1\]"),
        (array("conv.weight.trits", np.full((4, 6), 255, np.uint8)), r"conv\.weight\.trits"),
        (array("more", np.zeros(2, np.float32)), "no node uses the parameter 'more'"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(change, message):
    data = changed(file("residual")[0], change)
    with pytest.raises(TritbenchError, match=message) as caught:
        read_trit(data, "it.trit")
    assert str(caught.value).startswith("it.trit: not a valid .trit file: ")
    assert "\n" not in str(caught.value)


def test_indices_of_a_file_lie_within_what_they_index():
    graph = capture(*NETWORKS["moves"])
    name = next(n for n, a in graph.parameters.items() if a.dtype == np.int64)
    data = graph_trit_bytes(pack_graph(graph, {}), None, classes(graph), {})
    wrong = changed(data, array(name, np.array([0, 3])))
    with pytest.raises(TritbenchError, match="has an index beyond 3"):
        read_trit(wrong, "it")


def test_an_array_to_halve_that_is_not_there_is_named():
    graph = capture(*NETWORKS["moves"])
    with pytest.raises(TritbenchError, match="half: 'nothing' is no array; expected one of "):
        graph_trit_bytes(pack_graph(graph, {}), None, classes(graph), {}, half=["nothing"])


def test_bytes_that_were_changed_anywhere_are_read_or_refused():
    data = file("residual")[0]
    rng = np.random.default_rng(0)
    for _ in range(3000):
        mutated = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            mutated[rng.integers(len(mutated))] = rng.integers(256)
        with contextlib.suppress(TritbenchError):
            read_trit(bytes(mutated[: rng.integers(1, len(mutated) + 1)]), "it")


def test_inspect_shows_operations_weights_and_products(tmp_path, capsys):
    path = tmp_path / "it.trit"
    path.write_bytes(file("residual")[0])
    inspect.run(path, "json")
    facts = json.loads(capsys.readouterr().out)
    first = facts["operations"][1]
    assert (first["operation"], first["weight"], first["kind"]) == (
        "conv2d",
        "conv.weight",
        "ternary",
    )
    assert first["products"] == 4 * 8 * 8 * 27
    assert facts["inputs"] == {"x": ["n", 3, 8, 8]}
    inspect.run(path, "table")
    assert "down.weight" in capsys.readouterr().out


def test_what_takes_no_images_is_not_given_pictures(tmp_path):
    path = tmp_path / "it.trit"
    path.write_bytes(file("tokens")[0])
    with pytest.raises(TritbenchError, match=r"takes \[-1, 8\] as it is, expected pixels"):
        runtime.load(path).input  # noqa: B018


def test_float16_arrays_of_a_graph_change_no_prediction(tmp_path):
    module, example = NETWORKS["residual"]
    spec = InputSpec(tuple(example.shape[1:]), (0.5,) * 3, (0.25,) * 3)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, *spec.shape), generator=generator).to(torch.uint8)
    settings = QuantizeParams(
        threshold=0.7, reference="absmean", granularity="channel", backend="native"
    )
    found = quantize_graph(capture(module, example), [spec.normalize(images)], settings, PTQ)
    half = half_arrays(found, spec, images)
    assert {name.rpartition(".")[2] for name in half} >= {"scale", "bias"}
    save_trit(tmp_path / "it.trit", found, spec, classes(found.graph), {}, half=half)
    stored = load_trit(tmp_path / "it.trit").stored
    assert {name for name, array in stored.items() if array.dtype == np.float16} == half
    expected = run(found.graph, spec.normalize(images)).argmax(1)
    assert torch.equal(runtime.load_reference(tmp_path / "it.trit")(images).argmax(1), expected)


def test_a_file_has_a_class_for_each_logit(tmp_path):
    with pytest.raises(TritbenchError, match=r"it\.trit: the network gives \[n, 5\], expected"):
        save_trit(tmp_path / "it.trit", quantized("residual"), None, ["a"], {})
