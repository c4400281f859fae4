"""`tritbench predict`: classes and probabilities of images."""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tritbench import runtime
from tritbench.commands.images import find_images, read_images

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
        TritbenchError: for a model or an image that cannot be used.
    """
    model = runtime.load(path)
    predictions = predict(model, images)
    match form:
        case "json":
            _print_json(predictions, model.classes)
        case "csv":
            _print_csv(predictions, model.classes)
        case _:
            for prediction in predictions:
                print(_line(prediction, model.classes))


def predict(model: "runtime.Model", paths: list[Path]) -> Iterator[Prediction]:
    """Predictions in order; a bar on stderr shows the progress on a terminal.

    Raises:
        TritbenchError: for an image that cannot be used.
    """
    files = find_images(paths)
    bar = tqdm(files, unit="file", disable=None if len(files) > 1 else True, leave=False)
    named = itertools.chain.from_iterable(read_images(file, model.input.shape) for file in bar)
    while batch := list(itertools.islice(named, _BATCH)):
        pixels = torch.from_numpy(np.stack([image for _, image in batch]))
        rows = torch.softmax(model(pixels).double(), 1).tolist()
        for (name, _), probabilities in zip(batch, rows, strict=True):
            yield Prediction(name, probabilities)


def _best(prediction: Prediction) -> int:
    return max(range(len(prediction.probabilities)), key=prediction.probabilities.__getitem__)


def _line(prediction: Prediction, classes: list[str]) -> str:
    order = sorted(range(len(classes)), key=lambda c: -prediction.probabilities[c])
    best, *others = (
        f"{_printable(classes[c])} {prediction.probabilities[c]:.1%}"
        for c in order[: 1 + _RUNNERS_UP]
    )
    return f"{_printable(prediction.image)}: {best}" + (f" ({', '.join(others)})" if others else "")


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
    writer.writerow(["image", "class", "probability", *classes])
    for prediction in predictions:
        best = _best(prediction)
        numbers = [f"{p:.6g}" for p in (prediction.probabilities[best], *prediction.probabilities)]
        writer.writerow([prediction.image, classes[best], *numbers])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
