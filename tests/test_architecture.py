"""docs/architecture.md names every room of the package, in an order that its imports keep."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tritbench"


def rooms():
    """The names in each row of the page's table, from top to bottom."""
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.split("## Rooms")[1].split("##")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [re.findall(r"`(\w+)`", row) for row in rows]


def imported(file):
    """The rooms that a file imports from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "tritbench":
            names = [f"tritbench.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.startswith("tritbench.") and not name.endswith("__version__"):
                yield name.split(".")[1]


def test_the_page_names_every_room():
    named = {name for row in rooms() for name in row}
    found = {p.stem for p in PACKAGE.iterdir() if p.is_dir() or p.suffix == ".py"}
    assert named == {name for name in found if not name.startswith("__")}


def test_a_room_imports_from_those_above_it():
    place = {name: index for index, row in enumerate(rooms()) for name in row}
    for name, row in place.items():
        path = PACKAGE / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            assert not {other for other in imported(file) if place[other] > row}, file
