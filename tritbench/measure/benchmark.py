"""One model in its three modes, side by side: accuracy, latency and bytes as rows."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from tritbench import runtime
from tritbench.data import Dataset, Images
from tritbench.graph import Graph
from tritbench.graph.passes import fold_batch_norm
from tritbench.measure.accuracy import (
    Score,
    agreement,
    calibration_error,
    flips,
    predict,
    score,
)
from tritbench.measure.classes import class_rows, confusion_rows
from tritbench.measure.energy import Meter, joules_per_image
from tritbench.measure.latency import Latency, interleaved
from tritbench.measure.memory import PeakMemory
from tritbench.measure.peers import (
    EAGER,
    FILE_PEERS,
    PEERS,
    Call,
    FloatNetwork,
    Peer,
    UnavailableError,
    build_peer,
    deployed,
)
from tritbench.measure.rows import METRICS, RECIPE, Row
from tritbench.measure.statistics import ratio_interval
from tritbench.measure.storage import Storage, float_storage, ternary_storage
from tritbench.models import load_checkpoint
from tritbench.packing import load_trit
from tritbench.params import EvaluateParams
from tritbench.provenance import precision_of
from tritbench.runtime.reference import EagerModel

REFERENCE = "reference"
CALIBRATION = 300  # training images for peers that calibrate; NNCF's default


@dataclass(frozen=True)
class Result:
    """One model's measurements.

    Attributes:
        rows: one for each mode and batch size.
        peers: the same for each peer, with mode `peer`; the first is PyTorch with the checkpoint's
            own modules.
        unavailable: peer to the reason why it did not.
        classes: as `class_rows` makes them of the test split.
        confusions: as `confusion_rows` does.
        test_logits: [n, classes] on the test split, by mode.
        deployed: the FP32 network as it was timed, of pixels.
        engine: what ran it last, in words.
    """

    rows: list[Row]
    peers: list[Row]
    unavailable: dict[str, str]
    classes: list[Row]
    confusions: list[Row]
    test_logits: dict[str, Tensor]
    deployed: Graph
    engine: str


def measure_model(
    name: str,
    module: nn.Module,
    paths: Mapping[str, Path],
    dataset: Dataset,
    settings: EvaluateParams,
    recipes: Mapping[str, Row],
    about: Mapping[str, object],
    meter: Meter | None = None,
    memory: Callable[[], PeakMemory] | None = None,
) -> Result:
    """Run the files of one model; one row for each mode and batch size.

    Ternary files run on the native engine, and on the PyTorch reference beside it. FP32 is timed as
    one deploys it, its normalizations folded into weights. Without
    `settings.latency` nothing is timed and no peer runs: one row for each mode.

    Args:
        name: the model's name.
        module: the FP32 network, in evaluation mode; its rows are PyTorch's own, eager.
        paths: mode (fp32 first, then ptq, qat) to file.
        dataset: its validation split gives `accuracy` and `loss`, its test split the rest.
        settings: batch sizes, threads, time for each measurement, peers.
        recipes: the columns of RECIPE, by mode.
        about: columns that all rows share: dataset, seed, run_id, git_rev, machine, timestamp.
        meter: of energy, where there is one.
        memory: of the files, as `peak_memory` returns it; awaited before anything is timed.

    Raises:
        TritbenchError: naming a file that cannot be used.
    """
    start = time.perf_counter()
    checkpoint = load_checkpoint(paths["fp32"])
    fp32 = EagerModel(module, checkpoint.input)
    files = {mode: path for mode, path in paths.items() if path.suffix == ".trit"}
    ternary = {mode: runtime.load(path, settings.threads) for mode, path in files.items()}
    models = {mode: ternary.get(mode, fp32) for mode in paths}
    references = {mode: runtime.load_reference(path) for mode, path in files.items()}
    network = FloatNetwork(module, checkpoint.graph, checkpoint.input)
    examples = dataset.train.pixels[:CALIBRATION]
    storage = {mode: stored(path) for mode, path in paths.items()}
    wanted = settings.peers if settings.latency else ()
    peers, unavailable = _peers(network, wanted, examples, paths, storage, settings.threads)
    storage |= {peer: _peer_storage(built, storage["fp32"]) for peer, built in peers.items()}
    calls: dict[str, Call] = {**models, **{peer: built.call for peer, built in peers.items()}}
    logits, fixed = _fixed(name, calls, paths, dataset, storage, recipes)
    for mode, model in references.items():
        predicted = predict(model, dataset.test.pixels, str(paths[mode]))
        reference = score(predicted, dataset.test.labels).accuracy
        fixed[mode]["reference_accuracy"] = reference
        fixed[mode]["engine_accuracy_delta"] = fixed[mode]["test_accuracy"] - reference
    if settings.latency:
        eager = {EAGER: {**fixed["fp32"], "method": EAGER}}
        fixed = {key: fixed[key] for key in paths} | eager | fixed
    peaks = memory() if memory else {}
    timed: dict[str, Call] = {**calls, "fp32": deployed(network, examples), EAGER: fp32}
    if references:
        # Those of other modes have the same layers, with other numbers in them.
        timed[REFERENCE] = next(iter(references.values()))
    rows = list(_rows(name, fixed, timed, paths, dataset.test, settings, about, meter, peaks))
    own = {mode: logits[mode] for mode in paths}
    print(f"{name}: {', '.join(calls)} measured in {time.perf_counter() - start:.1f} s")
    return Result(
        [row for row in rows if row["mode"] != "peer"],
        [row for row in rows if row["mode"] == "peer"],
        unavailable,
        class_rows(name, own, dataset.test.labels, dataset.classes),
        confusion_rows(name, own, dataset.test.labels, dataset.classes),
        own,
        network.graph,
        models[list(paths)[-1]].engine,
    )


def _fixed(
    name: str,
    calls: Mapping[str, Call],
    paths: Mapping[str, Path],
    dataset: Dataset,
    storage: Mapping[str, Storage],
    recipes: Mapping[str, Row],
) -> tuple[dict[str, Tensor], dict[str, Row]]:
    """By mode and peer, logits of the test images, and the columns that hold at every batch size.

    `fp32` is the first of `calls`.
    """
    validation, test = dataset.validation, dataset.test
    logits: dict[str, Tensor] = {}
    fixed: dict[str, Row] = {}
    for key, call in calls.items():
        label = str(paths.get(key, f"{name}: {key}"))
        logits[key] = predict(call, test.pixels, label)
        fixed[key] = {
            **_validation(score(predict(call, validation.pixels, label), validation.labels)),
            **_test(logits[key], logits["fp32"], test.labels, is_fp32=key == "fp32"),
            **_storage(storage[key], storage["fp32"]),
            "reference_accuracy": None,
            "engine_accuracy_delta": None,
            **dict.fromkeys(RECIPE, ""),
            **(recipes.get(key, {}) if key in paths else {"method": key}),
            "precision": _precision(paths.get(key, paths["fp32"])),
        }
    return logits, fixed


def _rows(
    name: str,
    fixed: Mapping[str, Row],
    timed: Mapping[str, Call],
    paths: Mapping[str, Path],
    test: Images,
    settings: EvaluateParams,
    about: Mapping[str, object],
    meter: Meter | None,
    peaks: PeakMemory,
) -> Iterator[Row]:
    """A row for each batch size and each of `fixed`, all `timed` one after another in turn."""
    for batch_size in settings.batch_sizes if settings.latency else settings.batch_sizes[:1]:
        images = test.pixels[np.arange(batch_size) % len(test)]
        latency: dict[str, Latency] = {}
        if settings.latency:
            latency = interleaved(
                timed,
                images,
                threads=settings.threads,
                min_run_time=settings.min_run_time,
                min_runs=settings.min_runs,
            )
        for key, columns in fixed.items():
            path = paths.get(key)
            yield {
                "model": name,
                "mode": "peer" if path is None else key,
                "batch_size": batch_size,
                **columns,
                **_latency(key, latency, columns["reference_accuracy"] is not None),
                "joules_per_image": meter and joules_per_image(timed[key], images, meter),
                "peak_memory_bytes": path and peaks.get((path, batch_size)),
                "threads": settings.threads,
                **about,
            }


def _peers(
    network: FloatNetwork,
    names: Sequence[str],
    images: Tensor,
    paths: Mapping[str, Path],
    storage: Mapping[str, Storage],
    threads: int,
) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that run a float network of uint8 images or its ternary files.

    Returns:
        those of `names` that could be had, and of all others why not.
    """
    peers: dict[str, Peer] = {}
    unavailable: dict[str, str] = {}

    def of_float(name: str) -> dict[str, Peer]:
        return {name: build_peer(name, network, images)}

    builders: dict[str, Callable[[], dict[str, Peer]]] = {
        **{name: partial(of_float, name) for name in PEERS},
        **{name: partial(of, paths, storage, threads) for name, of in FILE_PEERS.items()},
    }
    for name, build in builders.items():
        try:
            if name not in names:
                raise UnavailableError("not in evaluate.peers")
            peers |= build()
        except UnavailableError as error:
            unavailable[name] = str(error)
    return peers, unavailable


def _peer_storage(peer: Peer, fp32: Storage) -> Storage:
    bits = fp32.bits_per_weight * peer.bytes / fp32.bytes
    return Storage(peer.bytes, peer.file_bytes, bits)


def _validation(found: Score) -> Row:
    return {"accuracy": found.accuracy, "loss": found.loss}


def _test(logits: Tensor, fp32: Tensor, labels: Tensor, is_fp32: bool) -> Row:
    found = score(logits, labels)
    flipped = None if is_fp32 else flips(logits, fp32, labels)
    return {
        "test_accuracy": found.accuracy,
        "test_accuracy_low": found.low,
        "test_accuracy_high": found.high,
        "test_loss": found.loss,
        "ece": calibration_error(logits, labels),
        "mcnemar_p": flipped and flipped.p,
        "flips_lost": flipped and flipped.lost,
        "flips_won": flipped and flipped.won,
        "agreement": agreement(logits, fp32),
    }


def _storage(own: Storage, fp32: Storage) -> Row:
    return {**vars(own), "compression": fp32.bytes / own.bytes}


def _latency(name: str, taken: Mapping[str, Latency], has_reference: bool) -> Row:
    """The columns of one model's latency; empty where it was not timed."""
    columns = [column for column in METRICS["latency"] if column != "joules_per_image"]
    if name not in taken:
        return dict.fromkeys(columns)
    own, fp32 = taken[name], taken["fp32"]
    interval = ratio_interval(fp32.blocks, own.blocks) if name != "fp32" else (1.0, 1.0)
    low, high = interval or (None, None)
    return {
        "latency_s": own.median_s,
        "latency_iqr_s": own.iqr_s,
        "latency_p95_s": own.p95_s,
        "latency_p99_s": own.p99_s,
        "disturbed": own.disturbed or fp32.disturbed,  # the speed-up is as good as both of them
        "speedup": fp32.median_s / own.median_s,
        "speedup_low": low,
        "speedup_high": high,
        "reference_latency_s": taken[REFERENCE].median_s if has_reference else None,
    }


def _precision(path: Path) -> str:
    """What training multiplied in."""
    read = load_trit if path.suffix == ".trit" else load_checkpoint
    return precision_of(read(path).provenance)


def stored(path: Path) -> Storage:
    """What a model file stores.

    FP32 counts what a deployed float network holds: its weights, biases and all other parameters,
    BatchNorm folded, 4 bytes each.
    """
    if path.suffix == ".trit":
        return ternary_storage(path, load_trit(path))
    graph = fold_batch_norm(load_checkpoint(path).graph).graph
    weights = sum(graph.parameters[name].size for name in graph.weights())
    return float_storage(path, weights, sum(a.size for a in graph.parameters.values()) - weights)
