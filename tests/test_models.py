"""Networks from params.yaml: built in, by a factory, with weights; and their checkpoints."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tritbench.errors import TritbenchError
from tritbench.graph import run
from tritbench.models import (
    Checkpoint,
    InputSpec,
    build,
    check_network,
    load_checkpoint,
    load_state,
    make,
    read_state,
    save_checkpoint,
)

SHAPES = [((1, 28, 28), 10), ((3, 8, 12), 3)]
SETTINGS = {
    "linear": {},
    "mlp": {"hidden": [16, 8]},
    "cnn": {"channels": [4, 6], "hidden": 12},
    "resnet": {"depth": 8},
    "dscnn": {"width": 4},
    "vit": {"width": 12, "depth": 1, "heads": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_models_take_input_size_and_classes_from_the_data(name, shape, classes):
    model = build(name, SETTINGS[name], shape, classes, seed=0)
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, classes)


def test_the_seed_decides_the_weights():
    first, same, other = (build("linear", {}, (1, 8, 8), 4, seed) for seed in (0, 0, 1))
    assert torch.equal(first[1].weight, same[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mlp", {"widths": [1]}, r"model\.mlp = \{'widths'.*unexpected keyword"),
        ("cnn", {"channels": [2] * 5, "hidden": 3}, r"model\.cnn.*2×2 poolings"),
        ("resnet", {"depth": 9}, r"model\.resnet.*depth = 9: expected 8, 14"),
        ("vit", {"heads": 5}, r"model\.vit.*5 heads: expected multiples"),
    ],
)
def test_wrong_settings_name_the_model(name, settings, message):
    with pytest.raises(TritbenchError, match=message):
        build(name, settings, (1, 8, 8), 4, 0)


def test_a_resnet_has_the_names_of_published_checkpoints():
    names = set(make("resnet", {"depth": 8}, (3, 32, 32), 10, 0).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.conv1.weight", "linear.bias"} <= names
    assert not any("shortcut" in name for name in names)


def plain(shape, classes, width=5):
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, classes))


def by_words(*, in_chans, num_classes, img_size):
    return nn.Sequential(nn.Conv2d(in_chans, 4, img_size), nn.Flatten(), nn.Linear(4, num_classes))


def passes_on(kind, **others):
    return kind and by_words(in_chans=1, img_size=8, **others)


def with_variables(outputs, inputs, side):
    return by_words(in_chans=inputs, num_classes=outputs, img_size=side)


class Wrapped(nn.Module):
    def __init__(self, channels, n_classes):
        super().__init__()
        self.body = by_words(in_chans=channels, num_classes=n_classes, img_size=8)

    def forward(self, x):
        return self.body(x)


VARIABLES = {"outputs": "$classes", "inputs": "$channels", "side": "$size"}


@pytest.mark.parametrize(
    ("factory", "settings"),
    [
        ("plain", {"width": 9}),
        ("by_words", {}),
        ("passes_on", {"kind": "any"}),
        ("with_variables", VARIABLES),
        ("Wrapped", {}),
    ],
)
def test_a_factory_gets_what_it_has_a_name_for(factory, settings):
    settings = {"factory": f"{__name__}:{factory}", "train": {"epochs": 1}} | settings
    model = build("mine", settings, (1, 8, 8), 4, 0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 4)


def test_torchvisions_networks_are_made_by_name():
    settings = {"factory": "torchvision.models:resnet18"}
    assert make("theirs", settings, (3, 64, 64), 7, 0).fc.out_features == 7


def nothing_of_use(shape, classes):
    return 3


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (f"{__name__}:nothing", "nothing"),
        ("no_such_module:f", "no_such_module"),
        ("builtins:dict", r"is dict, expected a torch\.nn\.Module"),
        (f"{__name__}:nothing_of_use", r"is int, expected a torch\.nn\.Module"),
    ],
)
def test_a_factory_that_cannot_be_used_says_why(factory, message):
    with pytest.raises(TritbenchError, match=message):
        build("mine", {"factory": factory}, (1, 8, 8), 4, 0)


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 6), nn.Linear(6, 4)

    def forward(self, x):
        y = torch.cumsum(self.first(x.flatten(1)), 1)
        return self.last(torch.linalg.inv(y[:, :1, None]).flatten(1) + y)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 4)

    def forward(self, x):
        return self.last(x.flatten(1)) + torch.rand(4)


def chain(*layers):
    """Layers between an image of 8×8 and four classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), *layers, nn.Linear(6, 4))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3, r"model\.mine is int, expected a torch\.nn\.Module"),
        (Unknown(), r"cumsum .*test_models\.py.*linalg_inv"),
        (Noisy(), "it gives other outputs in a second call"),
        (chain().double(), r"1\.weight is torch\.float64.*3\.bias|1\.weight is torch\.float64"),
        (chain().to("meta"), r"1\.weight is on meta, expected the CPU"),
        (nn.Sequential(nn.Conv2d(1, 4, 9)), r"it cannot run on images \[1, 8, 8\]: RuntimeError"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), r"gives \[n, 4, 6, 6\], expected \[n, 4\]"),
        (chain(nn.ReLU(), nn.Linear(6, 6))[:4], r"gives \[n, 6\], expected \[n, 4\]"),
        (nn.Flatten(), r"gives \[n, 64\], expected \[n, 4\]"),
    ],
)
def test_a_network_that_cannot_become_ternary_is_refused_before_training(model, message):
    with pytest.raises(TritbenchError, match=message) as caught:
        check_network(model, "model.mine", (1, 8, 8), 4)
    assert str(caught.value).startswith("model.mine")


def test_a_network_without_weights_is_refused():
    with pytest.raises(TritbenchError, match="no linear layer or convolution"):
        check_network(nn.Flatten(), "model.mine", (1, 8, 8), 64)


def test_the_check_leaves_the_network_and_the_random_numbers_alone():
    model = chain(nn.BatchNorm1d(6), nn.Dropout(0.5))
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert set(check_network(model, "model", (1, 8, 8)).weights()) == {
        *("1.weight", "4.weight"),
    }
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


SPEC = InputSpec((1, 8, 8), (0.5,), (0.25,))


class Everything(nn.Module):
    """Tied weights, a constant that is computed, an integer buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.norm, self.last = nn.BatchNorm1d(64), nn.Linear(64, 4)
        self.register_buffer("order", torch.arange(63, -1, -1, dtype=torch.int32))
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        x = x.flatten(1)[:, self.order.long()] * torch.arange(64).sin()
        return self.last(self.norm(self.second(self.first(x).relu())) * self.gain)


def everything(shape, classes):
    return Everything()


def test_a_checkpoint_runs_without_the_users_code_and_restores_the_module(tmp_path):
    torch.manual_seed(0)
    model = Everything()
    model(torch.randn(16, 1, 8, 8))  # moves statistics
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, Checkpoint.of(model.eval(), SPEC, list("abcd"), {"by": "me"}))
    again = load_checkpoint(path)
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(run(again.graph, x), model(x), rtol=1e-5, atol=1e-5)
        restored = again.module("mine", {"factory": f"{__name__}:everything"})
        assert torch.equal(restored(x), model(x))
    assert restored.first.weight is restored.second.weight
    assert (again.input, again.classes, again.provenance) == (SPEC, list("abcd"), {"by": "me"})
    before = path.read_bytes()
    save_checkpoint(path, again)
    assert path.read_bytes() == before


def test_all_that_does_not_fit_a_network_is_named(tmp_path):
    other = chain(nn.BatchNorm1d(6))
    state = other.state_dict() | {"9.weight": torch.zeros(1)}
    state["1.weight"] = state["1.weight"].half()
    del state["1.bias"]
    state["3.bias"] = torch.zeros(5)
    with pytest.raises(TritbenchError, match="my file does not fit") as caught:
        load_state(other, state, "my file")
    message = str(caught.value)
    for part in (
        "1.bias is missing",
        "9.weight is no parameter of the network",
        "1.weight is float16 [6, 64], expected float32 [6, 64]",
        "3.bias is float32 [5], expected float32 [4]",
    ):
        assert part in message


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_that_others_trained_are_read_from_their_files(tmp_path, wrapped, suffix):
    state = chain().state_dict()
    content = {f"module.{name}": value for name, value in state.items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save({wrapped: content, "epoch": 3} if wrapped else content, path)
    found = read_state(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_a_file_of_weights_is_not_run(tmp_path, capsys):
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(TritbenchError, match=r"evil\.pt: no state dict"):
        read_state(tmp_path / "evil.pt")
    assert capsys.readouterr().out == ""
    (tmp_path / "torn.pt").write_bytes(b"PK")
    with pytest.raises(TritbenchError, match=r"torn\.pt: no state dict"):
        read_state(tmp_path / "torn.pt")
    with pytest.raises(TritbenchError, match=r"expected a file \.safetensors, \.pt or \.pth"):
        read_state(tmp_path / "weights.bin")


def test_a_checkpoint_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"tritbench": json.dumps({"graph": {}})})
    with pytest.raises(TritbenchError, match=r"m\.safetensors: not a tritbench checkpoint"):
        load_checkpoint(path)
