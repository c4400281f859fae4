"""What a run measures beside the modes' own speed: peers, memory and energy."""

import copy
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from networks import images, network, quantized, spec
from tiny import write_tiny_dataset
from torch import nn

from tritbench import data, runtime
from tritbench.errors import TritbenchError
from tritbench.graph import capture
from tritbench.measure.benchmark import measure_model
from tritbench.measure.energy import Meter, find_meter, joules_per_image
from tritbench.measure.memory import STATUS, peak_memory
from tritbench.measure.peers import (
    EXACT,
    PEERS,
    FloatNetwork,
    Peer,
    UnavailableError,
    build_peer,
    deployed,
    ort,
)
from tritbench.measure.rows import COLUMNS, rows_csv
from tritbench.models import Checkpoint, save_checkpoint
from tritbench.packing import save_trit
from tritbench.params import EvaluateParams

CLASSES = ["0", "1", "2"]


def peers_here():
    """All but the compiler, which takes too long for more than one network."""
    pytest.importorskip("onnxruntime", reason="pip install -e '.[peers]'")
    without = {"torch compile"}
    if not find_spec("openvino"):
        without |= {"openvino fp32", "openvino int8"}
    return [name for name in PEERS if name not in without]


def on_pixels(model):
    return FloatNetwork(model, capture(model, torch.zeros(2, *spec().shape)), spec())


def rounding_error(model, x):
    """Standard deviation of each logit of images x in int8, [n, classes]: of 7-bit weights and
    7-bit activations, the least that a peer has, each off by a uniform part of its step.

    Sums in int16 that saturate, as vpmaddubsw's may, are off by far more.
    """
    values, variance = spec().normalize(x), torch.zeros(())
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear | nn.Conv2d):
                square = copy.deepcopy(module)
                square.bias = None
                square.weight.square_()
                ones = copy.deepcopy(square)
                ones.weight.fill_(1)
                weight_step = 2 * module.weight.abs().max() / 127
                step = (values.amax().clamp(min=0) - values.amin().clamp(max=0)) / 127
                of_weights = ones(values.square()) * weight_step**2 / 12
                variance = square((variance + step**2 / 12).expand_as(values)) + of_weights
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                gain = (module.weight.square() / (module.running_var + module.eps)).view(
                    -1, *[1] * (values.dim() - 2)
                )
                variance = variance * gain
            elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.Flatten):
                variance = module(variance.expand_as(values))
            values = module(values)
    return variance.sqrt()


@pytest.mark.isa
@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "odd"])
def test_every_peer_runs_the_same_network_on_pixels(name):
    model, x = network(name), images(5)
    whole = on_pixels(model)
    with torch.no_grad():
        expected = model(spec().normalize(x))
    sizes = {}
    for peer in peers_here():
        if (name, peer) == ("odd", "openvino int8"):
            continue  # with AVX-512 it computes something else
        # Calibration goes by the mean of the images' ranges: of one image it clips nothing.
        seen = x[:1] if peer == "openvino int8" else x
        built = build_peer(peer, whole, seen)
        close = 6 * rounding_error(model, x) if "int8" in peer else torch.zeros_like(expected)
        allowed = close + 1e-4 * (1 + expected.abs())
        for batch in (seen, seen.repeat(2, 1, 1, 1)):
            error = (built.call(batch)[-len(seen) :] - expected[: len(seen)]).abs()
            assert (error <= allowed[: len(seen)]).all(), peer
        sizes[peer] = built.bytes
        assert built.file_bytes > 0
    floats = 4 * sum(w.numel() for n, w in model.named_parameters() if w.dim() > 1)
    for fp32 in sizes.keys() & {"onnxruntime fp32", "openvino fp32"}:
        assert sizes[fp32] >= floats
        assert sizes.get(fp32.replace("fp32", "int8"), 0) < sizes[fp32]


def test_the_compiled_network_is_the_same():
    model, x = network("linear"), images(5)
    whole = on_pixels(model)
    built = build_peer("torch compile", whole, x[:1])
    torch.testing.assert_close(built.call(x), whole.module(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.isa
@pytest.mark.parametrize(
    "peer", ["torch int8 dynamic", "onnxruntime int8", "openvino int8", "tritbench int8"]
)
def test_int8_sums_do_not_saturate(peer):
    """Two products of the largest activation and weight are more than int16 holds."""
    if peer not in peers_here():
        pytest.skip(f"{peer}: pip install -e '.[peers]'")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    nn.init.ones_(model[1].weight)
    x = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    whole = on_pixels(model)
    expected = model(spec().normalize(x)).detach()
    torch.testing.assert_close(build_peer(peer, whole, x).call(x), expected, rtol=0.02, atol=0)


def test_weights_of_onnxruntime_leave_int16_room():
    """The same of the file, on processors whose sums do not pass through int16 as well."""
    onnx = pytest.importorskip("onnx", reason="pip install -e '.[peers]'")
    peers_here()
    model = ort.quantized(on_pixels(network("mlp")).onnx())
    to_array = onnx.numpy_helper.to_array
    weights = [to_array(t) for t in model.graph.initializer if t.name.endswith("_quantized")]
    assert len(weights) == 3
    assert all(2 * 255 * np.abs(w.astype(int)).max() < 2**15 for w in weights)


@pytest.mark.parametrize("wrong", [1e8, float("nan")])
def test_a_peer_that_computes_something_else_is_none(monkeypatch, wrong):
    network, x = on_pixels(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), images(2)
    peer = Peer(lambda x: network.module(x) + wrong, 1, 1)
    monkeypatch.setitem(PEERS, "openvino int8", lambda *_: peer)
    with pytest.raises(UnavailableError, match=r"^it computes something else: outputs are off by "):
        build_peer("openvino int8", network, x)


def test_one_image_is_compared_once(monkeypatch):
    network, batches = on_pixels(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))), []

    def call(x):
        batches.append(len(x))
        return network.module(x)

    monkeypatch.setitem(PEERS, "openvino int8", lambda *_: Peer(call, 1, 1))
    for count in (1, 5):
        build_peer("openvino int8", network, images(count))
    assert batches == [1, 1, 5]


def test_what_a_peer_lacks_is_its_reason():
    with pytest.raises(UnavailableError, match="no linear layer"):
        build_peer("torch int8 dynamic", on_pixels(nn.Sequential(nn.Flatten())), images(1))


def test_peers_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UnavailableError,
        match=r"not installed: onnx, onnxruntime; `pip install",
    ):
        build_peer("onnxruntime int8", on_pixels(network("linear")), images(1))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UnavailableError, match=r"torch\.compile needs a C\+\+ compiler"):
        build_peer("torch compile", on_pixels(network("linear")), images(1))
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("torch.compile", lambda network, dynamic: refuse)
    with pytest.raises(UnavailableError, match=r"^torch\.compile failed: no working compiler$"):
        build_peer("torch compile", on_pixels(network("linear")), images(1))


def refuse(_):
    raise RuntimeError("no working compiler\nand how to find out more")


@pytest.fixture
def files(tmp_path):
    """A tiny mlp in FP32 and in trits."""
    paths = {"fp32": tmp_path / "fp32.safetensors", "ptq": tmp_path / "ptq.trit"}
    about = {"precision": "bfloat16"}
    save_checkpoint(paths["fp32"], Checkpoint.of(network("mlp"), spec(), CLASSES, about))
    save_trit(paths["ptq"], quantized("mlp"), spec(), CLASSES, {})
    return paths


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
def test_the_baseline_is_the_network_with_all_folded_that_can_be(name):
    """It gives the same logits; its operations are the layers', and what a padding needs."""
    model, pixels = network(name).eval(), images(8)
    folded = on_pixels(model)
    with torch.inference_mode():
        expected = model(spec().normalize(pixels))
    torch.testing.assert_close(deployed(folded, pixels)(pixels), expected, rtol=1e-4, atol=1e-4)
    kinds = [node.op for node in folded.graph.nodes]
    assert "batch_norm" not in kinds
    assert kinds.count("mul") == 0
    assert kinds.count("add") == (name == "cnn")


def test_a_baseline_that_computes_something_else_is_refused():
    other = on_pixels(network("linear"))
    other.module = torch.nn.Sequential(other.module, torch.nn.Tanh())
    with pytest.raises(TritbenchError, match="FP32 with its normalizations folded is off by"):
        deployed(other, images(8))


@pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built")
def test_the_engine_is_measured_with_other_bits_of_weights_and_activations(files, tmp_path):
    dataset = data.load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    settings = EvaluateParams(
        modes=["ptq"],
        latency=True,
        batch_sizes=[1],
        threads=1,
        min_run_time=1e-9,
        min_runs=3,
        peers=["tritbench int8", "tritbench exact"],
    )
    about = dict.fromkeys(("dataset", "seed", "run_id", "git_rev", "machine", "timestamp"), "x")
    found = measure_model("mlp", network("mlp"), files, dataset, settings, {}, about)
    _, int8, exact = found.peers
    assert [row["method"] for row in (int8, exact)] == ["tritbench int8", "tritbench exact, ptq"]
    fp32, ptq = found.rows
    assert ptq["bytes"] == exact["bytes"] < int8["bytes"] < fp32["bytes"] / 3
    assert exact["test_accuracy"] == ptq["reference_accuracy"]
    assert int8["agreement"] > 0.95
    assert None not in (int8["latency_s"], exact["latency_s"])


def test_a_run_has_rows_of_peers_with_all_columns(files, tmp_path):
    peers_here()
    dataset = data.load(write_tiny_dataset(tmp_path / "toys"), 60, 0)
    settings = EvaluateParams(
        modes=["ptq"],
        latency=True,
        batch_sizes=[1, 4],
        threads=1,
        min_run_time=1e-9,
        min_runs=3,
        peers=["onnxruntime fp32"],
    )
    about = dict.fromkeys(("dataset", "seed", "run_id", "git_rev", "machine", "timestamp"), "x")
    memory = {(files["ptq"], 1): 4096}
    found = measure_model(
        "mlp",
        network("mlp"),
        files,
        dataset,
        settings,
        {"ptq": {"method": "gptq"}},
        about,
        None,
        lambda: memory,
    )
    assert [(row["mode"], row["batch_size"]) for row in found.rows] == [
        *(("fp32", 1), ("ptq", 1), ("fp32", 4), ("ptq", 4))
    ]
    assert [(row["mode"], row["method"]) for row in found.peers] == [
        *(("peer", "torch eager"), ("peer", "onnxruntime fp32")),
        *(("peer", "torch eager"), ("peer", "onnxruntime fp32")),
    ]
    assert set(found.unavailable) == {*PEERS, EXACT} - {"onnxruntime fp32"}
    for row in (*found.rows, *found.peers):
        assert set(row) == set(COLUMNS)
    assert len(rows_csv(found.peers).splitlines()) == 5
    fp32, ptq, *_ = found.rows
    eager, ort, *_ = found.peers
    assert fp32["mcnemar_p"] is None
    assert 0 <= ptq["mcnemar_p"] <= 1
    assert ptq["flips_lost"] - ptq["flips_won"] == round(
        100 * (fp32["test_accuracy"] - ptq["test_accuracy"])
    )
    assert eager["speedup"] == fp32["latency_s"] / eager["latency_s"]
    assert eager["test_accuracy"] == fp32["test_accuracy"]
    assert (ort["agreement"], ort["mcnemar_p"]) == (1.0, 1.0)
    assert ort["speedup"] == fp32["latency_s"] / ort["latency_s"]
    assert ptq["peak_memory_bytes"] == 4096
    assert (fp32["precision"], ptq["precision"]) == ("bfloat16", "float32")
    assert ptq["reference_latency_s"] > 0
    classes = [(row["mode"], row["class"]) for row in found.classes]
    assert classes == [(mode, label) for mode in ("fp32", "ptq") for label in CLASSES]


@pytest.mark.skipif(not STATUS.exists(), reason="the system has no /proc")
def test_peak_memory_is_that_of_the_model(tmp_path):
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    save_checkpoint(small, Checkpoint.of(network("mlp"), spec(), CLASSES, {}))
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 40_000), nn.Linear(40_000, 3)).eval()
    save_checkpoint(large, Checkpoint.of(wide, spec(), CLASSES, {}))
    missing = tmp_path / "missing.trit"
    found = peak_memory([small, large, missing], [1], 1)()
    weights = 4 * (64 * 40_000 + 3 * 40_000)
    assert found[large, 1] - found[small, 1] > weights
    assert found[large, 1] < 6 * weights
    assert found[missing, 1] is None


def zone(folder, name, microjoules):
    path = folder / name
    path.mkdir()
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("1000000\n")
    return path


def test_energy_is_that_of_the_packages_also_when_a_counter_starts_anew(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", 100)
    second = zone(tmp_path, "intel-rapl:1", 999_000)
    zone(tmp_path, "intel-rapl:0:0", 5)  # a part of the first
    meter = find_meter(tmp_path)
    assert isinstance(meter, Meter)

    def work():
        (first / "energy_uj").write_text("2100")
        (second / "energy_uj").write_text("1000")

    assert meter.joules(work) == pytest.approx((2000 + 2000) / 1e6)


def test_energy_an_image_counts_the_images(tmp_path):
    path = zone(tmp_path, "intel-rapl:0", 0) / "energy_uj"
    calls = []

    def model(batch):
        calls.append(len(batch))
        path.write_text(str(50 * len(calls)))

    found = joules_per_image(model, torch.zeros(5, 1), find_meter(tmp_path), seconds=1e-3)
    assert found == pytest.approx(50e-6 / 5)


def test_without_a_readable_meter_there_is_a_reason(tmp_path):
    assert "no RAPL zones" in find_meter(tmp_path)
    (zone(tmp_path, "intel-rapl:0", 0) / "energy_uj").write_text("")
    assert "not readable" in find_meter(tmp_path)
