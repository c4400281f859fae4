"""Note what the other stages depend on beside this repository: `python stages/inputs.py`."""

import json
from pathlib import Path

from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.inputs import dataset_hashes, model_hashes
from tritbench.measure.machine import fingerprint
from tritbench.params import load_params
from tritbench.precision import choose

OUT = Path("inputs")


def main() -> None:
    """Write hashes of the user's images and code, the machine, and what FP32 training depends on.

    Of each network that is its entry, but for what making it ternary needs: another `ptq` leaves
    the FP32 network as it is. The precision is here so that no training in bfloat16 is brought
    back where there is none.
    """
    params = load_params()
    contents: dict[str, object] = {
        "dataset": dataset_hashes(params.data),
        "machine": fingerprint(),
    }
    for name in params.models:
        train = params.of(name).train
        contents[f"model/{name}"] = {
            "network": params.fp32_entry(name),
            "precision": choose(train.precision, train.device),
            "files": model_hashes(params.model[name], name),
        }
    for name, content in contents.items():
        write_atomic(OUT / f"{name}.json", json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    with reported("inputs"):
        main()
