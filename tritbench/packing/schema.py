"""What a .trit file says of its network, checked key by key and from layer to layer."""

from collections.abc import Callable, Mapping
from typing import Any

from tritbench.errors import TritbenchError
from tritbench.packing.codecs import CODECS
from tritbench.shapes import LARGEST, check_chain, row_length

KEY = "tritbench"  # of the metadata
FORMAT_VERSION = 1
GRAPH_VERSION = 2
DEFAULT_CODEC = "base3"  # which a file of version 2 does not name
MOST_LAYERS = 4096

# Takes the key, dotted, and its value, which is what JSON has; refuses another than it is for.
Check = Callable[[str, Any], None]


def require_codec(name: str) -> None:
    """Refuse a codec that is not there, or of a package that cannot be used.

    Raises:
        TritbenchError: naming it.
    """
    if name not in CODECS:
        known = ", ".join(CODECS)
        raise TritbenchError(f"codec {name!r}, expected one of {known}, or a package that has it")
    _ = CODECS[name]  # now, rather than at the first array


def check_version(content: dict[str, Any]) -> int:
    """The version of the format, 1 or 2.

    Raises:
        TritbenchError: for another.
    """
    version = content.get("format_version")
    if type(version) is not int or version not in (FORMAT_VERSION, GRAPH_VERSION):
        expected = f"{FORMAT_VERSION} or {GRAPH_VERSION}"
        raise TritbenchError(f"format version {version!r:.80}, expected {expected}")
    return version


def check_about(content: dict[str, Any]) -> None:
    """Check version 1, key by key; layers without a group size get that of their whole row.

    Raises:
        TritbenchError: naming the first key that is wrong, and what it should be.
    """
    for key, check in _ABOUT.items():
        _field("", content, key, check)
    _no_more("", content, ["format_version", *_ABOUT])
    require_codec(content["codec"])
    layers = content["layers"]
    for layer in layers:
        if layer["type"] in ("linear", "conv2d"):
            layer.setdefault("group_size", row_length(layer))
    check_chain(layers, tuple(content["input"]["shape"]), len(content["classes"]))


def _refuse(key: str, value: Any, expected: str) -> None:
    match value:
        case list():
            found = f"a list of {len(value)}"
        case dict():
            found = f"an object of {len(value)}"
        case _:
            found = f"{value!r:.80}"
    raise TritbenchError(f"metadata {key} = {found}: expected {expected}")


def _integer(least: int) -> Check:
    def check(key: str, value: Any) -> None:
        if type(value) is not int or not least <= value <= LARGEST:
            _refuse(key, value, f"an integer in {least}..{LARGEST}")

    return check


def _number(least: float, most: float) -> Check:
    def check(key: str, value: Any) -> None:
        # NaN and infinity are no JSON here; `container.parse_json` refuses them.
        if type(value) not in (int, float) or not least <= value <= most:
            _refuse(key, value, f"a number in {least:g}..{most:g}")

    return check


def _text(longest: int) -> Check:
    def check(key: str, value: Any) -> None:
        if not isinstance(value, str) or len(value) > longest:
            _refuse(key, value, f"a string of at most {longest} characters")

    return check


def _list(item: Check, least: int, most: int) -> Check:
    count = f"{least}" if least == most else f"{least}..{most}"

    def check(key: str, value: Any) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            _refuse(key, value, f"a list of {count}")
        for index, part in enumerate(value):
            item(f"{key}.{index}", part)

    return check


def _mapping(fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    optional = optional or {}

    def check(key: str, value: Any) -> None:
        _object(key, value)
        for name, inner in fields.items():
            _field(f"{key}.", value, name, inner)
        for name in value.keys() & optional.keys():
            optional[name](f"{key}.{name}", value[name])
        _no_more(f"{key}.", value, [*fields, *optional])

    return check


def _object(key: str, value: Any) -> None:
    if not isinstance(value, dict):
        _refuse(key, value, "an object")


def _array(key: str, value: Any) -> None:
    if not isinstance(value, list):
        _refuse(key, value, "a list")


def _field(prefix: str, content: dict[str, Any], name: str, check: Check) -> None:
    if name not in content:
        raise TritbenchError(f"metadata {prefix}{name} is missing")
    check(f"{prefix}{name}", content[name])


def _no_more(prefix: str, content: dict[str, Any], known: list[str]) -> None:
    more = sorted(content.keys() - set(known))
    if more:
        raise TritbenchError(f"metadata {prefix}{more[0]} is no key of the format")


def _layer(key: str, value: Any) -> None:
    _object(key, value)
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _LAYERS:
        _refuse(f"{key}.type", kind, f"one of {', '.join(_LAYERS)}")
    _LAYERS[kind](key, value)


_COUNT = _integer(1)
_PAIR = _list(_COUNT, 2, 2)
_TYPE = _text(16)  # which `_layer` has looked up
_GROUP = {"group_size": _COUNT}
_WEIGHTS = {"type": _TYPE, "in": _COUNT, "out": _COUNT}
_PADDED = {"kernel": _PAIR, "stride": _PAIR, "padding": _list(_integer(0), 2, 2)}
_POOL = _mapping({"type": _TYPE, "kernel": _PAIR, "stride": _PAIR})
_PLAIN = _mapping({"type": _TYPE})
_LAYERS: dict[str, Check] = {
    "linear": _mapping(_WEIGHTS, _GROUP),
    "conv2d": _mapping(_WEIGHTS | _PADDED, _GROUP),
    "affine": _mapping({"type": _TYPE, "features": _COUNT}),
    "maxpool2d": _POOL,
    "avgpool2d": _POOL,
    "relu": _PLAIN,
    "flatten": _PLAIN,
}
_ABOUT: dict[str, Check] = {
    "codec": _text(100),
    "layers": _list(_layer, 1, MOST_LAYERS),
    "input": _mapping(
        {"shape": _list(_COUNT, 3, 3), "mean": _number(-1e6, 1e6), "std": _number(1e-6, 1e6)}
    ),
    "classes": _list(_text(1000), 1, LARGEST),
    "provenance": _object,
}
_GRAPH_ABOUT: dict[str, Check] = {
    "codec": _text(100),
    "inputs": _object,
    "nodes": _array,
    "weights": _object,
    "classes": _list(_text(1000), 1, LARGEST),
    "provenance": _object,
}
_NORMALIZATION: dict[str, Check] = {
    "mean": _list(_number(-1e6, 1e6), 1, 1024),
    "std": _list(_number(1e-6, 1e6), 1, 1024),
}


def check_graph_about(content: dict[str, Any]) -> None:
    """Check the keys of version 2, but for what `inputs`, `nodes`, `weights` and `ranges` hold.

    Raises:
        TritbenchError: naming the first key that is wrong, and what it should be.
    """
    content.setdefault("codec", DEFAULT_CODEC)
    fields = _GRAPH_ABOUT | (_NORMALIZATION if _NORMALIZATION.keys() & content.keys() else {})
    fields |= {"ranges": _array} if "ranges" in content else {}
    for key, check in fields.items():
        _field("", content, key, check)
    _no_more("", content, ["format_version", *fields])
    require_codec(content["codec"])
