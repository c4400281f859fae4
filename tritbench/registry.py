"""What a name in params.yaml stands for: a table of each kind, and what packages add to it.

A package adds to a kind by an entry point of the group `tritbench.KIND`, KIND a key of `TABLES`.
"""

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tritbench.errors import TritbenchError, reason

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

# Where each kind's names are written: files of this package, and the tables in them. Importing
# these imports PyTorch, ten times what all else takes that reads params.yaml; so whoever asks
# whether a name is there reads the source.
TABLES = {
    "ptq_methods": ("quantize/methods.py", "METHODS"),
    "qat_methods": ("quantize/fake.py", "METHODS"),
    "codecs": ("packing/codecs.py", "CODECS"),
    "peers": ("measure/peers/*.py", "PEERS", "FILE_PEERS"),
    "data_sources": ("data/sources/*.py", "SETS"),
    "networks": ("models/built_in.py", "BUILT_IN"),
}
_PACKAGE = Path(__file__).parent


class UnknownNameError(TritbenchError, KeyError):
    """Nothing has this name, or several packages register it."""

    __str__ = TritbenchError.__str__


class Registry(MutableMapping[str, T]):
    """The objects of one kind by name: those of a table, and those that packages register.

    What a package registers is loaded when it is asked for, and not before.

    Attributes:
        kind: a key of `TABLES`.
        table: the built-in ones, and those that a program has set.
    """

    def __init__(self, kind: str, of: Any, table: Mapping[str, T]) -> None:
        """`of` is the class of the objects."""
        self.kind, self.of, self.table = kind, of, dict(table)
        _REGISTRIES[kind] = self

    def __getitem__(self, name: str) -> T:
        """The object of this name.

        Raises:
            UnknownNameError: there is none, or more than one; it says which there are.
            TritbenchError: a package registers it and cannot be imported, or registers something
                else. The message names the package.
        """
        if name in self.table:
            return self.table[name]
        noun = self.kind.removesuffix("s").replace("_", " ")
        if (what := _ambiguous(self.kind, name)) is not None:
            raise UnknownNameError(f"{noun} {name!r}: expected {what}")
        try:
            return self._loaded(*_added(self.kind)[name])
        except TritbenchError as error:
            raise TritbenchError(f"{noun} {name!r}: {error}") from None

    def __setitem__(self, name: str, value: T) -> None:
        self.table[name] = value

    def __delitem__(self, name: str) -> None:
        del self.table[name]

    def __contains__(self, name: object) -> bool:
        return name in self.table or name in _added(self.kind)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.table, *_added(self.kind)]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _loaded(self, point: "EntryPoint") -> T:
        registered = f"{point.value} of {_package(point)}"
        try:
            found = point.load()
        except Exception as error:  # whatever a package does when it is imported
            why = f"{type(error).__name__}: {reason(error)}"
            raise TritbenchError(f"{registered} cannot be loaded: {why}") from None
        if not isinstance(found, self.of):
            is_a = type(found).__name__
            raise TritbenchError(f"{registered} is {is_a}, expected {self.of.__name__}")
        return found  # type: ignore[no-any-return]


_REGISTRIES: dict[str, Registry[Any]] = {}


def registry(kind: str) -> Registry[Any]:
    """The objects of a kind; imports what they are made of.

    By the name of its module, since this one lies above it: nothing is imported from there before
    a program asks for what is there.
    """
    path = TABLES[kind][0].removesuffix(".py").removesuffix("/*")
    importlib.import_module(f"tritbench.{path.replace('/', '.')}")
    return _REGISTRIES[kind]


def names(kind: str) -> list[str]:
    """Those that a kind has, packages' after the built-in ones; imports nothing.

    >>> names("qat_methods")[:3]
    ['ste', 'ttq', 'lsq']
    """
    return list(dict.fromkeys([*_own(kind), *_added(kind)]))


def expected_name(kind: str, name: object, *others: str) -> str | None:
    """What should be in place of `name`; None where it can be used.

    Only what a package registers is imported.

    Args:
        kind: a key of `TABLES`.
        name: what was found.
        others: words that may stand in its place.

    >>> expected_name("qat_methods", "magic", "none")
    "'ste', 'ttq', 'lsq' or 'none'"
    """
    if isinstance(name, str) and name in others:
        return None
    if (what := _ambiguous(kind, name, *others)) is not None or name in _own(kind):
        return what
    try:
        registry(kind)[str(name)]
    except TritbenchError as error:
        return f"one that can be used ({error})"
    return None


def entry_point(kind: str, name: str) -> "EntryPoint | None":
    """Where a package says that an object is; None for a built-in one and an unknown one."""
    points = [] if name in _own(kind) else _added(kind).get(name, [])
    return points[0] if points else None


def _ambiguous(kind: str, name: object, *others: str) -> str | None:
    """What is expected where a name does not stand for one thing."""
    own, added = _own(kind), _added(kind)
    holders = ["tritbench"] if name in own else []
    holders += [_package(point) for point in added.get(name, [])]  # type: ignore[call-overload]
    if len(holders) > 1:
        return f"a name that one package has, not {' and '.join(holders)}"
    if holders:
        return None
    *known, last = map(repr, [*own, *(name for name in added if name not in own), *others])
    return f"{', '.join(known)} or {last}"


def _own(kind: str) -> list[str]:
    """The names in this package, and those that a program has set."""
    imported = _REGISTRIES.get(kind)
    return list(dict.fromkeys([*_written(kind), *(imported.table if imported else ())]))


@cache
def _written(kind: str) -> tuple[str, ...]:
    """The keys of a kind's tables, which are dict literals, from their sources."""
    pattern, *tables = TABLES[kind]
    found: list[str] = []
    for file in sorted(_PACKAGE.glob(pattern)):
        source = file.read_text(encoding="utf-8")
        for node in ast.parse(source).body if any(f"\n{t}" in source for t in tables) else ():
            match node:
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(ast.Name(id=name)):
                    literals = (part for part in ast.walk(node) if isinstance(part, ast.Dict))
                    if name in tables and (literal := next(literals, None)):
                        found += [str(k.value) for k in literal.keys if isinstance(k, ast.Constant)]
    return tuple(found)


def _added(kind: str) -> Mapping[str, list["EntryPoint"]]:
    """What packages register, by name."""
    return _entry_points(tuple(sys.path)).get(kind, {})


@cache
def _entry_points(path: tuple[str, ...]) -> dict[str, dict[str, list["EntryPoint"]]]:
    """By kind and name those of all distributions that lie in the folders of `path`."""
    from importlib.metadata import entry_points  # as long as all else of `import tritbench.packing`

    found: dict[str, dict[str, list[EntryPoint]]] = {kind: {} for kind in TABLES}
    for kind, points in found.items():
        for point in entry_points(group=f"tritbench.{kind}"):
            points.setdefault(point.name, []).append(point)
    return found


def _package(point: "EntryPoint") -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
