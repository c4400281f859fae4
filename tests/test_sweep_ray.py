"""A sweep on a real Ray cluster of two nodes, one of which dies, with an S3 remote on loopback."""

import csv
import io
import os
import shutil
import subprocess
import sys
import time

import pytest
from clones import commit, dvc, make_clone, run
from ruamel.yaml import YAML

from tritbench.sweep.experiments import read_file
from tritbench.sweep.plan import read_sweep, set_param

ray = pytest.importorskip("ray", reason="needs pip install '.[cluster-test]'")
pytest.importorskip("moto.server", reason="needs pip install '.[cluster-test]'")
pytest.importorskip("dvc_s3", reason="needs pip install '.[cluster-test]'")

MEASURED = ("model", "mode", "accuracy", "loss", "test_accuracy", "bytes", "zeros")

FILE = """
run: ray
ray: {{address: "{address}", git: "{git}"}}
set: {{evaluate.modes: [ptq], models: [linear]}}
grid:
  ptq.method: [threshold, optimal]
  quantize.threshold: [0.3, 0.6, 0.9]
"""


@pytest.fixture
def s3(monkeypatch):
    from moto.server import ThreadedMotoServer

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def repository(tmp_path, s3):
    """A clone with tiny settings on the embedded set, its bare origin, and a log of trainings."""
    from boto3 import client

    client("s3", endpoint_url=s3).create_bucket(Bucket="shared")
    folder = tmp_path / "clone"
    folder.mkdir()
    make_clone(folder, "unused", ["linear"])
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    params["data"] |= {"dataset": "embedded", "validation": 200}
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    trained = tmp_path / "trained"
    with (folder / "stages/train_fp32.py").open("a") as stage:
        stage.write(f"    open({str(trained)!r}, 'a').write('x')\n")
    dvc(folder, "remote", "add", "-q", "-d", "shared", "s3://shared/dvc")
    dvc(folder, "remote", "modify", "-q", "shared", "endpointurl", s3)
    commit(folder)
    origin = tmp_path / "origin.git"
    run(folder, "git", "clone", "-q", "--bare", str(folder), str(origin))
    run(folder, "git", "remote", "add", "origin", str(origin))
    return folder, origin, trained


@pytest.fixture
def cluster(tmp_path, monkeypatch, s3):
    """Two nodes of one CPU, each with a temporary folder of its own."""
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    folders = [tmp_path / "node0", tmp_path / "node1"]
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # sockets' paths must be short
    added = []
    for folder in folders:
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        added.append(nodes.add_node(num_cpus=1, include_dashboard=False))
    monkeypatch.delenv("TMPDIR")
    yield nodes, added[1], folders[1]
    nodes.shutdown()


def experiments(origin):
    lines = run(origin, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [line.rsplit("/", 1)[1] for line in lines]


def measured(text):
    rows = csv.DictReader(io.StringIO(text))
    return [[row[key] for key in MEASURED] for row in rows]


def test_a_sweep_survives_the_death_of_a_node(repository, cluster, monkeypatch):
    folder, origin, trained = repository
    nodes, victim, victims_folder = cluster
    path = folder / "sweeps/six.yaml"
    path.write_text(FILE.format(address=nodes.address, git=origin))
    driver = subprocess.Popen(
        [shutil.which("tritbench", path=os.path.dirname(sys.executable)), "sweep", path],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 600  # only where something hangs
    while not (experiments(origin) and list(victims_folder.glob("tritbench-*/*/tmp*/dvc.lock"))):
        assert driver.poll() is None, driver.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    nodes.remove_node(victim, allow_graceful=False)
    output, _ = driver.communicate()
    assert driver.returncode == 0, output

    monkeypatch.chdir(folder)
    points = read_sweep(path.relative_to(folder)).points
    assert sorted(experiments(origin)) == sorted(point.name for point in points)
    assert trained.read_text() == "x"
    start = run(folder, "git", "rev-parse", "HEAD").strip()
    with (folder / "sweeps/six.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 7  # and FP32 once
    dvc(folder, "exp", "list", "origin", "--name-only")
    assert "6 points" in run(folder, "tritbench", "sweep", path)  # again: nothing to do
    for point in points:
        changes = [f"-S{set_param(key, value)}" for key, value in point.overrides.items()]
        dvc(folder, "exp", "run", "-n", f"s-{point.name}", "-s", *changes, *point.stages)
        serial = (folder / "benchmarks/quantization_runs.csv").read_text()
        kept = read_file(start, point.name, "benchmarks/quantization_runs.csv")
        assert measured(kept) == measured(serial)
        run(folder, "git", "checkout", "-q", ".")
