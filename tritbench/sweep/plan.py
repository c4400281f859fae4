"""A sweep's file: read, expanded into points, and every point checked before anything runs."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, PlainValidator, ValidationError
from pydantic import model_validator as whole_model

from tritbench.errors import TritbenchError
from tritbench.files import read_yaml
from tritbench.params import Params, Section, check_threads, parse_params
from tritbench.validation import describe
from tritbench.values import Count

Overrides = dict[str, Any]

INPUTS = "inputs/dvc.yaml:inputs"  # the stage that others depend on, by its address
MAX_POINTS = 10_000  # of a file (docs/scale.md)

# Latency is never measured beside other work; `--time` measures the finalists.
UNTIMED: Overrides = {"evaluate.latency": False}


class RayParams(Section):
    """Where a Ray cluster is and what its nodes share."""

    address: str = "auto"
    git: str | None = None  # a URL that nodes clone from and push to; None: that of `origin`
    remote: str | None = None  # a DVC remote; None: the default one
    cpus: Annotated[float, Field(gt=0)] = 1  # of a node, for each point
    retries: Annotated[int, Field(ge=0)] = 3  # after a node died
    run_cache: bool = True  # of points; that of trainings always goes to the remote
    runtime_env: dict[str, Any] = {}  # handed to Ray as it is


class Range(Section):
    """Numbers from `low` to `high`, both included; in a grid by steps."""

    low: int | FiniteFloat
    high: int | FiniteFloat
    step: Annotated[int | FiniteFloat, Field(gt=0)] | None = None

    @whole_model(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError
        return self

    def values(self, key: str) -> list[int | float]:
        """The numbers by steps, exact in decimal notation.

        >>> Range(low=0.1, high=0.3, step=0.1).values("")
        [0.1, 0.2, 0.3]

        Raises:
            TritbenchError: naming `key`, where there is no step or too many of them.
        """
        if self.step is None:
            raise TritbenchError(f"{key}: expected a step; only --optimize does without")
        low, high, step = (Fraction(str(end)) for end in (self.low, self.high, self.step))
        count = (high - low) // step + 1
        if count > MAX_POINTS:
            raise TritbenchError(f"{key}: more values than {MAX_POINTS:,} points at most")
        whole = isinstance(self.low, int) and isinstance(self.step, int)
        number = int if whole else float
        return [number(low + index * step) for index in range(count)]


def _choices(value: Any) -> list[Any] | Range:
    if isinstance(value, list) and value:
        return value
    try:
        return Range.model_validate(value)
    except ValidationError:
        raise ValueError("expected a list of values, or {low, high, step} of numbers") from None


Grid = dict[str, Annotated[list[Any] | Range, PlainValidator(_choices)]]


class SweepFile(Section):
    """All of a sweep's file."""

    run: Literal["local", "ray"] = "local"
    jobs: Count = 1
    set: Overrides = {}
    grid: Grid = {}
    points: list[Overrides] = []
    study: str | None = None  # of --optimize: a database's URL; None: a file beside this one
    ray: RayParams = RayParams()

    @whole_model(mode="after")
    def _one_source_of_points(self) -> "SweepFile":
        if bool(self.grid) == bool(self.points):
            raise ValueError("expected either grid or points")
        return self


@dataclass(frozen=True)
class Training:
    """An FP32 training that points share: one network under one set of parameters."""

    name: str
    model: str
    overrides: Overrides

    @property
    def stages(self) -> list[str]:
        """The stages that bring it into DVC's cache."""
        return [INPUTS, "download", f"train_fp32@{self.model}"]


@dataclass(frozen=True)
class Point:
    """One experiment: `overrides` beside params.yaml, checked as `params`."""

    name: str
    overrides: Overrides
    params: Params

    @property
    def stages(self) -> list[str]:
        """The stages it needs, in order: no mode that it does not measure, no report."""
        modes = {"ptq": "quantize_ptq", "qat": "train_qat"}
        wanted = [stage for mode, stage in modes.items() if mode in self.params.evaluate.modes]
        per_model = [
            f"{stage}@{model}" for model in self.params.models for stage in ("train_fp32", *wanted)
        ]
        return [INPUTS, "download", *per_model, "evaluate"]


@dataclass(frozen=True)
class Sweep:
    """A sweep's file and its points."""

    name: str
    path: Path
    settings: SweepFile
    points: list[Point]


def read_sweep(path: Path, optimize: bool = False) -> Sweep:
    """Read a sweep's file and check all its points against params.yaml.

    Args:
        path: the file.
        optimize: whether the points are to be chosen from the grid. Then `points` are not all that
            there may be: each value, with the first ones of the other parameters.

    Raises:
        TritbenchError: naming the file, the key, its value and what is allowed.
    """
    content = read_yaml(path)
    try:
        settings = SweepFile.model_validate(content)
    except ValidationError as error:
        raise TritbenchError(describe(error, str(path))) from None
    name = path.stem
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise TritbenchError(f"{path}: {name!r}: expected a name of letters, digits and '-'")
    if optimize and not settings.grid:
        raise TritbenchError(f"{path}: expected a grid, which --optimize chooses from")
    if optimize:
        listed = _sides(settings.grid)
    else:
        listed = settings.points or _product(settings.grid, str(path))
    points = make_points(name, path, settings, listed)
    if settings.run == "local":
        for number, point in enumerate(points, 1):
            check_threads(point.params, f"{path}, point {number}")
    return Sweep(name, path, settings, points)


def _product(grid: Grid, origin: str) -> list[Overrides]:
    values = [
        choices.values(f"{origin}: grid.{key}") if isinstance(choices, Range) else choices
        for key, choices in grid.items()
    ]
    if math.prod(map(len, values)) > MAX_POINTS:
        sizes = " × ".join(str(len(side)) for side in values)
        raise TritbenchError(f"{origin}: grid of {sizes} points: expected at most {MAX_POINTS:,}")
    return [dict(zip(grid, chosen, strict=True)) for chosen in product(*values)]


def _sides(grid: Grid) -> list[Overrides]:
    ends = {
        key: [choices.low, choices.high] if isinstance(choices, Range) else choices
        for key, choices in grid.items()
    }
    first = {key: values[0] for key, values in ends.items()}
    others = [first | {key: value} for key, values in ends.items() for value in values[1:]]
    return [first, *others]


def make_points(
    name: str, path: Path, settings: SweepFile, listed: Iterable[Overrides]
) -> list[Point]:
    """A checked point for each entry of `listed`; the same overrides always get the same name.

    Raises:
        TritbenchError: naming the point that is wrong or there twice.
    """
    base = read_yaml(Path("params.yaml"))
    parse_params(base, "params.yaml")
    points: dict[str, Point] = {}
    for number, varied in enumerate(listed, 1):
        overrides = settings.set | varied | UNTIMED
        origin = f"{path}, point {number}"
        params = parse_params(overridden(base, overrides, origin), origin)
        point = Point(point_name(name, varied, overrides), overrides, params)
        if point.name in points:
            raise TritbenchError(f"{origin}: {varied}: expected every point once")
        points[point.name] = point
    return list(points.values())


def overridden(base: Mapping[str, Any], overrides: Overrides, origin: str) -> dict[str, Any]:
    """params.yaml's content with dotted keys replaced; only keys that are there can be.

    >>> overridden({"a": {"b": 1}}, {"a.b": 2}, "x")
    {'a': {'b': 2}}
    """
    content = deepcopy(dict(base))
    for key, value in overrides.items():
        if isinstance(value, dict):
            raise TritbenchError(f"{origin}: {key} = {value}: expected dotted keys, not a mapping")
        section: Any = content
        *parents, last = key.split(".")
        for part in parents:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise TritbenchError(f"{origin}: {key} is not a key of params.yaml")
        section[last] = value
    return content


def point_name(sweep: str, varied: Overrides, overrides: Overrides) -> str:
    """What tells the point from others for a reader, and a hash of all its overrides.

    >>> point_name("s", {"ptq.method": "gptq", "quantize.threshold": 0.5}, {})
    's-gptq-0.5-44136f'
    """
    text = json.dumps(overrides, sort_keys=True)
    words = re.findall(r"[A-Za-z0-9]+(?:\.[0-9]+)?", json.dumps(list(varied.values())))
    readable = "-".join([sweep, *words])[:60]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def trainings(points: Iterable[Point]) -> list[tuple[Training, list[Point]]]:
    """The FP32 trainings that points need, each once, with the points that need it.

    Two points share a training where every parameter of the stages `download` and `train_fp32`
    in dvc.yaml is the same, and what the network's entry says of it.
    """
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    keys = [*stages["download"]["params"], *stages["train_fp32"]["params"]]
    found: dict[str, tuple[Training, list[Point]]] = {}
    for point in points:
        content = point.params.model_dump()
        for model in point.params.models:
            values = {key: _value(content, key) for key in keys}
            values["model"] = point.params.fp32_entry(model)
            text = json.dumps([model, values], sort_keys=True)
            name = f"fp32-{model}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
            training = Training(name, model, point.overrides)
            found.setdefault(text, (training, []))[1].append(point)
    return list(found.values())


def _value(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def set_param(key: str, value: Any) -> str:
    """A `key=value` for DVC's `-S`, in Hydra's grammar.

    >>> set_param("models", ["mlp"]), set_param("data.dataset", "path:/a b"), set_param("x", None)
    ("models=['mlp']", "data.dataset='path:/a b'", 'x=null')
    """
    return f"{key}={_hydra(value)}"


def _hydra(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\") if value.endswith("\\") else value
        return "'" + escaped.replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(map(_hydra, value)) + "]"
    return json.dumps(value)
