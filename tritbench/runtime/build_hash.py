"""What the native engine is built from. setup.py runs this file as well: standard library only."""

import hashlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE / "native"
SETUP = HERE.parents[1] / "setup.py"  # its flags decide what the engine computes, and how fast


def source_hash() -> str | None:
    """Eight hex digits of the engine's sources and flags; None where they are not here.

    They lie beside the package in a checkout and not where a wheel was installed.
    """
    if not (NATIVE.is_dir() and SETUP.is_file()):
        return None
    digest = hashlib.sha256()
    for path in [*sorted(NATIVE.glob("*.cpp")), *sorted(NATIVE.glob("*.h")), SETUP]:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:8]
