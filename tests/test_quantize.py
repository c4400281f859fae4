from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.models import InputSpec
from tritbench.params import PtqParams, QatParams, QuantizeParams
from tritbench.quantize import quantize_ptq, quantize_to_trits, train_qat, train_ternary
from tritbench.quantize.qat import fake_quantize
from tritbench.quantize.ternary import ternarize
from tritbench.train import Recipe

GOLDEN = Path(__file__).parents[2] / "shared/golden/t81lib.npz"
SPEC = InputSpec((1, 4, 4), 0.5, 0.25)
PTQ = PtqParams(method="threshold", calibration={}, bias_correction=True, batchnorm=True)


def settings(threshold=0.5, reference="absmean", granularity="channel", backend="native"):
    return QuantizeParams(
        threshold=threshold, reference=reference, granularity=granularity, backend=backend
    )


def qat(**changes):
    values = {
        "method": "ste",
        "start": "fp32",
        "epochs": 2,
        "learning_rate": 0.01,
        "distill": 0.0,
        "threshold_warmup": 0,
        "stochastic_rounding": False,
        "frozen_epochs": 0,
        "frozen_first": True,
    }
    return QatParams(**(values | changes))


def toy_images(count=256):
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 128, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    pixels[labels == 1, :, :2] += 100
    return Images(pixels.to(torch.uint8), labels)


def toy_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, 2),
    )


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden/t81lib.npz")
def test_trits_equal_t81libs():
    golden = np.load(GOLDEN)
    compared = 0
    for j, threshold in enumerate(golden["thresholds"]):
        for key in [k for k in golden.files if k.startswith("w") and "_" not in k]:
            weights, expected = golden[key], golden[f"{key}_t{j}_trits"]
            np.testing.assert_array_equal(quantize_to_trits(weights, threshold), expected)
            tensor = quantize_to_trits(torch.from_numpy(weights), float(threshold))
            np.testing.assert_array_equal(tensor.numpy(), expected)
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_trits_refuse_a_threshold_outside_0_1(threshold):
    with pytest.raises(ValueError, match="threshold"):
        quantize_to_trits(torch.zeros(3), threshold)


def test_trits_refuse_0d_and_map_nan_to_0():
    with pytest.raises(ValueError, match="0-d"):
        quantize_to_trits(torch.tensor(1.0), 0.5)
    trits = quantize_to_trits(torch.tensor([float("nan"), float("inf"), -float("inf")]), 0.5)
    assert trits.tolist() == [0, 1, -1]
    assert trits.dtype == torch.int8


@given(
    st.integers(1, 5),
    st.integers(1, 23),
    st.sampled_from(["tensor", "channel", "group:4", "group:100"]),
    st.sampled_from(["raw", "absmax", "absmean"]),
    st.floats(0.05, 1.0),
)
def test_ternarize_is_threshold_times_reference_with_least_squares_scales(
    rows, columns, granularity, reference, threshold
):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))
    ternary = ternarize(weight, settings(threshold, reference, granularity), threshold)
    size = int(granularity.split(":")[1]) if ":" in granularity else columns
    groups = [weight] if granularity == "tensor" else list(weight)
    for row, values in enumerate(groups):
        pieces = [values] if granularity == "tensor" else values.split(size)
        for group, piece in enumerate(pieces):
            bound = {"raw": 1.0, "absmax": piece.abs().max(), "absmean": piece.abs().mean()}
            relative = piece / bound[reference]
            expected = (relative >= threshold).float() - (relative <= -threshold).float()
            start = group * size
            found = (
                ternary.trits
                if granularity == "tensor"
                else ternary.trits[row, start : start + size]
            )
            assert torch.equal(found.float(), expected)
            best = (piece * expected).sum() / expected.abs().sum().clamp(min=1)
            torch.testing.assert_close(ternary.scale[row, group], best)
            part = ternary.dequantize() if granularity == "tensor" else ternary.dequantize()[row]
            if granularity != "tensor":
                part = part[start : start + size]
            torch.testing.assert_close(part, best * expected)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e38, -3.0])
def test_ternarize_survives_constant_weights(value):
    ternary = ternarize(torch.full((2, 7), value), settings(), 0.5)
    torch.testing.assert_close(ternary.dequantize(), torch.full((2, 7), value), rtol=1e-4, atol=0)


def test_asking_for_t81lib_without_it_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "t81lib", None)
    with pytest.raises(TritbenchError, match=r"quantize\.backend = 't81lib'"):
        ternarize(torch.ones(2, 2), settings(backend="t81lib"), 0.5)


def test_the_t81lib_backend_is_used_and_gives_the_same_trits(monkeypatch):
    class T81lib:
        calls = 0

        @classmethod
        def quantize_to_trits(cls, x, threshold):
            cls.calls += 1
            return quantize_to_trits(x, threshold)

    monkeypatch.setitem(__import__("sys").modules, "t81lib", T81lib)
    weight = torch.randn(5, 9)
    native = ternarize(weight, settings(), 0.5)
    other = ternarize(weight, settings(backend="t81lib"), 0.5)
    assert T81lib.calls == 1
    assert torch.equal(native.trits, other.trits)


def test_ptq_leaves_the_model_alone_and_holds_the_dequantized_weights():
    model = toy_network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    quantized = quantize_ptq(model, toy_images().pixels, SPEC, settings(), PTQ)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert list(quantized.weights) == ["0", "5"]
    for name, ternary in quantized.weights.items():
        assert torch.equal(quantized.model[int(name)].weight, ternary.dequantize())


def test_ptq_reestimates_batchnorm_on_the_calibration_images():
    images = toy_images().pixels
    quantized = quantize_ptq(toy_network(), images, SPEC, settings(), PTQ)
    convolved = quantized.model[0](SPEC.normalize(images))
    torch.testing.assert_close(
        quantized.model[1].running_mean, convolved.mean((0, 2, 3)), rtol=1e-4, atol=1e-5
    )
    kept = quantize_ptq(
        toy_network(), images, SPEC, settings(), PTQ.model_copy(update={"batchnorm": False})
    )
    assert torch.equal(kept.model[1].running_mean, torch.zeros(4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    model = toy_network()
    with torch.no_grad():
        model[5].weight[0, 0] = value
    images = toy_images()
    with pytest.raises(TritbenchError, match=r"5\.weight: 1 of 128 values"):
        quantize_ptq(model, images.pixels, SPEC, settings(), PTQ)
    with pytest.raises(TritbenchError, match=r"5\.weight: 1 of 128 values"):
        train_qat(model, images, images, SPEC, settings(), qat(), Recipe(1, 0.01))


def test_straight_through_is_ternary_forward_and_identity_backward():
    layer = nn.Linear(6, 3)
    original = layer.weight.detach().clone()
    fake_quantize(layer, settings(), qat())
    expected = ternarize(original, settings(), 0.5).dequantize()
    torch.testing.assert_close(layer.weight, expected)
    gradient = torch.randn(3, 6)
    layer.weight.backward(gradient)
    assert torch.equal(layer.parametrizations.weight.original.grad, gradient)


def test_qat_returns_exactly_ternary_weights_and_leaves_the_model_alone():
    model = toy_network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = toy_images()
    quantized, curve = train_qat(
        model, images, images, SPEC, settings(), qat(), Recipe(8, 0.01, batch_size=32)
    )
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    for name, ternary in quantized.weights.items():
        assert torch.equal(quantized.model[int(name)].weight, ternary.dequantize())
        assert set(ternary.trits.unique().tolist()) <= {-1, 0, 1}
    assert len(curve) == 8
    assert curve[-1].val_accuracy > 0.95


def test_threshold_warm_up_raises_the_threshold_and_ends_at_it():
    model, images = toy_network(), toy_images()
    recipe = Recipe(2, 1e-9, batch_size=32)
    few, _ = train_qat(model, images, images, SPEC, settings(0.9), qat(), recipe)
    warm, _ = train_qat(
        model,
        images,
        images,
        SPEC,
        settings(0.9),
        qat(threshold_warmup=10_000),
        recipe,
    )
    # At a learning rate of almost nothing the trits are the start's, at the full threshold.
    assert torch.equal(few.weights["5"].trits, warm.weights["5"].trits)


def test_stochastic_rounding_is_fair_at_the_threshold_and_absent_in_evaluation():
    weight = torch.full((1, 4000), 1.0)
    noise = torch.rand(1, 4000, generator=torch.Generator().manual_seed(0))
    ternary = ternarize(weight, settings(1.0), 1.0, noise)
    assert 0.45 < ternary.trits.float().mean() < 0.55
    layer = nn.Linear(50, 20)
    fake_quantize(layer, settings(), qat(stochastic_rounding=True))
    assert not torch.equal(layer.weight, layer.weight)
    layer.eval()
    assert torch.equal(layer.weight, layer.weight)


def test_distillation_follows_the_teacher():
    images = toy_images()
    wrong = Images(images.pixels, 1 - images.labels)
    teacher, _ = train_qat(
        toy_network(), images, images, SPEC, settings(), qat(), Recipe(8, 0.01, 32)
    )
    student, _ = train_qat(
        toy_network(),
        wrong,
        wrong,
        SPEC,
        settings(),
        qat(),
        Recipe(8, 0.01, 32, distill=1.0),
        teacher=teacher.model,
    )
    predicted = student.model(SPEC.normalize(images.pixels)).argmax(1)
    assert (predicted == images.labels).float().mean() > 0.9


def test_train_ternary_takes_a_model_and_two_tensors():
    images = toy_images()
    ternary = train_ternary(
        toy_network(), images.pixels, images.labels, epochs=6, learning_rate=0.01, batch_size=32
    )
    predicted = ternary.model(
        InputSpec(
            (1, 4, 4),
            float((images.pixels / 255).mean()),
            float((images.pixels / 255).std()),
        ).normalize(images.pixels)
    ).argmax(1)
    assert (predicted == images.labels).float().mean() > 0.9
    with pytest.raises(TritbenchError, match="Tanh"):
        train_ternary(nn.Sequential(nn.Tanh()), images.pixels, images.labels)
