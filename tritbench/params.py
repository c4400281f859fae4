"""The parameters of params.yaml, typed and checked as a whole before any work starts."""

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic import model_validator as whole_model
from pydantic_core import InitErrorDetails

from tritbench.errors import TritbenchError
from tritbench.files import read_yaml
from tritbench.registry import names, registry
from tritbench.validation import describe, expected, shown
from tritbench.values import (
    AugmentName,
    CodecName,
    Count,
    Dataset,
    EachOnce,
    Granularity,
    Kept,
    Launcher,
    Mirror,
    Name,
    NotNegative,
    PeerName,
    Positive,
    PtqMethod,
    QatMethod,
    QatStart,
    Share,
    Size,
    Threshold,
    in_folder,
)

# Images that PTQ needs for BatchNorm's statistics and the covariance of a layer's inputs: one image
# has no variance at all; from 4 mlp by `descent` gives 39%, from 16 80%, from 64 87%.
LEAST_CALIBRATION = 16
SECTIONS = ("train", "quantize", "ptq", "qat")  # that a network may change for itself
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_DEFAULT_THREADS = 2  # params.yaml's own, which one processor can run as well


class Section(BaseModel):
    """A mapping of params.yaml: no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataParams(Section):
    """Which images, from where, and how many are kept for validation."""

    dataset: Dataset
    mirrors: list[Mirror]
    validation: Count
    size: Size = None
    image: str | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        """The name that rows, tables and `data/<name>/` carry."""
        return self.dataset if self.users_folder is None else self.users_folder.name

    @property
    def users_folder(self) -> Path | None:
        """FOLDER of `path:FOLDER`, absolute and without symbolic links."""
        folder = in_folder(self.dataset)
        return None if folder is None else Path(folder)

    @property
    def folder(self) -> Path:
        """Where `download` writes images, labels and dataset.json."""
        return Path("data") / self.name


class TrainParams(Section):
    """The training loop's settings."""

    epochs: Count
    augment: Annotated[list[AugmentName], EachOnce]
    label_smoothing: Share
    precision: Literal["auto", "float32", "bfloat16"]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    weight_decay: NotNegative
    warmup: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    device: Literal["cpu", "cuda", "auto"]
    threads: Count
    launcher: Launcher


class QuantizeParams(Section):
    """What PTQ and QAT share: where the threshold lies and how many weights share a scale."""

    threshold: Threshold
    reference: Literal["raw", "absmax", "absmean"]
    granularity: Granularity
    backend: Literal["native", "t81lib"]
    keep: dict[str, Kept] = {}

    @property
    def group_size(self) -> int | None:
        """N of `group:N`."""
        kind, _, size = self.granularity.partition(":")
        return int(size) if kind == "group" else None


class PtqParams(Section):
    """Post-training quantization."""

    method: PtqMethod
    calibration: Annotated[int, Field(ge=LEAST_CALIBRATION)]
    bias_correction: bool
    batchnorm: bool
    reconstruct: Annotated[int, Field(ge=0)] = 0


class QatParams(Section):
    """Quantization-aware training."""

    method: QatMethod
    start: QatStart
    epochs: Count
    learning_rate: Positive
    distill: Share
    threshold_warmup: Annotated[int, Field(ge=0)]
    stochastic_rounding: bool
    frozen_epochs: Annotated[int, Field(ge=0)]
    frozen_first: bool


class PackingParams(Section):
    """How trits are stored in .trit files."""

    codec: CodecName


class EvaluateParams(Section):
    """What is measured, how latency is, and beside what."""

    modes: Annotated[list[Literal["ptq", "qat"]], Field(min_length=1)]
    latency: bool
    batch_sizes: Annotated[list[Count], Field(min_length=1), EachOnce]
    threads: Count
    min_run_time: Positive
    min_runs: Count
    processes: Annotated[int, Field(ge=0)] = 10
    peers: list[PeerName]


class GatesParams(Section):
    """What `tritbench compare` lets a change cost before it fails."""

    accuracy_drop: NotNegative
    bytes_growth: NotNegative
    speedup_floor: NotNegative


class ReportParams(Section):
    """What the report shows, and what a change may cost."""

    title: Annotated[str, Field(min_length=1)]
    gates: GatesParams


class Params(Section):
    """All of params.yaml."""

    models: Annotated[list[Name], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    data: DataParams
    model: dict[Name, dict[str, JsonValue]]
    train: TrainParams
    quantize: QuantizeParams
    ptq: PtqParams
    qat: QatParams
    packing: PackingParams
    evaluate: EvaluateParams
    report: ReportParams

    def of(self, name: str) -> "Params":
        """The parameters of one network: what its entry under `model` says in sections `train`,
        `quantize`, `ptq` and `qat` takes the place of what they say of all.

        In the result, `model` holds this network alone, without the sections.
        """
        own = self.model[name]
        changed: dict[str, Any] = {
            key: type(section).model_validate(section.model_dump() | own[key])
            for key in SECTIONS
            if key in own and (section := getattr(self, key))
        }
        network = {key: value for key, value in own.items() if key not in SECTIONS}
        return self.model_copy(update={**changed, "model": {name: network}})

    def fp32_entry(self, name: str) -> dict[str, JsonValue]:
        """What a network's entry says of its FP32 training: all but how it becomes ternary."""
        return {k: v for k, v in self.model[name].items() if k not in ("quantize", "ptq", "qat")}

    @whole_model(mode="after")
    def _agree(self) -> "Params":
        problems = [*self._models_disagree(), *self._settings_disagree()]
        for name in () if problems else self.models:
            problems += self.of(name)._settings_disagree(f"model.{name}.")
        if problems:
            raise ValidationError.from_exception_data("params", problems)
        return self

    def _models_disagree(self) -> Iterator[InitErrorDetails]:
        if len({name.lower() for name in self.models}) < len(self.models):
            # Their folders would be one where file names know no case.
            yield _problem("models", "each model once, whatever its case", self.models)
        for name in self.models:
            if name not in self.model:
                yield _problem(f"model.{name}", "an entry for this model", None)
            yield from _model_problems(name, self.model.get(name, {}))
            for key in SECTIONS:
                yield from self._section_problems(name, key)

    def _section_problems(self, name: str, key: str) -> Iterator[InitErrorDetails]:
        """What is wrong with one section of a network's entry."""
        own, section = self.model.get(name, {}).get(key, {}), getattr(self, key)
        if not isinstance(own, dict):
            yield _problem(f"model.{name}.{key}", "a mapping, as the section of that name", own)
            return
        try:
            type(section).model_validate(section.model_dump() | own)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                context = detail.get("ctx", {})
                custom = expected(context["what"]) if detail["type"] == "expected" else None
                yield InitErrorDetails(
                    type=custom or detail["type"],
                    loc=("model", name, key, *detail["loc"]),
                    input=detail["input"],
                    ctx=context,
                )

    def _settings_disagree(self, within: str = "") -> Iterator[InitErrorDetails]:
        qat, backend = self.qat, self.quantize.backend
        methods = {"ptq.method": self.ptq.method, "qat.method": qat.method, "qat.start": qat.start}
        if (what := expected_backend(backend, methods)) is not None:
            yield _problem(within + "quantize.backend", what, backend)
        if qat.frozen_epochs > qat.epochs:
            what = f"at most qat.epochs = {qat.epochs}"
            yield _problem(within + "qat.frozen_epochs", what, qat.frozen_epochs)
        if qat.threshold_warmup and not registry("qat_methods")[qat.method].has_threshold:
            what = f"0, since qat.method = {qat.method} has no threshold"
            yield _problem(within + "qat.threshold_warmup", what, qat.threshold_warmup)


def _model_problems(name: str, settings: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    factory = settings.get("factory")
    if not isinstance(settings.get("weights", ""), str):
        what = "a file .safetensors, .pt or .pth"
        yield _problem(f"model.{name}.weights", what, settings["weights"])
    if "normalize" in settings and not _is_normalization(settings["normalize"]):
        what = "{mean: […], std: […]}, numbers of each channel, std above 0"
        yield _problem(f"model.{name}.normalize", what, settings["normalize"])
    if "factory" in settings or name not in names("networks"):
        if not isinstance(factory, str) or not _FACTORY.fullmatch(factory):
            what = f"'package.module:name' (built in: {', '.join(names('networks'))})"
            yield _problem(f"model.{name}.factory", what, factory)
        return
    for setting, value in settings.items():  # widths and depths
        if setting in (*SECTIONS, "normalize"):
            continue
        for index, number in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(number, int | float) and not number > 0:
                at = f".{index}" if isinstance(value, list) else ""
                yield _problem(f"model.{name}.{setting}{at}", "more than 0", number)


def _is_normalization(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"mean", "std"}:
        return False
    lists = [part for part in value.values() if isinstance(part, list) and part]
    numbers = all(isinstance(n, int | float) for part in lists for n in part)
    return len(lists) == 2 and numbers and all(n > 0 for n in value["std"])


def expected_backend(backend: str, methods: Mapping[str, str]) -> str | None:
    """What `quantize.backend` should be for methods by their keys; None where it is right."""
    if backend == "native":
        return None
    ptq, qat = registry("ptq_methods"), registry("qat_methods")
    for key, method in methods.items():
        kind = qat if key == "qat.method" else ptq
        if method not in ("fp32", "scratch") and not kind[method].has_threshold:
            tables = (*ptq.table.items(), *qat.table.items())
            takers = ", ".join(name for name, taker in tables if taker.has_threshold)
            return f"native, since {key} = {method} does not use it (those that do: {takers})"
    try:
        importlib.import_module(backend)
    except ImportError as error:
        return f"native, or {backend} installed (it cannot be imported: {error})"
    return None


def _problem(key: str, what: str, value: object) -> InitErrorDetails:
    return InitErrorDetails(type=expected(what), loc=tuple(key.split(".")), input=value)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml, for this machine; paths in it are relative to the working folder.

    Raises:
        TritbenchError: naming every wrong key, its value and what is allowed.
    """
    if not path.exists():
        raise TritbenchError(f"{path}: no such file; run from the repository's root")
    params = parse_params(read_yaml(path), str(path))
    check_threads(params, str(path))
    return params


def check_threads(params: Params, origin: str) -> None:
    """Check that this machine can run the threads asked for: PyTorch ends the process otherwise.

    Raises:
        TritbenchError: naming the keys.
    """
    processors = os.cpu_count() or 1
    allowed = max(processors, _DEFAULT_THREADS)
    asked = {"train": params.train.threads, "evaluate": params.evaluate.threads}
    problems = [
        f"{section}.threads = {threads}: expected at most {allowed}"
        for section, threads in asked.items()
        if threads > allowed
    ]
    if problems:
        here = f"this machine has {processors} processors"
        raise TritbenchError(f"{origin}: {'; '.join(problems)} ({here})")


def read_preset(name: str) -> list[str]:
    """The changes to params.yaml in presets/NAME.yaml, as `key=value`.

    Raises:
        TritbenchError: where there is no such preset.
    """
    path = Path("presets") / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise TritbenchError(f"{path}: no such preset, expected one of {known}")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise TritbenchError(f"{path}: {shown(content)}: expected a mapping of parameters")
    return [f"{key}={value}" for key, value in content.items()]


def parse_params(content: object, origin: str = "params") -> Params:
    """Check a params.yaml's content, already read.

    Raises:
        TritbenchError: naming every wrong key, its value and what is allowed.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise TritbenchError(describe(error, origin)) from None
