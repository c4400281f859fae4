from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import by_ptq
from torch import nn
from torch.nn import functional as F
from toys import toy_images, toy_network

from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.graph import run
from tritbench.models import InputSpec
from tritbench.params import PtqParams, QatParams, QuantizeParams
from tritbench.quantize import quantize_to_trits, train_qat
from tritbench.quantize.qat import Place, fake_quantize
from tritbench.quantize.ternary import ternarize
from tritbench.train import Recipe, fit

GOLDEN = Path(__file__).parents[2] / "shared/golden/t81lib.npz"
SPEC = InputSpec((1, 4, 4), (0.5,), (0.25,))
PTQ = PtqParams(method="threshold", calibration=256, bias_correction=True, batchnorm=True)


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
        parts = [values] if granularity == "tensor" else values.split(size)
        for group, part in enumerate(parts):
            bound = {"raw": 1.0, "absmax": part.abs().max(), "absmean": part.abs().mean()}
            relative = part / bound[reference]
            expected = (relative >= threshold).float() - (relative <= -threshold).float()
            start = group * size
            found = (
                ternary.trits
                if granularity == "tensor"
                else ternary.trits[row, start : start + size]
            )
            assert torch.equal(found.float(), expected)
            best = (part * expected).sum() / expected.abs().sum().clamp(min=1)
            torch.testing.assert_close(ternary.scale[row, group], best)
            part = ternary.dequantize() if granularity == "tensor" else ternary.dequantize()[row]
            if granularity != "tensor":
                part = part[start : start + size]
            torch.testing.assert_close(part, best * expected)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e38, -3.0])
def test_ternarize_survives_constant_weights(value):
    ternary = ternarize(torch.full((2, 7), value), settings(), 0.5)
    torch.testing.assert_close(ternary.dequantize(), torch.full((2, 7), value), rtol=1e-4, atol=0)


def test_a_backend_that_is_absent_or_unused_is_refused_before_training(monkeypatch):
    images, recipe, t81lib = toy_images(), Recipe(1, 0.01, 32), settings(backend="t81lib")

    def train(**changes):
        train_qat(toy_network(), images, images, SPEC, t81lib, qat(**changes), recipe)

    def ptq(method):
        given = PTQ.model_copy(update={"method": method})
        by_ptq(toy_network(), images.pixels, SPEC, t81lib, given)

    monkeypatch.setitem(__import__("sys").modules, "t81lib", None)
    for attempt in (lambda: ptq("threshold"), train):
        with pytest.raises(TritbenchError, match=r"quantize\.backend = 't81lib'.* installed"):
            attempt()
    for method in ("descent", "optimal", "gptq"):
        with pytest.raises(TritbenchError, match=rf"native, since ptq\.method = {method} does not"):
            ptq(method)
    with pytest.raises(TritbenchError, match=r"native, since qat\.method = lsq does not"):
        train(method="lsq")
    with pytest.raises(TritbenchError, match=r"native, since qat\.start = descent does not"):
        train(start="descent")


def test_the_t81lib_backend_is_used_and_gives_the_same_trits(monkeypatch):
    class T81lib:
        calls = 0

        @classmethod
        def quantize_to_trits(cls, x, threshold):
            cls.calls += 1
            return quantize_to_trits(x, threshold)

    monkeypatch.setitem(__import__("sys").modules, "t81lib", T81lib)
    images, t81lib = toy_images().pixels, settings(backend="t81lib")
    for method in ("threshold", "raw", "absmean"):
        calls, given = T81lib.calls, PTQ.model_copy(update={"method": method})
        chosen = [s.model_copy(update={"threshold": 0.1}) for s in (settings(), t81lib)]
        native, other = (by_ptq(toy_network(), images, SPEC, s, given) for s in chosen)
        assert T81lib.calls == calls + 2  # one a layer
        for name, ternary in native.weights.items():
            assert torch.equal(ternary.trits, other.weights[name].trits)


def test_ptq_leaves_the_model_alone_and_holds_the_dequantized_weights():
    model = toy_network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    quantized = by_ptq(model, toy_images().pixels, SPEC, settings(), PTQ)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert list(quantized.weights) == ["0.weight", "5.weight"]
    for name, ternary in quantized.weights.items():
        found = torch.from_numpy(quantized.graph.parameters[name])
        assert torch.equal(found, ternary.dequantize())


def test_ptq_reestimates_batchnorm_on_the_calibration_images():
    images = toy_images().pixels
    found = by_ptq(toy_network(), images, SPEC, settings(), PTQ).graph.parameters
    weight = torch.from_numpy(found["0.weight"])
    convolved = F.conv2d(SPEC.normalize(images), weight, padding=1)
    for name, expected in (
        ("running_mean", convolved.mean((0, 2, 3))),
        ("running_var", convolved.var((0, 2, 3))),
    ):
        torch.testing.assert_close(
            torch.from_numpy(found[f"1.{name}"]), expected, rtol=1e-4, atol=1e-5
        )
    kept = by_ptq(
        toy_network(), images, SPEC, settings(), PTQ.model_copy(update={"batchnorm": False})
    )
    assert (kept.graph.parameters["1.running_mean"] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    model = toy_network()
    with torch.no_grad():
        model[5].weight[0, 0] = value
    images = toy_images()
    with pytest.raises(TritbenchError, match=r"5\.weight: 1 of 128 values"):
        by_ptq(model, images.pixels, SPEC, settings(), PTQ)
    with pytest.raises(TritbenchError, match=r"5\.weight: 1 of 128 values"):
        train_qat(model, images, images, SPEC, settings(), qat(), Recipe(1, 0.01))


def test_straight_through_is_ternary_forward_and_identity_backward():
    layer = nn.Linear(6, 3)
    original = layer.weight.detach().clone()
    fake_quantize([Place(layer, "weight")], settings(), qat())
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
        held = torch.from_numpy(quantized.graph.parameters[name])
        assert torch.equal(held, ternary.dequantize())
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
        qat(threshold_warmup=16),  # all steps
        recipe,
    )
    # At a learning rate of almost nothing the trits are the start's, at the full threshold.
    assert torch.equal(few.weights["5.weight"].trits, warm.weights["5.weight"].trits)


def test_stochastic_rounding_is_fair_at_the_threshold_and_absent_in_evaluation():
    weight = torch.full((1, 4000), 1.0)
    noise = torch.rand(1, 4000, generator=torch.Generator().manual_seed(0))
    ternary = ternarize(weight, settings(1.0), 1.0, noise)
    assert 0.45 < ternary.trits.float().mean() < 0.55
    layer = nn.Linear(50, 20)
    fake_quantize([Place(layer, "weight")], settings(), qat(stochastic_rounding=True))
    assert not torch.equal(layer.weight, layer.weight)
    layer.eval()
    assert torch.equal(layer.weight, layer.weight)


def test_distillation_follows_the_teacher():
    images = toy_images()
    wrong = Images(images.pixels, 1 - images.labels)
    teacher = toy_network()
    fit(teacher, images, images, SPEC, Recipe(8, 0.01, 32))
    student, _ = train_qat(
        toy_network(),
        wrong,
        wrong,
        SPEC,
        settings(),
        qat(),
        Recipe(8, 0.01, 32, distill=1.0),
        teacher=teacher,
    )
    predicted = run(student.graph, SPEC.normalize(images.pixels)).argmax(1)
    assert (predicted == images.labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold_warmup": 17}, r"qat\.threshold_warmup = 17: expected at most 16"),
        ({"threshold_warmup": 9, "frozen_epochs": 1}, r"expected at most 8, the steps before"),
        ({"frozen_epochs": 3}, r"qat\.frozen_epochs = 3: expected at most the 2 epochs"),
    ],
)
def test_settings_that_contradict_the_number_of_steps_are_refused(changes, message):
    images = toy_images()
    with pytest.raises(TritbenchError, match=message):
        train_qat(
            toy_network(), images, images, SPEC, settings(), qat(**changes), Recipe(2, 0.01, 32)
        )


@pytest.mark.parametrize("method", ["threshold", "gptq"])
def test_ptq_names_a_layer_that_it_made_all_zero(method):
    given = PTQ.model_copy(update={"method": method})
    with pytest.raises(TritbenchError, match=r"layer 0: .* largest float weight is 0\.\d+.* raw"):
        by_ptq(toy_network(), toy_images().pixels, SPEC, settings(1.0, "raw"), given)


@pytest.mark.parametrize("method", ["optimal", "descent"])
def test_too_few_calibration_images_are_refused(method):
    given = PTQ.model_copy(update={"method": method})
    for count in (1, 15):
        with pytest.raises(TritbenchError, match=rf"ptq\.calibration: {count} image.* at least 16"):
            by_ptq(toy_network(), toy_images(count).pixels, SPEC, settings("auto"), given)
    by_ptq(toy_network(), toy_images(16).pixels, SPEC, settings("auto"), given)


def test_training_names_a_layer_that_starts_all_zero():
    images = toy_images()
    with pytest.raises(TritbenchError, match=r"layer 5: .*quantize\.threshold = 1\.0 and .* raw"):
        train_qat(
            toy_network(), images, images, SPEC, settings(1.0, "raw"), qat(), Recipe(2, 0.01, 32)
        )


def test_training_names_a_layer_that_becomes_all_zero():
    model, images = toy_network(), toy_images()
    with torch.no_grad():
        model[5].weight.mul_(1e-3)
    given = qat(threshold_warmup=16)  # so that 1/16 × 0.001 is the first threshold
    with pytest.raises(TritbenchError, match="layer 5: all its ternary weights are 0"):
        train_qat(model, images, images, SPEC, settings(0.001, "raw"), given, Recipe(2, 1e-9, 32))
