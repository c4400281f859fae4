"""A sweep's file: read, expanded into points, and every point checked before anything runs."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic import model_validator as whole_model

from tritbench.errors import TritbenchError
from tritbench.files import read_yaml
from tritbench.params import Count, Params, Section, describe, parse_params

Overrides = dict[str, Any]

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


class Between(Section):
    """Numbers that Optuna chooses from, bounds included."""

    low: float
    high: float
    step: Annotated[float, Field(gt=0)] | None = None


class Optimize(Section):
    """What Optuna chooses the points from."""

    trials: Count
    storage: str | None = None  # a database URL; None: a journal file beside the sweep's file
    space: Annotated[dict[str, list[Any] | Between], Field(min_length=1)]


class SweepFile(Section):
    """All of a sweep's file."""

    run: Literal["local", "ray"] = "local"
    jobs: Count = 1
    set: Overrides = {}
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    points: list[Overrides] = []
    optimize: Optimize | None = None
    ray: RayParams = RayParams()

    @whole_model(mode="after")
    def _one_source_of_points(self) -> "SweepFile":
        if sum(map(bool, (self.grid, self.points, self.optimize))) != 1:
            raise ValueError("expected one of grid, points and optimize")
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
        return ["download", f"train_fp32@{self.model}"]


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
        return ["download", *per_model, "evaluate"]


@dataclass(frozen=True)
class Sweep:
    """A sweep's file and its points."""

    name: str
    path: Path
    settings: SweepFile
    points: list[Point]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's file and check all its points against params.yaml.

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
    grid = [
        dict(zip(settings.grid, values, strict=True)) for values in product(*settings.grid.values())
    ]
    listed = settings.points or (grid if settings.grid else [])
    return Sweep(name, path, settings, make_points(name, path, settings, listed))


def make_points(
    name: str, path: Path, settings: SweepFile, listed: Iterable[Overrides]
) -> list[Point]:
    """A checked point for each entry of `listed`; the same overrides always get the same name.

    Raises:
        TritbenchError: naming the point that is wrong or there twice.
    """
    base = read_yaml(Path("params.yaml"))
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
    in dvc.yaml is the same.
    """
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    keys = [*stages["download"]["params"], *stages["train_fp32"]["params"]]
    found: dict[str, tuple[Training, list[Point]]] = {}
    for point in points:
        content = point.params.model_dump()
        for model in point.params.models:
            values = {}
            for key in (key.replace("${item.model}", model) for key in keys):
                values[key] = _value(content, key)
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
