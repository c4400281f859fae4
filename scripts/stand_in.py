"""Stands in for any stage: its outputs at once, as text that differs where parameters do.

For what is about DVC and not about networks. `scripts/sweep_overhead.py` and tests copy it over
the files in `stages`, but not `inputs.py`.
"""

import json
import sys
from pathlib import Path

from ruamel.yaml import YAML


def main(stage: str, model: str) -> None:
    """Write all outputs that dvc.yaml declares for a stage; `model` is empty where it has none."""
    text = Path("params.yaml").read_text()
    declared = YAML(typ="safe").load(Path("dvc.yaml"))["stages"][stage]
    outputs = [entry for kind in ("outs", "metrics", "plots") for entry in declared.get(kind, [])]
    for output in outputs:
        name = output if isinstance(output, str) else next(iter(output))
        path = Path(name.replace("${item.model}", model))
        if not path.suffix:  # a folder
            path /= "content"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(path, text))


def content(path: Path, text: str) -> str:
    """A file's content: `text`, in the form in which DVC or a sweep reads it."""
    if path.name == "quantization_runs.csv":
        return (
            "model,mode,accuracy,bytes,test_accuracy,file_bytes\n"
            "linear,fp32,0.9,1000,0.9,1000\nlinear,ptq,0.8,100,0.8,100\n"
        )
    return json.dumps({"params": text}) if path.suffix == ".json" else text


if __name__ == "__main__":
    main(Path(sys.argv[0]).stem, sys.argv[1] if len(sys.argv) > 1 else "")
