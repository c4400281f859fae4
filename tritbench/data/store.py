"""From a source to arrays in a folder: every picture decoded once, described by dataset.json."""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tritbench.data.description import ARRAYS, DESCRIPTION, Description
from tritbench.data.sources.source import Part, Picture, Source, as_pictures, listed
from tritbench.data.split import TEST_STREAM, split
from tritbench.errors import TritbenchError
from tritbench.files import sha256, write_atomic
from tritbench.pictures import is_deep, is_gray, pixels_of, upright_size
from tritbench.shapes import LARGEST, Shape

CHUNK = 1024  # pictures that are decoded between two notes of how far it is
_SMALL = 96 * 96  # pixels of pictures for which threads wait for each other longer than they work
_TASK = 32  # of them that a thread takes at once
_MOST_TESTED = 10_000  # images that are held out where a source has no test part
PROGRESS = "progress.json"


@dataclass(frozen=True)
class Form:
    """What every stored image is.

    Attributes:
        shape: of one image.
        dtype: uint8 or float32.
        resized: whether images of another size became this one.
        notes: what else happened to them, in words.
        seen: of pictures, a digest of their names, sizes and times.
        area: of pictures, how many pixels one has, on average.
    """

    shape: Shape
    dtype: str
    resized: bool = False
    notes: tuple[str, ...] = ()
    seen: str = ""
    area: int = 0


def store(
    source: Source, folder: Path, name: str, size: tuple[int, int] | None, seed: int, program: str
) -> Description:
    """Write a source's images and labels as arrays, and the dataset.json that describes them.

    What a run before this one had decoded into the folder is kept, and the rest is decoded.

    Args:
        source: images and labels.
        folder: for the files; made where it is not there.
        name: of the data set.
        size: height and width that images become; None keeps theirs, which must be one.
        seed: selects the test images of a source that has none.
        program: begins the lines on stderr.

    Raises:
        TritbenchError: labels and images do not belong together, or images cannot be used: the
            first ten by name, and how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = _check_labels(source)
    remarks = []
    parts = {"train": source.train, "test": source.test}
    if source.test is None:
        labels = source.train.labels
        count = min(_MOST_TESTED, len(labels) // 6)
        kept, held_out = split(labels, count, seed, TEST_STREAM, f"{source.train.images_in}: test")
        parts = {"train": source.train.select(kept), "test": source.train.select(held_out)}
        remarks.append("test images held out of the training images")
    given = [part for part in parts.values() if part is not None]
    form = _form(given, size)
    if form.resized:
        remarks.append(f"resized to {form.shape[-2]}x{form.shape[-1]}")
        given = [as_pictures(p) if isinstance(p.images, np.ndarray) else p for p in given]
    for note in form.notes:
        print(f"{program}: {name}: {note}", file=sys.stderr)
    done = _done(folder, source, form)
    for key, part in zip(("train", "test"), given, strict=True):
        _write_images(folder / f"{key}-images.npy", part, form, done, f"{program} {name} {key}")
        np.save(folder / f"{key}-labels.npy", part.labels)
    (folder / PROGRESS).unlink(missing_ok=True)
    about = Description(
        name=f"{name} ({'; '.join(remarks)})" if remarks else name,
        source=source.name,
        sha256={file: sha256(folder / file) for file in ARRAYS},
        counts={key: len(part.labels) for key, part in zip(("train", "test"), given, strict=True)},
        image=list(form.shape[1:] if form.shape[0] == 1 and len(form.shape) > 1 else form.shape),
        classes=classes,
    )
    published = source.sha256 is None or form.resized or dict(source.sha256) == about.sha256
    if not published:
        raise TritbenchError(
            f"{source.train.images_in}: other images than those of {name}, expected the published"
        )
    content = json.dumps(about.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
    write_atomic(folder / DESCRIPTION, content + "\n")
    return about


def _check_labels(source: Source) -> list[str]:
    """The classes' names, if images and labels belong together."""
    train, test = source.train, source.test
    for part in (train, test):
        if part is None:
            continue
        shape = part.images.shape if isinstance(part.images, np.ndarray) else (len(part.images),)
        if 0 in shape:
            raise TritbenchError(f"{part.images_in}: shape is {shape}, expected at least one pixel")
        if len(part.images) != len(part.labels):
            raise TritbenchError(
                f"{part.labels_in}: found {len(part.labels)} labels, expected "
                f"{len(part.images)}, one for each image"
            )
        if part.labels.min() < 0:
            raise TritbenchError(
                f"{part.labels_in}: found label {part.labels.min()}, expected 0 and more"
            )
    present = np.unique(train.labels)
    count = int(present[-1]) + 1 if source.classes is None else len(source.classes)
    classes = [str(label) for label in range(count)]
    if source.classes is not None:
        classes = list(source.classes)
    if present[-1] >= count:
        raise TritbenchError(
            f"{train.labels_in}: found labels of {present[-1] + 1} classes, expected {count}, one "
            "for each name"
        )
    if len(present) != count:
        missing = int(np.setdiff1d(np.arange(count), present)[0])
        found = f"no image has label {missing}"
        found += f" ({classes[missing]})" if source.classes is not None else ""
        raise TritbenchError(
            f"{train.labels_in}: {found}, expected labels without a gap from 0 to {count - 1}"
        )
    if count < 2:
        raise TritbenchError(f"{train.labels_in}: found 1 class, expected at least 2")
    if test is not None and test.labels.max() >= count:
        raise TritbenchError(
            f"{test.labels_in}: found label {test.labels.max()}, "
            f"expected 0 to {count - 1} as in {Path(train.labels_in).name}"
        )
    return classes


def _form(parts: Sequence[Part], size: tuple[int, int] | None) -> Form:
    """What images become, from their arrays' shapes or the pictures' headers."""
    decoded = [part for part in parts if isinstance(part.images, np.ndarray)]
    form = _form_of_arrays(decoded, size) if decoded else _form_of_pictures(parts, size)
    if np.prod(form.shape) > LARGEST:
        shown = "×".join(map(str, form.shape))
        raise TritbenchError(
            f"{parts[0].images_in}: images are {shown}, expected at most {LARGEST} values"
        )
    return form


def _form_of_arrays(parts: Sequence[Part], size: tuple[int, int] | None) -> Form:
    arrays = [np.asarray(part.images) for part in parts]
    shape, dtype = arrays[0].shape[1:], arrays[0].dtype
    for part, array in zip(parts, arrays, strict=True):
        if array.shape[1:] != shape or array.dtype != dtype:
            shown = ["x".join(map(str, s[s[0] == 1 < len(s) :])) for s in (array.shape[1:], shape)]
            raise TritbenchError(
                f"{part.images_in}: images are {shown[0]} of {array.dtype}, "
                f"expected {shown[1]} of {dtype} as in {Path(parts[0].images_in).name}"
            )
    if size is None or shape[1:] == size:
        return Form(shape, str(dtype))
    if dtype != np.uint8 or len(shape) != 3 or shape[0] not in (1, 3):
        raise TritbenchError(
            f"data.size = {list(size)}: {parts[0].images_in} holds {dtype} {list(shape)}, expected "
            "uint8 images, gray or RGB, or no size"
        )
    return Form((shape[0], *size), "uint8", resized=True)


def _form_of_pictures(parts: Sequence[Part], size: tuple[int, int] | None) -> Form:
    """Read every picture's header, and say which cannot be used before anything is decoded."""
    sizes: Counter[tuple[int, int]] = Counter()
    seen: Counter[str] = Counter()
    problems: list[str] = []
    names = hashlib.sha256()
    total = sum(len(part.images) for part in parts)
    with _progress("looking at pictures", total) as bar:
        for part in parts:
            for index in range(len(part.images)):
                bar.update()
                picture = part.images[index]
                names.update(f"{picture.name} {picture.stamp}\n".encode(errors="replace"))
                try:
                    with picture.opened() as image:
                        sizes[upright_size(image)] += 1
                        seen["gray" if is_gray(image) else "RGB"] += 1
                        seen["deep"] += is_deep(image)
                        seen["transparent"] += image.has_transparency_data
                except (TritbenchError, OSError) as error:
                    problems.append(str(error))
    if problems:
        raise TritbenchError(listed(problems, total))
    if size is None and len(sizes) > 1:
        shown = ", ".join(f"{h}×{w} ({n})" for (h, w), n in sizes.most_common(3))
        raise TritbenchError(
            f"{parts[0].images_in}: pictures of {len(sizes)} sizes, most {shown}, expected one, or "
            "data.size, which they become"
        )
    notes = [
        f"{seen[key]:,} of {total:,} images {what}"
        for key, what in (
            ("deep", "have 16 bits, of which the upper 8 are taken"),
            ("transparent", "are transparent and laid on black"),
        )
        if seen[key]
    ]
    if seen["gray"] and seen["RGB"]:
        notes.append(f"{seen['gray']:,} of {total:,} images are gray among RGB and become RGB")
    target = size or next(iter(sizes))
    channels = 3 if seen["RGB"] else 1
    resized = set(sizes) != {target}
    area = sum(height * width * count for (height, width), count in sizes.items()) // total
    shape = (channels, *target)
    return Form(shape, "uint8", resized, tuple(notes), names.hexdigest(), area)


def _write_images(path: Path, part: Part, form: Form, done: dict[str, int], label: str) -> None:
    """Write one part's array; where pictures cannot be decoded, none of the folder is of use."""
    if isinstance(part.images, np.ndarray):
        np.save(path, np.ascontiguousarray(part.images))
        return
    count, start = len(part.images), done.get(path.name, 0)
    mode: Any = "r+" if start else "w+"
    array = np.lib.format.open_memmap(path, mode, np.uint8, (count, *form.shape))
    problems: list[str] = []
    workers = os.cpu_count() if form.area > _SMALL else 1

    def decode(first: int, pictures: Sequence[Picture]) -> list[str]:
        channels, *size = form.shape
        problems = []
        for index, picture in enumerate(pictures, first):
            try:
                with picture.opened() as image:
                    array[index] = pixels_of(image, channels, (size[0], size[1]))
            except (TritbenchError, OSError) as error:
                problems.append(str(error))
        return problems

    with ThreadPoolExecutor(workers) as pool, _progress(label, count, start) as bar:
        for first in range(start, count, CHUNK):
            last = min(first + CHUNK, count)
            starts = range(first, last, _TASK)
            tasks = [[part.images[i] for i in range(s, min(s + _TASK, last))] for s in starts]
            problems += chain.from_iterable(pool.map(decode, starts, tasks))
            bar.update(last - first)
            if not problems:
                array.flush()
                done[path.name] = last
                write_atomic(path.parent / PROGRESS, json.dumps(done))
    if problems:
        (path.parent / PROGRESS).unlink(missing_ok=True)
        raise TritbenchError(listed(problems, count))


def _done(folder: Path, source: Source, form: Form) -> dict[str, Any]:
    """How many images of each array an interrupted run had decoded, of the same source and form."""
    labels = hashlib.sha256(source.train.labels.tobytes()).hexdigest()
    key = f"{form} {labels}"
    try:
        before = json.loads((folder / PROGRESS).read_text())
    except (OSError, ValueError):
        before = {}
    return before if before.get("of") == key else {"of": key}


def _progress(label: str, total: int, start: int = 0) -> Any:
    return tqdm(
        total=total,
        initial=start,
        desc=label,
        unit="image",
        disable=None,
        leave=False,
        mininterval=0.5,
    )
