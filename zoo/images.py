"""The images of a zoo that is not the pipeline's own: `python -m zoo.images PARAMS`."""

import sys
from pathlib import Path

from tritbench import data
from tritbench.errors import reported
from tritbench.params import load_params


def main(file: str) -> None:
    """Write zoo/data/NAME/ as `download` writes data/NAME/."""
    params = load_params(Path(file))
    folder = data.fetch(params.data, params.seed, into=Path("zoo/data"), program="zoo")
    about = data.read_description(folder)
    print(
        f"zoo: {folder}: {about.counts['train']} training and {about.counts['test']} test images "
        f"of {len(about.classes)} classes, from {about.source}"
    )


if __name__ == "__main__":
    with reported("zoo"):
        main(*sys.argv[1:])
