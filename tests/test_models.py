import pytest
import torch
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.models import build, describe, from_layers

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
