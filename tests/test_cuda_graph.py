"""A training whose steps are CUDA graphs ends where one without does, bit for bit."""

import pytest
import torch
from networks import SETTINGS, spec

from tritbench import cuda_graph
from tritbench.data import Images
from tritbench.devices import use_device
from tritbench.models import build
from tritbench.params import QatParams, QuantizeParams
from tritbench.quantize import train_qat
from tritbench.train import Recipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize("method", ["ste", "ttq", "lsq"])
def test_a_replayed_training_gives_the_same_trits(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_device("cuda", 1)
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (256, 1, 8, 8), generator=stream).to(torch.uint8)
    images = Images(pixels, torch.arange(256) % 3)
    settings = QuantizeParams(
        threshold="auto", reference="absmean", granularity="channel", backend="native"
    )
    qat = QatParams(
        method=method,
        start="fp32",
        epochs=4,
        learning_rate=0.01,
        distill=0.5,
        threshold_warmup=5,
        stochastic_rounding=False,
        frozen_epochs=1,
        frozen_first=True,
    )
    recipe = Recipe(4, 0.01, 16, augment=("crop",), distill=0.5, device="cuda")
    trits = []
    for warmup in (cuda_graph._WARMUP, 10**9):
        monkeypatch.setattr(cuda_graph, "_WARMUP", warmup)
        model, teacher = (build("cnn", SETTINGS["cnn"], (1, 8, 8), 3, seed) for seed in (0, 7))
        found, _ = train_qat(
            model, images, images, spec(), settings, qat, recipe, teacher=teacher.eval()
        )
        trits.append(torch.cat([w.trits.flatten() for w in found.ternary.values()]))
    assert trits[0].equal(trits[1])
    assert "no CUDA graph" not in capsys.readouterr().err
