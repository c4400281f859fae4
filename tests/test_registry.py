"""What a user's package adds by entry points goes through what the stages call."""

import shutil
import subprocess
import sys

import pytest
import torch
from ruamel.yaml import YAML
from test_params import PARAMS
from torch import nn

from tritbench import data
from tritbench.data.sources import SOURCES
from tritbench.errors import TritbenchError
from tritbench.graph import capture
from tritbench.inputs import model_hashes
from tritbench.measure.peers import FILE_PEERS, PEERS, FloatNetwork, build_peer
from tritbench.models.built_in import BUILT_IN
from tritbench.packing import load_trit
from tritbench.packing.codecs import CODECS
from tritbench.params import parse_params
from tritbench.pipeline.fp32 import train_fp32
from tritbench.pipeline.ptq import quantize_ptq
from tritbench.pipeline.qat import train_qat
from tritbench.pipeline.ternary import write_ternary
from tritbench.quantize import fake, methods, rounding
from tritbench.registry import TABLES, UnknownNameError, names, registry

CODE = """
import numpy as np
from torch import nn

from tritbench.data.sources.source import Part, Source
from tritbench.measure.peers import Peer
from tritbench.packing.codecs import Codec
from tritbench.packing.digits import pack_base3, unpack_base3
from tritbench.quantize import rounding
from tritbench.quantize.fake import StraightThrough
from tritbench.quantize.methods import Method

HALF = Method(lambda layer, settings: rounding.by_threshold(layer.weight, settings, 0.5))
FOUR = Codec(lambda t: pack_base3(t, 4), lambda packed, *shape: unpack_base3(packed, *shape, 4))
SIXTEEN = 16


class Plain(StraightThrough):
    pass


def narrow(shape, classes, units=8):
    first = nn.Linear(shape[1] * shape[2], units)
    return nn.Sequential(nn.Flatten(), first, nn.Linear(units, classes))


def eager(network, images):
    return Peer(network.module, 1, 1)


def dots(request):
    random = np.random.default_rng(request.seed)
    images = random.integers(0, 256, (200, 1, 8, 8), np.uint8)
    part = Part(images, np.arange(200) % 4, "dots", "dots")
    return Source("drawn by half", part, part, list("abcd"))
"""
ENTRY_POINTS = {
    "ptq_methods": "half = half_of_it:HALF",
    "qat_methods": "plain = half_of_it:Plain",
    "codecs": "four = half_of_it:FOUR",
    "peers": "half eager = half_of_it:eager",
    "data_sources": "dots = half_of_it:dots",
    "networks": "narrow = half_of_it:narrow",
}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install distributions as pip does: a folder of metadata beside the module."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(entry_points, name="half", code=CODE):
        folder = tmp_path / f"{name}-1.0"  # a new place on the path for each
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = (f"[tritbench.{kind}]\n{line}\n" for kind, line in entry_points.items())
        (about / "entry_points.txt").write_text("\n".join(groups))
        (folder / f"{name}_of_it.py").write_text(code)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, f"{name}_of_it", raising=False)
        return folder

    return installed


@pytest.fixture
def content():
    """params.yaml, for a moment's work on what the package has."""
    found = YAML(typ="safe").load(PARAMS.read_text())
    found["models"], found["model"] = ["narrow"], {"narrow": {"units": 6}}
    found["data"] |= {"dataset": "dots", "validation": 60}
    found["train"] |= {"epochs": 1, "batch_size": 16, "threads": 1}
    found["ptq"] |= {"method": "half", "calibration": 64}
    found["qat"] |= {"method": "plain", "start": "half", "epochs": 1}
    found["packing"]["codec"] = "four"
    found["evaluate"]["peers"] = ["half eager"]
    return found


@pytest.mark.parametrize("kind", TABLES)
def test_the_names_in_the_sources_are_those_of_the_tables(kind):
    files = FILE_PEERS if kind == "peers" else {}
    assert sorted(names(kind)) == sorted([*registry(kind), *files])
    for name, found in registry(kind).items():
        assert registry(kind)[name] is found
    with pytest.raises(KeyError, match="'magic': expected '"):
        registry(kind)["magic"]


def test_a_package_adds_to_every_kind_and_goes_through_the_pipeline(
    install, content, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = install(ENTRY_POINTS)
    params = parse_params(content)
    dataset = data.load(data.fetch(params.data, 0, into=tmp_path / "data"), 60, 0)
    assert dataset.classes == list("abcd")
    checkpoint, _ = train_fp32(params, "narrow", dataset, "narrow")
    quantized = quantize_ptq(params, "narrow", dataset, checkpoint.graph, checkpoint.input)
    write_ternary(tmp_path / "ptq.trit", quantized, checkpoint, dataset, params, "narrow")
    trained, _ = train_qat(params, "narrow", dataset, checkpoint, "narrow")
    write_ternary(tmp_path / "qat.trit", trained, checkpoint, dataset, params, "narrow")
    packed = load_trit(tmp_path / "ptq.trit")
    assert packed.codec == "four"
    for name, weight in packed.packed.weights.items():
        plain = torch.from_numpy(checkpoint.graph.parameters[name])
        by_half = rounding.by_threshold(plain, params.quantize, 0.5)
        assert weight.trits.tolist() == by_half.trits.tolist()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = torch.zeros(2, 1, 8, 8)
    peer = build_peer("half eager", FloatNetwork(network, capture(network, images)), images)
    assert peer.call(images).shape == (2, 3)
    assert [*model_hashes({}, "narrow")] == ["half_of_it"]
    shutil.rmtree(folder)  # and where the package is not
    sys.path.remove(str(folder))
    with pytest.raises(TritbenchError, match=r"ptq\.trit: .*codec 'four', expected one of base3, "):
        load_trit(tmp_path / "ptq.trit")
    with pytest.raises(TritbenchError) as error:
        parse_params(content)
    for message in (
        "data.dataset = 'dots': expected 'embedded', 'fashion-mnist', ",
        "ptq.method = 'half': expected 'threshold', 'raw', ",
        "qat.method = 'plain': expected 'ste', 'ttq' or 'lsq'",
        "qat.start = 'half': expected 'threshold', ",
        "'descent', 'fp32' or 'scratch'",
        "packing.codec = 'four': expected 'base3', '2bit', 'entropy' or 't81'",
        "evaluate.peers.0 = 'half eager': expected 'onnxruntime fp32', ",
    ):
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("half = half_of_it:HALF", None),
        ("half = not_there:HALF", "not_there:HALF of half 1.0 cannot be loaded: ModuleNotFound"),
        ("half = half_of_it:NOTHING", "half_of_it:NOTHING of half 1.0 cannot be loaded: Attrib"),
        ("half = half_of_it:SIXTEEN", "half_of_it:SIXTEEN of half 1.0 is int, expected Method"),
        ("half = half_of_it", "half_of_it of half 1.0 is module, expected Method"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_that_names_the_package(install, content, line, message):
    install(ENTRY_POINTS | {"ptq_methods": line})
    if message is None:
        assert parse_params(content).ptq.method == "half"
        return
    with pytest.raises(TritbenchError, match=r"ptq\.method = 'half': expected one that") as error:
        parse_params(content)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    content["ptq"]["method"] = content["qat"]["start"] = "descent"
    assert parse_params(content).ptq.method == "descent"  # what is not asked for is not loaded


def test_a_name_that_two_have_is_refused_where_it_is_asked_for(install, content):
    install(ENTRY_POINTS)
    install(
        {"codecs": "four = other_of_it:FOUR", "ptq_methods": "descent = other_of_it:X"}, "other"
    )
    content["ptq"]["method"] = "descent"
    with pytest.raises(TritbenchError) as error:
        parse_params(content)
    what = "expected a name that one package has, not"
    assert f"ptq.method = 'descent': {what} tritbench and other 1.0" in str(error.value)
    assert f"packing.codec = 'four': {what} other 1.0 and half 1.0" in str(error.value)
    with pytest.raises(UnknownNameError, match="codec 'four': expected a name that one package"):
        CODECS["four"]


def test_a_program_can_set_one_too(content, monkeypatch):
    for table, key, found in (
        (methods.METHODS, "half", methods.Method(methods._optimal)),
        (fake.METHODS, "plain", fake.StraightThrough),
        (CODECS, "four", CODECS["base3"]),
        (PEERS, "half eager", PEERS["torch compile"]),
        (SOURCES, "dots", SOURCES["embedded"]),
        (BUILT_IN, "narrow", BUILT_IN["linear"]),
    ):
        monkeypatch.setitem(table, key, found)
    assert parse_params(content).qat.start == "half"


def test_parameters_are_read_without_pytorch():
    """Stages that always run read them: `inputs`, and DVC's checks beside it."""
    code = (
        "import sys, pathlib, tritbench.params as p\n"
        f"p.load_params(pathlib.Path({str(PARAMS)!r}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
