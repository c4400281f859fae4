"""The C library: the example, linked to it either way, gives the bits that Python gives."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from calibrated_networks import calibrated
from packed_networks import FLATTEN, RELU, conv, dense, network, pixels, pool

from tritbench import runtime
from tritbench.export.program import export_program

ROOT = Path(__file__).parents[1]
LIB = ROOT / "build/c"

pytestmark = [
    pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built"),
    pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler"),
]


@pytest.fixture(scope="module")
def net():
    random = np.random.default_rng(0)
    layers = (conv(random, 1, 6, padding=(1, 1)), RELU, pool("max"), FLATTEN)
    return network(*layers, dense(random, 96, 21), RELU, dense(random, 21, 10))


@pytest.fixture(scope="module", params=["static", "shared"])
def program(request, tmp_path_factory):
    subprocess.run(["make", "-s", "lib"], cwd=ROOT, check=True)
    path = tmp_path_factory.mktemp("c") / request.param
    library = LIB / "libtritbench.a" if request.param == "static" else LIB / "libtritbench.so"
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/include", "-o", path]
    command += [ROOT / "examples/classify.c", library, f"-Wl,-rpath,{LIB}", "-lstdc++", "-lm"]
    subprocess.run([*command, "-lpthread"], check=True)
    return path


def classify(program, *paths):
    return subprocess.run([program, *paths], capture_output=True, text=True)


@pytest.mark.parametrize("mode", ["int8", "static"])
def test_the_example_gives_the_bits_of_python(net, program, tmp_path, mode):
    image = pixels(np.random.default_rng(1), 1, (1, 8, 8))
    net = calibrated(net, image)
    (tmp_path / "image.raw").write_bytes(image.tobytes())
    export_program(net, tmp_path / "net.tb", mode)
    found = classify(program, tmp_path / "net.tb", tmp_path / "image.raw")
    assert found.stderr == ""
    logits = np.array([float.fromhex(line) for line in found.stdout.split()], np.float32)
    np.testing.assert_array_equal(logits, runtime.from_packed(net, 1, "auto", mode)(image)[0])


def test_a_program_that_is_cut_off_is_an_error_with_a_text(net, program, tmp_path):
    export_program(net, tmp_path / "net.tb")
    whole = (tmp_path / "net.tb").read_bytes()
    (tmp_path / "net.tb").write_bytes(whole[:-100])
    found = classify(program, tmp_path / "net.tb", tmp_path / "net.tb")
    assert found.returncode == 1
    assert "cut off" in found.stderr
