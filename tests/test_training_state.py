"""A training that was stopped goes on from its last epoch, with the bits of one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parallel_cases import CASES, SPEC, images, network, train

from tritbench.errors import TritbenchError
from tritbench.quantize.fake import StraightThrough
from tritbench.train import Recipe, fit
from tritbench.training_state import TrainingState, state_file


class StoppedError(Exception):
    """Stands for Ctrl-C."""


@pytest.fixture
def stopping(monkeypatch):
    """Lets trainings stop after so many epochs, and then go on undisturbed."""

    def stop(after):
        save = TrainingState.save

        def save_and_stop(state, curve):
            save(state, curve)
            if len(curve) == after:
                raise StoppedError

        monkeypatch.setattr(TrainingState, "save", save_and_stop)

    return stop


def equal(found, expected):
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("after", [1, 3])  # trits are frozen in the last of three
def test_a_training_that_goes_on_gives_the_bits_of_one_that_was_not_stopped(
    case, after, stopping, tmp_path, monkeypatch, capsys
):
    keep = tmp_path / "state.safetensors"
    expected = train(case)
    stopping(after)
    with pytest.raises(StoppedError):
        train(case, keep)
    monkeypatch.undo()
    torch.manual_seed(99)
    assert equal(train(case, keep), expected)
    assert f"{case}: goes on after epoch {after}" in capsys.readouterr().err
    assert not keep.exists()


def test_a_training_that_was_killed_goes_on(tmp_path):
    """By SIGKILL, in a process of its own, after the second of three epochs."""
    keep = tmp_path / "state.safetensors"
    program = f"""
import os, signal
from pathlib import Path
from parallel_cases import train
from tritbench.training_state import TrainingState
save = TrainingState.save
def then_die(state, curve):
    save(state, curve)
    if len(curve) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
TrainingState.save = then_die
train("lsq", Path({str(keep)!r}))
"""
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent)])
    environment = os.environ | {"PYTHONPATH": paths}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert run.returncode == -signal.SIGKILL
    assert equal(train("lsq", keep), train("lsq"))


@pytest.mark.parametrize("changed", [{"learning_rate": 0.02}, {"seed": 1}, {"augment": ()}])
def test_another_training_does_not_go_on_from_it(changed, stopping, tmp_path, monkeypatch):
    keep = tmp_path / "state.safetensors"

    def trained(keep=None, **changes):
        model = network(dropout=0.2)
        settings = {"epochs": 2, "learning_rate": 0.01, "batch_size": 16, "augment": ("flip",)}
        recipe = Recipe(**(settings | changes))
        fit(model, images(50), images(31), SPEC, recipe, keep=keep)
        return model.state_dict()

    stopping(1)
    with pytest.raises(StoppedError):
        trained(keep)
    monkeypatch.undo()
    assert equal(trained(keep, **changed), trained(**changed))


def test_a_damaged_file_is_named_and_training_starts_anew(tmp_path, capsys):
    keep = tmp_path / "state.safetensors"
    keep.write_bytes(b"\x10" * 100)
    assert equal(train("fp32", keep), train("fp32"))
    assert f"{keep}: not a training: " in capsys.readouterr().err


def test_a_loss_that_is_not_finite_is_not_kept(tmp_path):
    keep = tmp_path / "state.safetensors"
    with pytest.raises(TritbenchError, match="expected a finite one"):
        fit(network(0.0), images(50), images(31), SPEC, Recipe(2, 1e30, 16), keep=keep)
    assert not keep.exists()


def test_a_name_becomes_a_file_name():
    assert str(state_file("cnn qat/3")) == ".training/cnn-qat-3.safetensors"


def test_held_trits_go_where_the_module_goes():
    """As to a GPU: an attribute that is no buffer would stay behind."""
    from test_qat import settings

    weight = torch.randn(6, 10)
    quantizer = StraightThrough(weight, settings())
    quantizer.freeze_at(quantizer.ternary(weight))
    quantizer.to("meta")
    assert all(tensor.is_meta for tensor in (quantizer.frozen, quantizer.base, quantizer.gain))
