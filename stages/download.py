"""Bring the data set into data/NAME/: `python stages/download.py`."""

from tritbench import data
from tritbench.errors import reported
from tritbench.params import load_params


def main() -> None:
    """Write images and labels as arrays, and dataset.json."""
    params = load_params()
    folder = data.fetch(params.data, params.seed)
    about = data.read_description(folder)
    size = "x".join(map(str, about.image))
    print(
        f"download: {folder}: {about.counts['train']} training and {about.counts['test']} test "
        f"images of {len(about.classes)} classes, {size}, from {about.source}"
    )


if __name__ == "__main__":
    with reported("download"):
        main()
