"""What a sweep costs beyond its stages: N points whose stages do nothing. docs/scale.md shows it.

python scripts/sweep_overhead.py [--points 200] [--jobs 2]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tritbench.errors import reported

STAND_IN = Path(__file__).with_name("stand_in.py")


def main(points: int, jobs: int) -> None:
    """Print seconds a point, of the rerun, and what git and the cache hold afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        run(Path(), "git", "clone", "-q", ".", str(clone))
        for stage in (clone / "stages").glob("*.py"):
            if stage.stem != "inputs":  # on which the others depend, and quick as it is
                shutil.copy(STAND_IN, stage)
        (clone / "sweeps/trivial.yaml").write_text(sweep(points, jobs))
        run(clone, "git", "rm", "-q", "--cached", "dvc.lock")
        run(clone, "git", "add", "-A")
        run(clone, "git", *IDENTITY, "commit", "-qm", "stages that do nothing")
        tritbench = [str(Path(sys.executable).parent / "tritbench"), "sweep", "sweeps/trivial.yaml"]
        for what, number in (("first run", points), ("rerun", 1)):
            start = time.perf_counter()
            run(clone, *tritbench)
            seconds = time.perf_counter() - start
            print(f"{what}: {seconds:.1f} s, {seconds / number:.2f} s a point", flush=True)
        start = time.perf_counter()
        run(clone, sys.executable, "stages/quantize_ptq.py", "linear")
        run(clone, sys.executable, "stages/evaluate.py")
        print(f"of which the two stages alone: {time.perf_counter() - start:.2f} s a point")
        for part in (".git", ".dvc/cache"):
            files = [path for path in (clone / part).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            print(f"{part}: {len(files)} files, {size / 1e6:.1f} MB")


IDENTITY = ("-c", "user.name=overhead", "-c", "user.email=overhead@localhost")


def sweep(points: int, jobs: int) -> str:
    """A sweep's file with that many points, which share one training."""
    thresholds = [round((number + 1) / points, 6) for number in range(points)]
    fixed = "{models: [linear], evaluate.modes: [ptq], data.dataset: embedded}"
    return f"jobs: {jobs}\nset: {fixed}\ngrid:\n  quantize.threshold: {thresholds}\n"


def run(folder: Path, *command: str) -> None:
    """Run a command; what it prints is shown only if it fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}{result.stderr}")


if __name__ == "__main__":
    with reported("sweep_overhead"):
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--points", type=int, default=200)
        parser.add_argument("--jobs", type=int, default=2)
        flags = parser.parse_args()
        main(flags.points, flags.jobs)
