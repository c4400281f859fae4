"""Any module as a graph: what is captured is what the module computes, or is refused by name."""

import copy
import json

import onnx
import onnxruntime
import pytest
import torch
from graph_networks import networks
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.graph import OPS, capture, from_json, run, to_json
from tritbench.graph.onnx import onnx_model
from tritbench.graph.passes import fold_batch_norm
from tritbench.graph.pixels import fold_normalization
from tritbench.graph.shapes import with_batch
from tritbench.graph.straight import straight

NETWORKS = networks()


class Graphs(dict):
    """Captured when asked for."""

    def __missing__(self, name):
        self[name] = capture(*NETWORKS[name])
        return self[name]


@pytest.fixture(scope="module")
def graphs():
    return Graphs()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 5])
def test_a_graph_computes_what_the_module_does_for_any_batch(graphs, name, batch):
    module, example = NETWORKS[name]
    inputs = torch.cat([example] * 3)[:batch]
    if inputs.is_floating_point():
        inputs = inputs + torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = copy.deepcopy(module).eval()(inputs)
    torch.testing.assert_close(run(graphs[name], inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_as_one_function_computes_the_same(graphs, name):
    example = NETWORKS[name][1]
    inputs = torch.cat([example] * 3)
    with torch.inference_mode():
        assert torch.equal(straight(graphs[name])(inputs), run(graphs[name], inputs))


class Pixels(nn.Module):
    """Takes images as `first` does, and needs an average pool."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(self.first(x), 1).flatten(1)


@pytest.mark.parametrize(
    ("module", "operations"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(75, 4)), ["reshape", "linear"]),
        (Pixels(nn.Conv2d(3, 4, 3)), ["conv2d", "adaptive_avg_pool2d", "reshape"]),
        (Pixels(nn.Conv2d(3, 4, 3, padding=1, bias=False)), ["add", "conv2d"]),
        (Pixels(nn.Conv2d(3, 6, 3, groups=3)), ["mul", "add", "conv2d"]),
        (Pixels(nn.ReLU()), ["mul", "add", "relu"]),
    ],
)
def test_the_normalization_of_pixels_goes_into_the_first_weights(module, operations):
    """Where a convolution pads, its zeros are those of normalized pixels: the mean stays apart."""
    torch.manual_seed(0)
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.3, 0.25)
    pixels = torch.randint(0, 256, (4, 3, 5, 5)).float()
    wide = [torch.tensor(values).view(3, 1, 1) for values in (mean, std)]
    normalized = (pixels / 255 - wide[0]) / wide[1]
    graph = capture(module.eval(), normalized[:2])
    folded = fold_normalization(graph, mean, std)
    assert [node.op for node in folded.nodes][: len(operations)] == operations
    torch.testing.assert_close(run(folded, pixels), run(graph, normalized), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_shapes_of_a_graph_are_those_that_it_has_when_it_runs(graphs, name):
    def check(node, _, result):
        assert tuple(result.shape) == with_batch(node.shape, 3)

    example = NETWORKS[name][1]
    run(graphs[name], torch.cat([example, example[:1]]), tap=check)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_is_plain_json_and_comes_back_equal(graphs, name):
    graph = graphs[name]
    text = json.dumps(to_json(graph))
    again = from_json(json.loads(text), graph.parameters)
    assert again.nodes == graph.nodes
    assert json.dumps(to_json(again)) == text


def test_parameters_keep_their_names_and_constants_are_folded(graphs):
    assert {"layer.linear1.weight", "token", "embed.weight"} <= set(graphs["tokens"].parameters)
    assert "head.weight" not in graphs["tokens"].parameters  # tied
    assert [n for n in graphs["signals"].parameters if n.startswith("head.")] == [
        "head.weight",
        "head.bias",
    ]
    windows = graphs["windows"]
    mask = [a for name, a in windows.parameters.items() if a.shape == (16, 16)]
    assert len(mask) == 1
    assert mask[0].min() == -100


def test_a_node_says_which_module_and_line_it_comes_from(graphs):
    (node,) = [n for n in graphs["residual"].nodes if n.op == "batch_norm"]
    assert node.module == "norm"
    file, _, line = node.source.partition(":")
    assert file.endswith("graph_networks.py")
    assert int(line) > 0


def test_attention_stays_whole(graphs):
    assert [n.op for n in graphs["attention"].nodes].count("scaled_dot_product_attention") == 1


def test_products_are_counted_for_one_image():
    conv = capture(nn.Conv2d(4, 6, 3, padding=1, groups=2), torch.zeros(2, 4, 8, 8))
    assert conv.products() == 6 * 8 * 8 * 2 * 9


def test_a_captured_module_stays_as_it_is():
    module, example = NETWORKS["residual"]
    module = copy.deepcopy(module).train()
    module.norm.eval()
    before = copy.deepcopy(module.state_dict())
    capture(module, example)
    assert module.training
    assert not module.norm.training
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 3))

    def forward(self, x):
        x = torch.cumsum(self.inner(x), 1)
        return torch.fft.rfft2(x).abs().flatten(1)


class Flow(nn.Module):
    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Length(nn.Module):
    def forward(self, x):
        return x.reshape(len(x), -1) * 2


class Two(nn.Module):
    def forward(self, x):
        return x + 1, x + 2


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand(x.shape)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Broken(), r"cumsum \(.*test_graph\.py:\d+\); fft_rfft2 \(.*test_graph\.py:\d+\)"),
        (Flow(), r"Flow: PyTorch cannot export it: .*data-dependent.*test_graph\.py"),
        (Length(), r"the batch must stay symbolic.*\(.*test_graph\.py:\d+\)"),
        (Two(), "gives 2 outputs, expected one tensor"),
        (Noise(), "rand"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).half(), r"1\.weight is float16, expected"),
        (nn.BatchNorm2d(3, track_running_stats=False), "without running statistics"),
    ],
)
def test_what_cannot_be_captured_is_refused_by_name(module, message):
    with pytest.raises(TritbenchError, match=message) as caught:
        capture(module, torch.zeros(2, 3, 8, 8))
    assert "\n" not in str(caught.value)


def changed(content, *path, to):
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("nodes", 0, 0), "system", "unknown operation 'system'"),
        (("nodes", 0, 0), ["x"], r"expected \[operation, inputs…, attributes\]"),
        (("nodes", 1, 1), "later", "input 'later' is no input and no parameter"),
        (("nodes", 1, 1), 1, "input 1 is no earlier node"),
        (("nodes", 1, 1), -1, "input -1 is no earlier node"),
        (("nodes", 1, 1), [7], r"\[7\], expected inputs, then attributes"),
        (("nodes", 1), ["relu"], "0 inputs, expected"),
        (("nodes", 1, -1, "name"), "x", "the name 'x' stands twice"),
        (("nodes", 1, -1, "name"), ["x"], r"name = \['x'\], expected text"),
        (("nodes", 1, -2), {"groups": 10**30}, "attribute groups = 10+, expected int"),
        (("nodes", 1, -2), {"stride": [0, 0]}, "stride"),
        (("nodes", 1, -2), {"dilation": [2**39, 1]}, "dilation"),
        (("nodes", 1, -2), {"colour": 1}, "unknown attribute 'colour'"),
        (("inputs", "x"), [-1, -1, 8, 8], "one batch at most"),
        (("inputs", "x"), [-1, 0, 8, 8], "expected 1 to 8 integers"),
        (("inputs", "x"), [-1, 4, 8, 8], "do not fit"),
        (("inputs", "x"), [-1, 3, 8, 8, "float16"], "expected float32 or int64"),
        (("nodes",), [], "expected a list"),
        (("extra",), 1, "unknown key 'extra'"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(graphs, path, value, message):
    graph = graphs["residual"]
    content = changed(to_json(graph), *path, to=value)
    with pytest.raises(TritbenchError, match=message):
        from_json(content, graph.parameters)


def test_inputs_are_checked(graphs):
    with pytest.raises(TritbenchError, match=r"input x: torch.float32 \[2, 3, 8, 9\], expected"):
        run(graphs["residual"], torch.zeros(2, 3, 8, 9))
    with pytest.raises(TritbenchError, match=r"input x: torch.uint8"):
        run(graphs["residual"], torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_every_row_is_tested(graphs):
    used = {node.op for name in NETWORKS for node in graphs[name].nodes}
    assert set(OPS) - used == set()


def test_rows_name_arguments_that_aten_has():
    for name, op in OPS.items():
        packet = getattr(torch.ops.aten, name)
        known = {a.name for o in packet.overloads() for a in getattr(packet, o)._schema.arguments}
        named = {i.rstrip("?*") for i in op.inputs} | set(op.attributes) | set(op.fixed)
        assert named <= known, name


class Preactivated(nn.Module):
    """BatchNorm before the weights, after an addition, after shared weights, and on rows."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.conv, self.last = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))
        self.row, self.flat = nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False)

    def forward(self, x):
        x = self.second(self.conv(self.first(x).relu()))
        x = x + self.norms[0](self.last(x)) + self.norms[1](self.last(x))
        return self.flat(self.row(x.mean((2, 3))))


def test_batch_norm_goes_into_the_weights_before_it_and_nowhere_else():
    module = Preactivated()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(3, 3, 8, 8)
    graph = capture(module, x)
    folded = fold_batch_norm(graph)
    assert set(folded.gains) == {"conv.weight", "row.weight"}
    assert not any(node.op == "batch_norm" for node in folded.graph.nodes)
    assert [n.op for n in folded.graph.nodes].count("mul") == 3
    torch.testing.assert_close(run(folded.scaled(), x), run(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :2], r"something else: \[3, 2\], expected \[3, 5\]"),
        (lambda x: x * 1.1, "something else, off by 0.1 of the greatest output"),
    ],
)
def test_a_graph_that_computes_something_else_is_refused(monkeypatch, change, message):
    monkeypatch.setattr("tritbench.graph.torch_export.run", lambda *a: change(run(*a)))
    with pytest.raises(TritbenchError, match=message):
        capture(*NETWORKS["residual"])


def test_images_of_a_batch_are_kept_apart():
    nodes = [["permute", "x", {"dims": [1, 0]}], ["reshape", 0, {"shape": [-1, 4]}]]
    with pytest.raises(TritbenchError, match="1 \\(reshape\\): mixes the images"):
        from_json({"inputs": {"x": [-1, 4]}, "nodes": nodes}, {})
    from_json({"inputs": {"x": [-1, 4]}, "nodes": [nodes[0], ["reshape", 0, {"shape": [-4]}]]}, {})


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_changes_no_result(graphs, name):
    example = NETWORKS[name][1]
    folded = fold_batch_norm(graphs[name]).scaled()
    expected = run(graphs[name], example)
    torch.testing.assert_close(run(folded, example), expected, rtol=1e-5, atol=1e-5)
    from_json(json.loads(json.dumps(to_json(folded))), folded.parameters)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_is_the_same_network_in_onnx(graphs, name):
    graph, example = graphs[name], NETWORKS[name][1]
    model = onnx_model(onnx, graph)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for inputs in (example[:1], torch.cat([example] * 2)):
        (found,) = session.run(["logits"], {"images": inputs.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), run(graph, inputs), rtol=1e-4, atol=1e-4
        )
