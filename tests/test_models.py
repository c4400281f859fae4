from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tritbench.errors import TritbenchError
from tritbench.models import (
    Checkpoint,
    InputSpec,
    build,
    check_network,
    describe,
    from_layers,
    load_checkpoint,
    save_checkpoint,
)

SHAPES = [((1, 28, 28), 10), ((1, 9, 7), 3)]
SETTINGS = {
    "linear": {},
    "mlp": {"hidden": [16, 8]},
    "cnn": {"channels": [4, 6], "hidden": 12},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_models_take_input_size_and_classes_from_the_data(name, shape, classes):
    model = build(name, SETTINGS[name], shape, classes, seed=0)
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_network_is_rebuilt_from_its_list_of_layers(name):
    model = build(name, SETTINGS[name], (1, 8, 8), 4, seed=0).eval()
    again = from_layers(describe(model))
    again.load_state_dict(model.state_dict())
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(again.eval()(x), model(x))


def test_the_seed_decides_the_weights():
    first, same, other = (build("linear", {}, (1, 8, 8), 4, seed) for seed in (0, 0, 1))
    assert torch.equal(first[1].weight, same[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


def test_wrong_settings_name_the_model():
    with pytest.raises(TritbenchError, match=r"model\.mlp = \{'widths'.*unexpected keyword"):
        build("mlp", {"widths": [1]}, (1, 8, 8), 4, 0)
    with pytest.raises(TritbenchError, match=r"model\.cnn\.channels"):
        build("cnn", {"channels": [2] * 5, "hidden": 3}, (1, 8, 8), 4, 0)


def user_model(shape, classes, width=5):
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, classes))


def unpackable(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(64, classes), nn.Softmax(1))


def test_a_factory_of_ones_own_makes_the_model():
    model = build("mine", {"factory": f"{__name__}:user_model", "width": 9}, (1, 8, 8), 4, 0)
    assert model[1].out_features == 9


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (f"{__name__}:unpackable", r"layer 1 Tanh.*layer 3 Softmax"),
        (f"{__name__}:nothing", "nothing"),
        ("no_such_module:f", "no_such_module"),
        ("builtins:dict", "expected|unexpected|dict"),
    ],
)
def test_a_factory_that_cannot_be_used_says_why(factory, message):
    with pytest.raises(TritbenchError, match=message):
        build("mine", {"factory": factory}, (1, 8, 8), 4, 0)


class Residual(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


class Plain(nn.Sequential):
    pass


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def chain(*layers):
    """Layers between an image of 8×8 and four classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), *layers, nn.Linear(6, 4))


def with_own_forward():
    model = chain()
    model[1].forward = lambda x: x[:, :6]
    return model


def with_a_masked_gradient():
    model = chain()
    model[1].weight.register_hook(lambda gradient: gradient * 0)
    return model


def tied():
    model = chain(nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 6))
    model[4].weight = model[3].weight
    return model


def frozen():
    model = chain()
    model[1].weight.requires_grad = False
    return model


def with_an_extra_buffer():
    model = chain()
    model[1].register_buffer("mask", torch.ones(6))
    return model


relu = nn.ReLU()
norm = nn.BatchNorm1d(6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Residual(*chain()), "is Residual, expected nn.Sequential itself"),
        (Plain(*chain()), "is Plain, expected nn.Sequential itself"),
        (nn.Linear(64, 4), "is Linear, expected nn.Sequential itself"),
        (chain(Doubled(6, 6)), "layer 2 Doubled: expected Linear itself, not a subclass"),
        (with_own_forward(), "layer 1 Linear has a forward of its own"),
        (with_a_masked_gradient(), "layer 1 Linear has hooks"),
        (nn.Sequential(OrderedDict(zip("abc", chain(), strict=True))), r"layer 0 .* named 'a'"),
        (chain(relu, nn.Linear(6, 6), relu), r"layer 4 \(ReLU\) is layer 2 again"),
        (chain(norm, nn.Linear(6, 6), norm), r"layer 4 \(BatchNorm1d\) is layer 2 again"),
        (tied(), r"4\.weight shares its memory with 3\.weight \(tied weights\)"),
        (chain(parametrizations.weight_norm(nn.Linear(6, 6))), "layer 2 .*no parametrization"),
        (chain(nn.utils.spectral_norm(nn.Linear(6, 6))), "layer 2 Linear has hooks"),
        (chain().double(), r"1\.weight is torch\.float64, expected torch\.float32"),
        (chain().half(), r"1\.bias is torch\.float16, expected torch\.float32"),
        (chain(norm).to("meta"), r"1\.weight is on meta, expected the CPU"),
        (frozen(), r"1\.weight has requires_grad=False"),
        (with_an_extra_buffer(), r"mask"),
        (nn.Sequential(nn.Linear(8, 4), nn.Flatten()), r"layer 0 \(linear\) is given \[1, 8, 8\]"),
        (chain(nn.BatchNorm2d(6)), r"layer 2 \(batchnorm2d\) is given \[6\]"),
        (nn.Sequential(nn.Conv2d(1, 4, 9)), r"layer 0 \(conv2d\) has a kernel"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), r"gives \[4, 6, 6\], expected \[4\]"),
        (nn.Sequential(nn.Flatten()), "has no Linear or Conv2d"),
    ],
)
def test_a_network_that_would_come_back_as_another_is_refused_before_training(model, message):
    with pytest.raises(TritbenchError, match=rf"^model\.mine: .*{message}"):
        check_network(model, "model.mine", (1, 8, 8), 4)


def test_a_layer_without_outputs_is_refused():
    with pytest.raises(TritbenchError, match=r"model\.mlp: layer 1 \(linear\) has the shape \[0\]"):
        build("mlp", {"hidden": [0]}, (1, 8, 8), 4, 0)


def test_the_check_leaves_the_network_and_the_random_numbers_alone():
    model = chain(nn.BatchNorm1d(6), nn.Dropout(0.5))
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert check_network(model, "model", (1, 8, 8)) is model
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("momentum", [0.01, None])
def test_a_checkpoint_trains_on_as_the_network_did(tmp_path, momentum):
    model = chain(nn.BatchNorm1d(6, eps=0.1, momentum=momentum), nn.Dropout(0.3))
    spec = InputSpec((1, 8, 8), (0.5,), (0.25,))
    save_checkpoint(tmp_path / "m.safetensors", Checkpoint(model, spec, list("abcd"), {}))
    again = load_checkpoint(tmp_path / "m.safetensors").model
    for network in (model, again):
        torch.manual_seed(0)
        network.train()(torch.arange(320.0).sin().reshape(5, 1, 8, 8))
    assert torch.equal(again[2].running_mean, model[2].running_mean)
    assert torch.equal(again[2].running_var, model[2].running_var)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, padding=1),
        nn.BatchNorm2d(4, affine=False),
        nn.Flatten(0),
    ],
)
def test_settings_that_cannot_be_packed_are_refused(layer):
    with pytest.raises(TritbenchError, match="layer 0"):
        describe(nn.Sequential(layer))
