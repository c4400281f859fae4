"""Note what the other stages depend on beside this repository: `python stages/inputs.py`."""

import json
from pathlib import Path

from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.inputs import dataset_hashes, model_hashes
from tritbench.measure.machine import fingerprint
from tritbench.params import load_params

OUT = Path("inputs")


def main() -> None:
    """Write the hashes of the user's images and code, and the machine's fingerprint."""
    params = load_params()
    contents: dict[str, object] = {
        "dataset": dataset_hashes(params.data),
        "machine": fingerprint(),
    }
    contents |= {f"model/{name}": model_hashes(params.model[name]) for name in params.models}
    for name, content in contents.items():
        write_atomic(OUT / f"{name}.json", json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    with reported("inputs"):
        main()
