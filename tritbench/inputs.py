"""What a run depends on that dvc.yaml cannot name: a user's images, a user's code.

The stage `inputs` writes these hashes at every run, and DVC reruns what they changed for.
"""

import ast
import contextlib
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from tritbench.files import sha256
from tritbench.params import DataParams
from tritbench.registry import entry_point

Hashes = dict[str, str]  # SHA-256 by the name of a file, module or parameter


def dataset_hashes(params: DataParams) -> Hashes:
    """The files of `path:FOLDER`, by name; empty for a published data set, whose bytes are known.

    Of a source that a user's package registers these are its modules. A folder in FOLDER has one
    hash of the names, sizes and times of all files below, which may be millions. Where FOLDER is
    not there, `download` says what is wrong with it.
    """
    folder = params.users_folder
    found = sorted(folder.iterdir()) if folder and os.path.isdir(folder) else []
    files = {file.name: sha256(file) for file in found if file.is_file()}
    files |= {f"{child.name}/": _tree_hash(child) for child in found if child.is_dir()}
    registered = entry_point("data_sources", params.dataset)
    return files | (_module_hashes(registered.module) if registered else {})


def _tree_hash(folder: Path) -> str:
    listing = hashlib.sha256()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(place, file)
            with contextlib.suppress(OSError):  # a broken link
                found = os.stat(path)
                line = f"{os.path.relpath(path, folder)} {found.st_size} {found.st_mtime_ns}\n"
                listing.update(line.encode(errors="surrogateescape"))
    return listing.hexdigest()


def model_hashes(settings: Mapping[str, Any], name: str = "") -> Hashes:
    """What makes a network beside its parameters; empty for a built-in one.

    These are the module of its factory, or of the package that registers it, and every module of
    the user's that this one imports, directly or not, by name; and each file that a setting names,
    by the setting. Installed packages are not the user's, and nothing is imported to find out.

    Args:
        settings: of `model.NAME` in params.yaml.
        name: NAME.
    """
    found = {f"{key}=": sha256(Path(v)) for key, v in settings.items() if _is_file(v)}
    factory, registered = settings.get("factory"), entry_point("networks", name)
    if isinstance(factory, str):
        found |= _module_hashes(factory.partition(":")[0])
    elif registered is not None:
        found |= _module_hashes(registered.module)
    return dict(sorted(found.items()))


def _module_hashes(module: str) -> Hashes:
    """A module of the user's, and all of the user's that it imports."""
    found: Hashes = {}
    waiting = [module]
    while waiting:
        module = waiting.pop()
        for name, path in _sources(module):
            if name not in found:
                found[name] = sha256(path)
                waiting += _imports(name, path)
    return found


def _is_file(value: object) -> bool:
    try:
        return isinstance(value, str) and Path(value).is_file()
    except (OSError, ValueError):  # too long, or with a NUL: no name of a file
        return False


def _sources(module: str) -> Iterator[tuple[str, Path]]:
    """The user's source files that importing a module runs: its packages' and its own."""
    top, *parts = module.split(".")
    spec = _find(top)
    if spec is None:
        return
    if _is_file(spec.origin) and _is_users(path := Path(str(spec.origin))):
        yield top, path
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    for end, part in enumerate(parts, 2):
        within = [folder / part for folder in folders]
        files = [file for base in within for file in (base / "__init__.py", Path(f"{base}.py"))]
        file = next(filter(Path.is_file, files), None)
        if file and _is_users(file):
            yield ".".join(module.split(".")[:end]), file
        folders = [file.parent] if file and file.name == "__init__.py" else within


def _find(top: str) -> ModuleSpec | None:
    """Where a module that is in no package lies; it is not imported."""
    places = ["", *sys.path]  # as `tritbench.models` looks for a factory
    found = (finder.find_spec(top, places) for finder in sys.meta_path if top.isidentifier())
    return next(filter(None, found), None)


def _is_users(path: Path) -> bool:
    path = path.resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    own = Path(__file__).resolve().parent
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    return not (installed or path.is_relative_to(own) or path.is_relative_to(standard))


def _imports(module: str, path: Path) -> list[str]:
    """What a module imports, wherever it does: names of modules, some of which may be none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []  # the stage that imports it says what is wrong
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found
