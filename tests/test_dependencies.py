"""The `deps` of every dvc.yaml against what the stages' code imports."""

import ast
import subprocess
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "stages/report.py"
# They take minutes at most and import nearly all of what they name: whole folders do for them.
QUICK = {"evaluate", "report", "scenarios", "table"}


def stages():
    """Each stage with a script: its name, the script, and its dependencies."""
    own = ("inputs", "methods", "scenarios", "zoo", "zoo/cifar10")
    for name in ("dvc.yaml", *(f"{folder}/dvc.yaml" for folder in own)):
        for stage, about in YAML(typ="safe").load(ROOT / name)["stages"].items():
            flag, *words = about["cmd"].removeprefix("python ").split()
            script = f"{words[0].replace('.', '/')}.py" if flag == "-m" else flag
            always = about.get("always_changed", False)
            yield pytest.param(ROOT / script, about.get("deps", []), stage, always, id=stage)


@pytest.mark.parametrize(("script", "deps", "stage", "always"), list(stages()))
def test_a_stage_depends_on_all_that_it_imports(script, deps, stage, always):
    if always:
        return  # it needs no reason to run
    missing = {
        str(file.relative_to(ROOT))
        for file in imported(script)
        if not any(file.is_relative_to(ROOT / dep) for dep in deps)
    }
    assert not missing, f"{stage} imports what its deps do not name"


@pytest.mark.parametrize(("script", "deps", "stage", "always"), list(stages()))
def test_a_stage_depends_on_no_code_that_it_does_not_import(script, deps, stage, always):
    code = imported(script)
    for dep in deps:
        files = set(python_files(ROOT / dep))
        assert not files or files & code, f"{stage} imports nothing of {dep}"
        if stage not in QUICK:
            assert files <= code, f"{stage}: {dep} holds what it does not import: name files"


def test_a_checkout_has_the_same_line_ends_everywhere(tmp_path):
    """DVC hashes dependencies as they lie there, also where git is told to write CRLF."""
    clone = ["git", "clone", "-q", "-c", "core.autocrlf=true", ROOT, tmp_path / "clone"]
    subprocess.run(clone, check=True)
    code = [tmp_path / "clone" / file.relative_to(ROOT) for file in imported(REPORT)]
    assert not [file for file in code if file.exists() and b"\r\n" in file.read_bytes()]


def python_files(path):
    """The Python files that a dependency is or holds."""
    return [path] if path.suffix == ".py" else path.rglob("*.py") if path.is_dir() else []


def imported(script):
    """The script and every file of this repository that it imports, at once or later."""
    found = {(script, True)}
    waiting = list(found)
    while waiting:
        new = imports_of(*waiting.pop()) - found
        found |= new
        waiting += new
    return {file for file, _ in found}


@cache
def imports_of(file, whole):
    """What a file imports: pairs of a file, and whether that is used or a package passed through.

    Of a package on the way to a module (not `whole`) only what it imports at its top is run.
    """
    found = set()
    for node in nodes(ast.parse(file.read_text()), whole):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found |= sources(name)
    return found


def nodes(tree, whole):
    """The nodes that may run; none for type checkers alone, and without `whole` no function."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif whole or not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)


def sources(name):
    """The files of this repository that importing a name runs, as `imports_of` gives them."""
    parts = name.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:end])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.exists():
                found.append(file)
    # `from package import name` uses the package itself, unless the name is a module in it.
    return {(file, file == found[-1]) for file in found}
