"""Latencies of a sweep's finalists, one after another on this machine."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from dvc.api import DVCFileSystem

from tritbench import data
from tritbench.devices import use_device
from tritbench.git import git
from tritbench.measure.benchmark import measure_model
from tritbench.measure.machine import fingerprint
from tritbench.models import load_checkpoint
from tritbench.report.sweeps import SweepRow
from tritbench.sweep.experiments import project_folder, reference
from tritbench.sweep.plan import Point

BATCH_SIZE = 1


def time_front(rows: list[SweepRow], points: Mapping[str, Point], start: str) -> None:
    """Fill in `latency_s`, `speedup` and `machine` of the ternary rows on the Pareto front.

    Each network runs beside its own FP32, as in the stage `evaluate`, at batch size 1.

    Args:
        rows: as `collect` returns them.
        points: by name.
        start: the commit that they start from.
    """
    machine = fingerprint()["id"]
    commits = {name: git("rev-parse", reference(start, name)) for name in points}
    for row in (row for row in rows if row["front"] and row["point"]):
        params, model, mode = points[row["point"]].params, str(row["model"]), str(row["mode"])
        settings = params.evaluate.model_copy(
            update={"latency": True, "batch_sizes": [BATCH_SIZE], "peers": []}
        )
        use_device("cpu", settings.threads)
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                "fp32": Path(folder) / "fp32.safetensors",
                mode: Path(folder) / f"{mode}.trit",
            }
            # The revision's root is that of the repository, where the project may be a folder.
            kept = DVCFileSystem(".", rev=commits[row["point"]], subrepos=True)
            project = project_folder()
            for path in paths.values():
                kept.get_file(f"{project}models/{model}/{path.name}", str(path))
            kept.get(f"{project}{params.data.folder}", folder, recursive=True)
            images = data.load(Path(folder) / params.data.name, params.data.validation, params.seed)
            arguments = params.of(model).model[model]
            network = load_checkpoint(paths["fp32"]).module(model, arguments)
            about = dict.fromkeys(_ABOUT)
            result = measure_model(model, network, paths, images, settings, {}, about)
        timed = next(found for found in result.rows if found["mode"] == mode)
        row |= {"latency_s": timed["latency_s"], "speedup": timed["speedup"], "machine": machine}


_ABOUT = ("dataset", "seed", "run_id", "git_rev", "machine", "timestamp")
