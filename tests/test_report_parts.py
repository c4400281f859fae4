"""What the report works out for itself: fronts, flipped images, errors of layers, pictures."""

import base64
import dataclasses
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from networks import CLASSES, network, quantized, spec
from PIL import Image
from report_files import write_sweep

from tritbench.errors import TritbenchError
from tritbench.models import Checkpoint, save_checkpoint
from tritbench.packing import save_trit
from tritbench.report import charts, summary
from tritbench.report.answer import span
from tritbench.report.blocks import TRIT_COLORS, image_png, trits_png
from tritbench.report.evidence import examine, read_flips
from tritbench.report.network_sections import sweeps_section
from tritbench.report.result_sections import float16_bytes, int8_bytes
from tritbench.report.summary import fastest_fp32
from tritbench.report.sweeps import read_sweep_csv


def test_the_advice_is_ptq_unless_its_loss_is_significant_and_another_is_not():
    def runs(ptq, p_ptq, qat, p_qat):
        made = [("fp32", 0.9, None), ("ptq", ptq, p_ptq), ("qat", qat, p_qat)]
        found = [point("", accuracy, None, mode) for mode, accuracy, _ in made]
        for run, (_, _, p) in zip(found, made, strict=True):
            run.mcnemar_p = p
        return found

    assert summary.advice(runs(0.898, 0.3, 0.901, 0.2)) == (
        "Use PTQ for m (-0.20 points, not a significant loss)."
    )
    assert summary.advice(runs(0.89, 0.001, 0.899, 0.2)) == (
        "Use QAT for m (-0.10 points, not a significant loss; PTQ's -1.00 is)."
    )
    assert summary.advice(runs(0.89, 0.001, 0.88, 0.001)) == (
        "Use PTQ for m (-1.00 points, a significant loss)."
    )
    assert summary.advice(runs(0.91, 0.001, 0.88, 0.001)).startswith("Use PTQ for m (+1.00 points")
    assert summary.advice([point("", 0.9, None, "fp32")]) == ""


def point(method, accuracy, latency, mode="peer", model="m", batch_size=1):
    return SimpleNamespace(
        model=model,
        batch_size=batch_size,
        mode=mode,
        method=method,
        test_accuracy=accuracy,
        test_accuracy_low=None,
        test_accuracy_high=None,
        latency_s=latency,
    )


def test_the_front_holds_what_nothing_beats():
    points = [
        point("fast", 0.8, 1e-6),
        point("good", 0.9, 1e-3),
        point("as good, slower", 0.9, 2e-3),
        point("slow and bad", 0.7, 1e-2),
        point("fast too", 0.8, 1e-6),
        point("not timed", 0.99, None),
    ]
    rows = charts.trade_off_rows("latency_s", [], points)
    assert [row["label"] for row in rows if row["front"]] == ["m, fast", "m, good", "m, fast too"]
    assert len(rows) == 5


def test_a_peer_that_lies_where_fp32_does_is_not_drawn_again():
    fp32 = point("", 0.9, 1e-3, "fp32")
    peers = [point("torch fp32", 0.9, 1e-3), point("torch compile", 0.9, 2e-3)]
    rows = charts.trade_off_rows("latency_s", [fp32], peers)
    assert [row["label"] for row in rows] == ["m, FP32", "m, torch compile"]


def test_the_fastest_fp32_is_what_runs_the_same_batch_in_float32_soonest():
    ternary, fp32 = point("", 0.9, 1e-4, "qat"), point("", 0.9, 4e-3, "fp32")
    peers = [point("openvino fp32", 0.9, 3e-4), point("openvino int8", 0.9, 2e-4)]
    runs = [fp32, ternary]
    assert fastest_fp32(ternary, runs, peers) == ("openvino fp32", pytest.approx(3))
    assert fastest_fp32(ternary, runs, []) == ("torch", pytest.approx(40))
    elsewhere = [
        point("openvino fp32", 0.9, 3e-4, batch_size=128),
        point("openvino fp32", 0.9, 3e-4, model="other"),
    ]
    assert fastest_fp32(ternary, runs, elsewhere)[0] == "torch"
    assert fastest_fp32(point("", 0.9, None, "qat"), runs, peers) is None


def test_sizes_are_set_beside_what_one_would_ship():
    fp32 = SimpleNamespace(bytes=4 * (100 + 10), bits_per_weight=8 * 4 * (100 + 10) / 100)
    assert float16_bytes(fp32) == 2 * (100 + 10)
    assert int8_bytes(fp32) == pytest.approx(100 + 4 * 10 + 4 * 10)
    assert int8_bytes(SimpleNamespace(bytes=440, bits_per_weight=None)) is None


def test_flips_are_counted_and_the_worst_come_first(tmp_path: Path):
    path = tmp_path / "predictions.npz"
    labels = np.array([0, 0, 0, 1, 1])
    before = np.array([[2, 0], [4, 0], [1, 0], [1, 0], [0, 3]], np.float32)
    after = np.array([[0, 1], [0, 5], [1, 0], [0, 1], [0, 3]], np.float32)
    np.savez(path, labels=labels, **{"m.fp32": before, "m.ptq": after})
    (flips,) = read_flips(path, [("m", "ptq")])
    assert (flips.lost, flips.won) == (2, 1)
    assert [flip.index for flip in flips.worst] == [1, 0]
    worst = flips.worst[0]
    assert (worst.actual, worst.before, worst.after) == (0, 0, 1)
    assert worst.before_probability == pytest.approx(1 / (1 + np.exp(-4)))
    assert worst.after_probability == pytest.approx(1 / (1 + np.exp(-5)))


def test_predictions_of_another_run_are_one_clear_line(tmp_path: Path):
    path = tmp_path / "predictions.npz"
    with pytest.raises(TritbenchError, match=re.escape(f"{path}: no such file")):
        read_flips(path, [("m", "ptq")])
    np.savez(path, labels=np.zeros(1))
    with pytest.raises(TritbenchError, match=re.escape(f"{path}: not the predictions of this run")):
        read_flips(path, [("m", "ptq")])


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
def test_a_layer_without_error_has_none_and_twice_its_scale_has_one(tmp_path: Path, name: str):
    folder = tmp_path / name
    ternary = quantized(name)
    # The float network already has ternary weights, so nothing is lost.
    checkpoint = Checkpoint(ternary.graph, {}, spec(), CLASSES, {})
    save_checkpoint(folder / "fp32.safetensors", checkpoint)
    save_trit(folder / "ptq.trit", ternary, spec(), CLASSES, {})
    doubled = {
        key: dataclasses.replace(weight, scale=2 * weight.scale)
        for key, weight in ternary.weights.items()
    }
    other = dataclasses.replace(ternary, weights=doubled)
    save_trit(folder / "qat.trit", other, spec(), CLASSES, {})
    layers = examine(tmp_path, [name], ["ptq", "qat"]).layers
    errors = {mode: [one.error for one in layers if one.mode == mode] for mode in ("ptq", "qat")}
    assert errors["ptq"] == pytest.approx([0] * len(ternary.weights), abs=1e-6)
    assert errors["qat"] == pytest.approx([1] * len(ternary.weights), rel=1e-6)
    trits = [weight.trits for weight in ternary.weights.values()]
    assert [one.zeros for one in layers[: len(trits)]] == [
        float((each == 0).double().mean()) for each in trits
    ]


def test_first_weights_are_shown_where_they_see_the_image(tmp_path: Path):
    for name in ("linear", "cnn", "odd"):
        folder = tmp_path / name
        checkpoint = Checkpoint.of(network(name), spec(), CLASSES, {})
        save_checkpoint(folder / "fp32.safetensors", checkpoint)
        save_trit(folder / "ptq.trit", quantized(name), spec(), CLASSES, {})
    (layer,) = examine(tmp_path, ["linear", "cnn", "odd"], ["fp32", "ptq"]).first_layers
    assert (layer.model, layer.names) == ("linear", tuple(CLASSES))
    expected = quantized("linear").weights["1.weight"].trits.reshape(3, 8, 8)
    np.testing.assert_array_equal(layer.trits, expected)


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_pictures_hold_their_pixels():
    random = np.random.default_rng(0)
    gray, rgb = (random.integers(0, 256, (channels, 5, 7), np.uint8) for channels in (1, 3))
    np.testing.assert_array_equal(np.asarray(decoded(image_png(gray))), gray[0])
    np.testing.assert_array_equal(np.asarray(decoded(image_png(rgb))), rgb.transpose(1, 2, 0))
    trits = random.integers(-1, 2, (5, 7)).astype(np.int8)
    colors = np.asarray(decoded(trits_png(trits)).convert("RGBA"))
    np.testing.assert_array_equal(colors[..., 3] == 0, trits == 0)
    for trit in (-1, 1):
        assert (colors[trits == trit][:, :3] == TRIT_COLORS[trit + 1]).all()


def test_spans_name_both_ends_once():
    assert span([19.26, 19.81]) == "19.3–19.8"
    assert span([-0.5, -0.1], "{:+.2f}") == "−0.50 to −0.10"
    assert span([4.0]) == "4.0"


def test_a_sweep_is_read_back_and_shown_with_its_front(tmp_path):
    written = write_sweep(tmp_path / "mine.csv")
    sweep = read_sweep_csv(tmp_path / "mine.csv")
    assert sweep.rows == written
    assert sweep.varied == ["quantize.threshold"]
    chart = sweeps_section({"mine": sweep}).blocks[0]
    drawn = {row["label"]: row["front"] for row in chart.panels[0].rows}
    assert drawn == {
        "mlp, FP32": True,
        "mlp, PTQ optimal, quantize.threshold 0.5": False,
        "mlp, PTQ optimal, quantize.threshold 0.7": True,
    }
    assert len(chart.tables[0].rows) == 2
    assert sweeps_section({}) is None
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TritbenchError, match=r"other\.csv"):
        read_sweep_csv(tmp_path / "other.csv")
