"""What a run measures beside the modes' own speed: peers, memory and energy."""

import numpy as np
import pytest
import torch
from networks import images, network, quantized, spec
from tiny import write_tiny_dataset
from torch import nn

from tritbench import data
from tritbench.measure.benchmark import measure_model
from tritbench.measure.energy import Meter, find_meter, joules_per_image
from tritbench.measure.memory import STATUS, peak_memory
from tritbench.measure.peers import PEERS, AbsentError, Normalize, build_peer, to_onnx
from tritbench.measure.rows import COLUMNS, rows_csv
from tritbench.models import Checkpoint, save_checkpoint
from tritbench.packing import save_trit
from tritbench.params import EvaluateParams

CLASSES = ["0", "1", "2"]


def peers_here(model="linear"):
    """All; the compiler takes too long for more than one network."""
    pytest.importorskip("onnxruntime", reason="pip install -e '.[peers]'")
    return [name for name in PEERS if name != "torch compile" or model == "linear"]


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn", "odd"])
def test_every_peer_runs_the_same_network_on_pixels(name):
    model, x = network(name), images(5)
    whole = nn.Sequential(Normalize(spec()), *model)
    with torch.no_grad():
        expected = model(spec().normalize(x))
    sizes = {}
    for peer in peers_here(name):
        built = build_peer(peer, whole, x[:1])  # and any other batch size
        close = 1e-4 if "fp32" in peer else 0.05 * float(expected.abs().max())
        np.testing.assert_allclose(built.call(x).numpy(), expected, atol=close, rtol=1e-4)
        sizes[peer] = built.bytes
        assert built.file_bytes > 0
    floats = 4 * sum(p.numel() for p in model.parameters())
    assert sizes["onnxruntime fp32"] >= floats
    assert sizes["onnxruntime int8"] < sizes["onnxruntime fp32"]


def test_what_a_peer_lacks_is_its_reason():
    pytest.importorskip("onnx", reason="pip install -e '.[peers]'")
    with pytest.raises(AbsentError, match="Sigmoid has no ONNX form"):
        to_onnx(nn.Sequential(nn.Sigmoid()), torch.zeros(1, 2))
    with pytest.raises(AbsentError, match="no linear layer"):
        build_peer("torch int8 dynamic", nn.Sequential(nn.ReLU()), torch.zeros(1, 2))


def test_peers_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AbsentError, match=r"not installed; `pip install \.\[peers\]`"):
        build_peer("onnxruntime int8", network("linear"), torch.zeros(1, 1, 8, 8))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(AbsentError, match=r"torch\.compile needs a C\+\+ compiler"):
        build_peer("torch compile", network("linear"), torch.zeros(1, 1, 8, 8))
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("torch.compile", lambda network, dynamic: refuse)
    with pytest.raises(AbsentError, match=r"^torch\.compile failed: no working compiler$"):
        build_peer("torch compile", network("linear"), torch.zeros(1, 1, 8, 8))


def refuse(_):
    raise RuntimeError("no working compiler\nand how to find out more")


@pytest.fixture
def files(tmp_path):
    """A tiny mlp in FP32 and in trits."""
    paths = {"fp32": tmp_path / "fp32.safetensors", "ptq": tmp_path / "ptq.trit"}
    save_checkpoint(paths["fp32"], Checkpoint(network("mlp"), spec(), CLASSES, {}))
    save_trit(paths["ptq"], quantized("mlp"), spec(), CLASSES, {})
    return paths


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
        "mlp", files, dataset, settings, {"ptq": "gptq"}, about, None, lambda: memory
    )
    assert [(row["mode"], row["batch_size"]) for row in found.rows] == [
        *(("fp32", 1), ("ptq", 1), ("fp32", 4), ("ptq", 4))
    ]
    assert [(row["mode"], row["method"]) for row in found.peers] == [
        *(("peer", "torch fp32"), ("peer", "torch fp32")),
        *(("peer", "onnxruntime fp32"), ("peer", "onnxruntime fp32")),
    ]
    assert set(found.absent) == set(PEERS) - {"onnxruntime fp32"}
    for row in (*found.rows, *found.peers):
        assert set(row) == set(COLUMNS)
    assert len(rows_csv(found.peers).splitlines()) == 5
    fp32, ptq, *_ = found.rows
    eager, _, ort, _ = found.peers
    assert fp32["mcnemar_p"] is None
    assert 0 <= ptq["mcnemar_p"] <= 1
    assert ptq["flips_lost"] - ptq["flips_won"] == round(
        100 * (fp32["test_accuracy"] - ptq["test_accuracy"])
    )
    assert eager["latency_s"] == fp32["latency_s"]
    assert (ort["agreement"], ort["mcnemar_p"]) == (1.0, 1.0)
    assert ort["speedup"] == fp32["latency_s"] / ort["latency_s"]
    assert ptq["peak_memory_bytes"] == 4096
    assert ptq["reference_latency_s"] > 0
    classes = [(row["mode"], row["class"]) for row in found.classes]
    assert classes == [(mode, label) for mode in ("fp32", "ptq") for label in CLASSES]


@pytest.mark.skipif(not STATUS.exists(), reason="the system has no /proc")
def test_peak_memory_is_that_of_the_model(tmp_path):
    small, large = tmp_path / "small.safetensors", tmp_path / "large.safetensors"
    save_checkpoint(small, Checkpoint(network("mlp"), spec(), CLASSES, {}))
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 40_000), nn.Linear(40_000, 3)).eval()
    save_checkpoint(large, Checkpoint(wide, spec(), CLASSES, {}))
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
