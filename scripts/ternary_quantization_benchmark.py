"""The whole benchmark in one process, without DVC: train, quantize, measure, append to a CSV.

    python scripts/ternary_quantization_benchmark.py --model mlp --threshold 0.5 --output runs.csv

What no flag sets comes from params.yaml; with --data-dir, that folder's images are the data set.
Each mode is timed beside FP32, at the first of evaluate.batch_sizes, and appends its row as soon as
it is measured.
"""

import argparse
import os
import sys
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tritbench import data, models, train
from tritbench.errors import TritbenchError, reported
from tritbench.graph import capture
from tritbench.measure.benchmark import measure_model
from tritbench.measure.classes import classes_without_images
from tritbench.measure.machine import fingerprint
from tritbench.measure.rows import Row, append_rows, git_revision, recipes
from tritbench.packing import save_trit
from tritbench.params import Params, load_params, parse_params
from tritbench.provenance import provenance
from tritbench.quantize import check_schedule, quantize_ptq, train_qat
from tritbench.runtime.half import half_arrays

ROOT = Path(__file__).parents[1]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mlp", help="a name of params.yaml's `model`")
    parser.add_argument("--data-dir", type=Path, help="folder with the images (docs/pipeline.md)")
    parser.add_argument("--dataset", help="as data.dataset in params.yaml")
    parser.add_argument("--batch-size", type=int, help="of training")
    parser.add_argument("--fp32-epochs", type=int)
    parser.add_argument("--qat-epochs", type=int)
    parser.add_argument("--threshold", type=float, help="of the reference magnitude, in (0, 1]")
    parser.add_argument("--device", help="cpu, cuda or auto")
    parser.add_argument("--latency-iters", type=int, help="timed blocks of calls for each mode")
    parser.add_argument("--output", type=Path, default=Path("quantization_runs.csv"))
    return parser.parse_args()


def parameters(flags: argparse.Namespace) -> Params:
    """params.yaml with the flags laid over it, checked as a whole."""
    content: dict[str, Any] = load_params(ROOT / "params.yaml").model_dump()
    content["models"] = [flags.model]
    content["train"]["launcher"] = None
    content["evaluate"]["batch_sizes"] = content["evaluate"]["batch_sizes"][:1]
    content["evaluate"]["peers"] = []  # the rows are those of the three modes
    overrides = [
        ("data", "dataset", _dataset(flags)),
        ("train", "batch_size", flags.batch_size),
        ("qat", "epochs", flags.qat_epochs),
        ("quantize", "threshold", flags.threshold),
        ("train", "device", flags.device),
        ("evaluate", "min_runs", flags.latency_iters),
    ]
    for section, key, value in overrides:
        if value is not None:
            content[section][key] = value
    if flags.fp32_epochs is not None:
        content["train"]["epochs"][flags.model] = flags.fp32_epochs
    if flags.latency_iters is not None:
        content["evaluate"]["min_run_time"] = 1e-9  # the number of runs alone decides
    return parse_params(content, "command line over params.yaml")


def _dataset(flags: argparse.Namespace) -> str | None:
    """What the folder holds, or else what --dataset says."""
    if flags.data_dir is None:
        return flags.dataset  # type: ignore[no-any-return]
    held = data.dataset_in(flags.data_dir)
    if flags.dataset not in (None, held):
        raise TritbenchError(
            f"--dataset {flags.dataset}: {flags.data_dir} holds {held}, expected --data-dir alone"
        )
    return held


def main() -> None:
    """Run the three modes of one model in a temporary folder."""
    flags = arguments()
    params = parameters(flags)
    if flags.data_dir is not None and not params.data.dataset.startswith("path:"):
        os.environ[data.folder_variable(params.data.dataset)] = str(flags.data_dir)
    append_rows(flags.output, [])  # what it will not take is known before the work
    device = train.use_device(params.train.device, params.train.threads)
    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        benchmark(params, flags.model, flags.output, Path(folder), device)


def benchmark(params: Params, name: str, output: Path, folder: Path, device: str) -> None:
    """Train, quantize and measure `name`; artifacts go to `folder`, rows to `output`."""
    dataset = data.load(
        data.fetch(params.data, params.seed, into=folder), params.data.validation, params.seed
    )
    counts = ", ".join(
        f"{len(getattr(dataset, part)):,} {part}" for part in ("train", "validation", "test")
    )
    print(f"data: {dataset.name}, {counts} images of {len(dataset.classes)} classes", flush=True)
    if bare := classes_without_images(dataset.test.labels, dataset.classes):
        print(f"data: no test images of {', '.join(bare)}", file=sys.stderr)
    spec = models.InputSpec(dataset.image_shape, dataset.mean, dataset.std)
    recipe = train.recipe(params, name, device)
    check_schedule(params.qat, train.qat_recipe(params, name, device), len(dataset.train))
    about: Row = {
        "dataset": dataset.name,
        "seed": params.seed,
        "run_id": uuid.uuid4().hex[:8],
        "git_rev": git_revision(ROOT),
        "machine": fingerprint()["id"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    made_by = recipes(params)
    paths = {"fp32": folder / "fp32.safetensors"}

    def measure(mode: str) -> None:
        beside_fp32 = {"fp32": paths["fp32"], mode: paths[mode]}
        result = measure_model(name, beside_fp32, dataset, params.evaluate, made_by, about)
        row = next(row for row in result.rows if row["mode"] == mode)
        append_rows(output, [row])
        print(
            f"{name} {mode}: test accuracy {row['test_accuracy']:.2%}, "
            f"{row['bytes']:,} bytes ({row['compression']:.1f}× smaller), "
            f"batch {row['batch_size']} in {row['latency_s']:.3g} s "
            f"({row['speedup']:.2f}× FP32's speed)"
        )

    network = models.build(name, params.model[name], spec.shape, len(dataset.classes), params.seed)
    train.fit(network, dataset.train, dataset.validation, spec, recipe, label=f"{name} fp32")
    made = provenance(dataset, params, name, recipe.precision, "train")
    models.save_checkpoint(paths["fp32"], models.Checkpoint(network, spec, dataset.classes, made))
    measure("fp32")

    images = data.calibration_images(dataset, params.ptq.calibration[name], params.seed)
    graph = capture(network, spec.normalize(images[:2]))
    augmentations = params.train.augment[name]
    quantized = quantize_ptq(graph, images, spec, params.quantize, params.ptq, augmentations)
    paths["ptq"] = folder / "ptq.trit"
    made = provenance(dataset, params, name, recipe.precision, "train", "quantize", "ptq")
    half = half_arrays(quantized, spec, dataset.validation.pixels)
    codec = params.packing.codec
    save_trit(paths["ptq"], quantized, spec, dataset.classes, made, codec, half)
    measure("ptq")

    trained, _ = train_qat(
        network,
        dataset.train,
        dataset.validation,
        spec,
        params.quantize,
        params.qat,
        train.qat_recipe(params, name, device),
        teacher=network,
        label=f"{name} qat",
    )
    paths["qat"] = folder / "qat.trit"
    made = provenance(dataset, params, name, recipe.precision, "train", "quantize", "qat")
    half = half_arrays(trained, spec, dataset.validation.pixels)
    save_trit(paths["qat"], trained, spec, dataset.classes, made, codec, half)
    measure("qat")
    print(f"rows appended to {output}")


if __name__ == "__main__":
    with reported("ternary_quantization_benchmark"):
        main()
