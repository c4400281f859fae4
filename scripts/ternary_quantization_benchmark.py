"""The whole benchmark in one process, without DVC: train, quantize, measure, append to a CSV.

    python scripts/ternary_quantization_benchmark.py --model mlp --threshold 0.5 --output runs.csv

What no flag sets comes from params.yaml; with --data-dir, that folder's images are the data set.
Each mode is timed beside FP32, at the first of evaluate.batch_sizes, and appends its row as soon as
it is measured.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from tritbench import data, models, train
from tritbench.devices import use_device
from tritbench.errors import TritbenchError, reported
from tritbench.measure.rows import append_rows
from tritbench.params import Params, load_params, parse_params
from tritbench.pipeline.evaluate import (
    SUFFIX,
    measure,
    shared_columns,
    warn_of_classes_without_images,
)
from tritbench.pipeline.fp32 import train_fp32
from tritbench.pipeline.ptq import quantize_ptq
from tritbench.pipeline.qat import train_qat
from tritbench.pipeline.ternary import write_ternary
from tritbench.quantize import check_schedule

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
        ("train", "epochs", flags.fp32_epochs),
        ("qat", "epochs", flags.qat_epochs),
        ("quantize", "threshold", flags.threshold),
        ("train", "device", flags.device),
        ("evaluate", "min_runs", flags.latency_iters),
    ]
    own = content["model"].get(flags.model, {})  # whose sections would take their place
    for section, key, value in overrides:
        if value is not None:
            content[section][key] = value
            own.get(section, {}).pop(key, None)
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
    with tempfile.TemporaryDirectory(prefix="tritbench.") as folder:
        benchmark(params, flags.model, flags.output, Path(folder))


def benchmark(params: Params, name: str, output: Path, folder: Path) -> None:
    """Train, quantize and measure `name`; artifacts go to `folder`, rows to `output`."""
    dataset = data.load(
        data.fetch(params.data, params.seed, into=folder), params.data.validation, params.seed
    )
    counts = ", ".join(
        f"{len(getattr(dataset, part)):,} {part}" for part in ("train", "validation", "test")
    )
    print(f"data: {dataset.name}, {counts} images of {len(dataset.classes)} classes", flush=True)
    warn_of_classes_without_images(dataset, "data")
    own = params.of(name)
    device = use_device(own.train.device, own.train.threads)
    check_schedule(own.qat, train.qat_recipe(own, device), len(dataset.train))
    about = shared_columns(dataset, params.seed, ROOT)
    paths = {mode: folder / f"{mode}.{suffix}" for mode, suffix in SUFFIX.items()}

    def report(mode: str) -> None:
        beside_fp32 = {key: paths[key] for key in ("fp32", mode)}
        result = measure(params, name, beside_fp32, dataset, about)
        row = next(row for row in result.rows if row["mode"] == mode)
        append_rows(output, [row])
        print(
            f"{name} {mode}: test accuracy {row['test_accuracy']:.2%}, "
            f"{row['bytes']:,} bytes ({row['compression']:.1f}× smaller), "
            f"batch {row['batch_size']} in {row['latency_s']:.3g} s "
            f"({row['speedup']:.2f}× FP32's speed)"
        )

    checkpoint, _ = train_fp32(params, name, dataset, f"{name} fp32")
    models.save_checkpoint(paths["fp32"], checkpoint)
    report("fp32")
    quantized = quantize_ptq(params, name, dataset, checkpoint.graph, checkpoint.input)
    write_ternary(paths["ptq"], quantized, checkpoint, dataset, params, name)
    report("ptq")
    quantized, _ = train_qat(params, name, dataset, checkpoint, f"{name} qat")
    write_ternary(paths["qat"], quantized, checkpoint, dataset, params, name)
    report("qat")
    print(f"rows appended to {output}")


if __name__ == "__main__":
    with reported("ternary_quantization_benchmark"):
        main()
