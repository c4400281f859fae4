"""The parameters of params.yaml, typed and checked as a whole before any work starts."""

import importlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    StringConstraints,
    ValidationError,
)
from pydantic import model_validator as whole_model
from pydantic_core import InitErrorDetails

from tritbench.errors import TritbenchError
from tritbench.files import read_yaml
from tritbench.validation import describe, expected, shown

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Mode = Literal["fp32", "ptq", "qat"]

PeerName = Literal[
    "torch compile",
    "torch int8 dynamic",
    "onnxruntime fp32",
    "onnxruntime int8",
    "openvino fp32",
    "openvino int8",
    "tritbench int8",
    "tritbench exact",
]
AugmentName = Literal["flip", "crop", "cutout"]
Kept = Literal["int8", "float16"]
PtqMethod = Literal["threshold", "raw", "absmean", "optimal", "gptq", "descent"]

# Images that PTQ needs for BatchNorm's statistics and the covariance of a layer's inputs: one image
# has no variance at all; from 4 mlp by `descent` gives 39%, from 16 80%, from 64 87%.
LEAST_CALIBRATION = 16

# Methods whose trits are a threshold's, which `quantize.backend` applies; others round themselves.
BACKEND_METHODS = ("threshold", "raw", "absmean", "ste", "ttq")


def _threshold(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return float(value)
    raise expected("auto or a number in (0, 1]")


_Value = TypeVar("_Value", int, str)
Threshold = Annotated[float | Literal["auto"], PlainValidator(_threshold)]


def _launcher(value: object) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and shlex.split(value):
            return value
    except ValueError:  # an open quotation
        pass
    raise expected("null or a command such as torchrun --standalone --nproc-per-node 2")


Launcher = Annotated[str | None, PlainValidator(_launcher)]


def _dataset(value: str) -> str:
    """The folder's name becomes that of the data set, in tables and on terminals."""
    if not value.isprintable() or not os.path.realpath(value.removeprefix(_PATH)).isprintable():
        raise expected("printable characters")
    return value


def _size(value: object) -> tuple[int, int] | None:
    """Height and width; a number is both."""
    sides = [value, value] if isinstance(value, int) else value
    if sides is None:
        return None
    if isinstance(sides, list | tuple) and len(sides) == 2:
        height, width = sides
        if all(type(side) is int and 1 <= side <= _MOST_SIDE for side in sides):
            return height, width
    raise expected(f"null, a number of pixels or [height, width], each 1 to {_MOST_SIDE}")


def _each_once(values: list[_Value]) -> list[_Value]:
    if len(set(values)) < len(values):
        raise expected("each value once")
    return values


BUILT_IN_MODELS = ("linear", "mlp", "cnn", "resnet", "dscnn", "vit")
SECTIONS = ("train", "quantize", "ptq", "qat")  # that a network may change for itself
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_DEFAULT_THREADS = 2  # params.yaml's own, which one processor can run as well
_PATH = "path:"
_MOST_SIDE = 4096
# What `data.dataset` names beside `path:FOLDER`: drawings, four IDX files, and torchvision's.
DATASETS = (
    *("embedded", "fashion-mnist", "mnist", "kmnist"),
    *("cifar10", "cifar100", "country211", "dtd", "emnist", "eurosat", "fgvc-aircraft"),
    *("flowers102", "food101", "gtsrb", "oxford-iiit-pet", "stl10", "svhn", "usps"),
)


class Section(BaseModel):
    """A mapping of params.yaml: no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DataParams(Section):
    """Which images, from where, and how many are kept for validation."""

    dataset: Annotated[
        str,
        StringConstraints(pattern=rf"^({'|'.join(DATASETS)}|path:.+)$"),
        AfterValidator(_dataset),
    ]
    mirrors: list[Annotated[str, StringConstraints(pattern=r"^https?://.+")]]
    validation: Count
    size: Annotated[tuple[int, int] | None, BeforeValidator(_size)] = None
    image: str | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        """The name that rows, tables and `data/<name>/` carry."""
        return self.dataset if self.users_folder is None else self.users_folder.name

    @property
    def users_folder(self) -> Path | None:
        """FOLDER of `path:FOLDER`, absolute and without symbolic links."""
        if not self.dataset.startswith(_PATH):
            return None
        return Path(os.path.realpath(os.path.expanduser(self.dataset.removeprefix(_PATH))))

    @property
    def folder(self) -> Path:
        """Where `download` writes images, labels and dataset.json."""
        return Path("data") / self.name


class TrainParams(Section):
    """The training loop's settings."""

    epochs: Count
    augment: Annotated[list[AugmentName], AfterValidator(_each_once)]
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
    granularity: Annotated[str, StringConstraints(pattern=r"^(tensor|channel|group:[1-9]\d*)$")]
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

    method: Literal["ste", "ttq", "lsq"]
    start: Literal["fp32", "scratch"] | PtqMethod
    epochs: Count
    learning_rate: Positive
    distill: Share
    threshold_warmup: Annotated[int, Field(ge=0)]
    stochastic_rounding: bool
    frozen_epochs: Annotated[int, Field(ge=0)]
    frozen_first: bool


class PackingParams(Section):
    """How trits are stored in .trit files."""

    codec: Literal["base3", "2bit", "entropy", "t81"]


class EvaluateParams(Section):
    """What is measured, how latency is, and beside what."""

    modes: Annotated[list[Literal["ptq", "qat"]], Field(min_length=1)]
    latency: bool
    batch_sizes: Annotated[list[Count], Field(min_length=1), AfterValidator(_each_once)]
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
        if qat.threshold_warmup and qat.method == "lsq":
            what = "0, since qat.method = lsq learns a step and has no threshold"
            yield _problem(within + "qat.threshold_warmup", what, qat.threshold_warmup)


def _model_problems(name: str, settings: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    factory = settings.get("factory")
    if not isinstance(settings.get("weights", ""), str):
        what = "a file .safetensors, .pt or .pth"
        yield _problem(f"model.{name}.weights", what, settings["weights"])
    if "normalize" in settings and not _is_normalization(settings["normalize"]):
        what = "{mean: […], std: […]}, numbers of each channel, std above 0"
        yield _problem(f"model.{name}.normalize", what, settings["normalize"])
    if "factory" in settings or name not in BUILT_IN_MODELS:
        if not isinstance(factory, str) or not _FACTORY.fullmatch(factory):
            what = f"'package.module:name' (built in: {', '.join(BUILT_IN_MODELS)})"
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
    for key, method in methods.items():
        if method not in (*BACKEND_METHODS, "fp32", "scratch"):
            takers = ", ".join(BACKEND_METHODS)
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
