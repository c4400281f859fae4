"""`tritbench predict`: classes and probabilities of images."""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritbench import runtime
from tritbench.commands.images import find_images, read_images
from tritbench.errors import TritbenchError, printable, reason
from tritbench.shapes import PREDICTION_COLUMNS

_BATCH = 64
_RUNNERS_UP = 2


@dataclass(frozen=True)
class Prediction:
    """What the network makes of one image: a probability for each class, in the classes' order."""

    image: str
    probabilities: list[float]


def run(path: Path, images: list[Path], form: str) -> None:
    """Print a line, a row of CSV or a JSON object for each image; `form` is text, csv or json.

    Raises:
        TritbenchError: for a model that cannot be used, and at the end where a file could not be.
    """
    model = runtime.load(path)
    files = find_images(images)
    problems: list[str] = []
    predictions = predict(model, files, problems)
    match form:
        case "json":
            _print_json(predictions, model.classes)
        case "csv":
            _print_csv(predictions, model.classes)
        case _:
            for prediction in predictions:
                print(_line(prediction, model.classes))
    if len(files) == 1 and problems:
        raise TritbenchError(problems[0])
    for problem in problems:
        print(f"tritbench: left out: {printable(problem)}", file=sys.stderr)
    if problems:
        raise TritbenchError(f"{len(problems)} of {len(files)} files could not be read")


def predict(
    model: "runtime.Model", files: Sequence[Path], problems: list[str]
) -> Iterator[Prediction]:
    """Predictions in order; a bar on stderr shows the progress on a terminal.

    Why a file could not be read is added to `problems`; the others go on.
    """
    named = itertools.chain.from_iterable(_read(file, model, problems) for file in _with_bar(files))
    while batch := list(itertools.islice(named, _BATCH)):
        logits = model(np.stack([image for _, image in batch])).astype(np.float64)
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        rows = exponents / exponents.sum(1, keepdims=True)
        for (name, _), probabilities in zip(batch, rows.tolist(), strict=True):
            yield Prediction(name, probabilities)


def _with_bar(files: Sequence[Path]) -> Iterable[Path]:
    try:
        from tqdm import tqdm
    except ImportError:  # `pip install tritbench` alone
        return files
    bar: Iterable[Path] = tqdm(files, unit="file", disable=len(files) < 2 or None, leave=False)
    return bar


def _read(
    path: Path, model: "runtime.Model", problems: list[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    try:
        yield from read_images(path, model.input.shape)
    except TritbenchError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{path}: {reason(error)}")


def _best(prediction: Prediction) -> int:
    return max(range(len(prediction.probabilities)), key=prediction.probabilities.__getitem__)


def _line(prediction: Prediction, classes: list[str]) -> str:
    order = sorted(range(len(classes)), key=lambda c: -prediction.probabilities[c])
    best, *others = (
        f"{printable(classes[c])} {prediction.probabilities[c]:.1%}"
        for c in order[: 1 + _RUNNERS_UP]
    )
    return f"{printable(prediction.image)}: {best}" + (f" ({', '.join(others)})" if others else "")


def _print_json(predictions: Iterable[Prediction], classes: list[str]) -> None:
    print("[", end="")
    for number, prediction in enumerate(predictions):
        best = _best(prediction)
        content = {
            "image": prediction.image,
            "class": classes[best],
            "probability": prediction.probabilities[best],
            "probabilities": dict(zip(classes, prediction.probabilities, strict=True)),
        }
        print(",\n " if number else "\n ", json.dumps(content), sep="", end="")
    print("\n]")


def _print_csv(predictions: Iterable[Prediction], classes: list[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*PREDICTION_COLUMNS, *classes])
    for prediction in predictions:
        best = _best(prediction)
        numbers = [f"{p:.6g}" for p in (prediction.probabilities[best], *prediction.probabilities)]
        writer.writerow([prediction.image, classes[best], *numbers])
