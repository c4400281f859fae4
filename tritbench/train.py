"""The one training loop, for FP32 and for quantization-aware training."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from math import cos, isfinite, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from tqdm import tqdm

from tritbench import parallel
from tritbench.augment import augment, draw
from tritbench.cuda_graph import Replayed
from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.models import InputSpec
from tritbench.params import Params
from tritbench.precision import Precision, choose
from tritbench.soft_targets import SoftTargets
from tritbench.training_state import TrainingState, identity

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Recipe:
    """How one network is trained; warmup is the share of steps before the peak learning rate."""

    epochs: int
    learning_rate: float
    batch_size: int = 128
    weight_decay: float = 0.0
    warmup: float = 0.1
    augment: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    precision: Precision = "float32"
    distill: float = 0.0
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """One row of a training curve; losses are mean cross-entropies, accuracies shares of 1."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


def recipe(params: Params, device: str) -> Recipe:
    """The FP32 recipe of a network, whose parameters `Params.of` gives, on the device that
    `use_device` named."""
    train = params.train
    return Recipe(
        epochs=train.epochs,
        learning_rate=train.learning_rate,
        batch_size=train.batch_size,
        weight_decay=train.weight_decay,
        warmup=train.warmup,
        augment=tuple(train.augment),
        label_smoothing=train.label_smoothing,
        precision=choose(train.precision, device),
        device=device,
        seed=params.seed,
    )


def qat_recipe(params: Params, device: str) -> Recipe:
    """The recipe of quantization-aware training: FP32's, with the settings in `qat`."""
    qat = params.qat
    return replace(
        recipe(params, device),
        epochs=qat.epochs,
        learning_rate=qat.learning_rate,
        distill=qat.distill,
    )


def score(model: nn.Module, train: Images, validation: Images, spec: InputSpec) -> Epoch:
    """An epoch 0: what a network gives that is not trained here, in evaluation mode."""
    alone, cpu = parallel.Group(), torch.device("cpu")
    trained, held_out = (_validate(model, part, spec, cpu, alone) for part in (train, validation))
    return Epoch(0, *trained, *held_out)


def fit(
    model: nn.Module,
    train: Images,
    validation: Images,
    spec: InputSpec,
    recipe: Recipe,
    teacher: nn.Module | None = None,
    on_step: Callable[[int, int], bool] | None = None,
    label: str = "",
    keep: Path | None = None,
    settings: Sequence[object] = (),
) -> list[Epoch]:
    """Train `model` in place with AdamW and leave it in evaluation mode, on CPU; returns its curve.

    In a group of processes each works on its shard of every batch; all end with the same network.

    Args:
        model: parametrized weights (QAT) train like any other.
        train: uint8 pixels [n, c, h, w] and labels [n]; at least one batch.
        validation: scored after each epoch; not learned from.
        spec: how pixels are normalized.
        recipe: the hyperparameters; the same recipe gives the same bits on one machine.
        teacher: where recipe.distill is above 0, the model whose predictions are that share of the
            targets; labels are the rest.
        on_step: called before each step with its number and the number of all steps; says whether
            it has changed what the network computes by other means than its parameters.
        label: what the progress bar says.
        keep: file that holds the training after each epoch while it lasts; where it holds this one,
            from an earlier call that did not come to its end, training goes on from there.
        settings: what the training depends on beside the other arguments.

    Raises:
        TritbenchError: where the loss is not finite, the images do not fill a batch, or the
            processes cannot share a batch evenly.
    """
    begin = time.perf_counter()
    here = parallel.group()
    _require_equal_shards(recipe, here)
    per_epoch = steps_per_epoch(len(train), recipe)
    teacher = teacher if recipe.distill > 0 else None
    depends_on = (recipe, spec, here.size, *settings)
    key = "" if keep is None else identity(model, train, teacher, depends_on)
    loop = _Loop(model, train, spec, recipe, teacher, here, per_epoch)
    state = None if keep is None else TrainingState(keep, key, model, loop.optimizer, loop.order)
    curve = _resumed(state, loop)
    with loop.running(label, len(curve)) as progress:
        for epoch in range(len(curve), recipe.epochs):
            loss, accuracy = loop.epoch(epoch, on_step, progress)
            if not isfinite(loss):
                raise TritbenchError(
                    f"{label}: the loss is {loss} in epoch {epoch + 1}; expected a finite one; "
                    f"try a learning rate below {recipe.learning_rate}"
                )
            held_out = _validate(model, validation, spec, loop.device, here)
            curve.append(Epoch(epoch + 1, loss, accuracy, *held_out))
            progress.set_postfix(loss=f"{loss:.3f}", accuracy=f"{held_out[1]:.4f}")
            if state is not None and here.rank == 0:
                state.save(curve)
    model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    if here.rank == 0:
        if state is not None:
            state.remove()
        seconds, accuracy = time.perf_counter() - begin, curve[-1].val_accuracy
        print(f"{label}: {recipe.epochs} epochs in {seconds:.1f} s, validation {accuracy:.2%}")
    return curve


def _require_equal_shards(recipe: Recipe, here: parallel.Group) -> None:
    if recipe.batch_size % here.size:
        raise TritbenchError(
            f"train.batch_size = {recipe.batch_size}: expected a multiple of the {here.size} "
            "processes that train.launcher starts"
        )


def _resumed(state: TrainingState | None, loop: "_Loop") -> list[Epoch]:
    """The curve so far of a training that goes on; the same for all processes, or an error."""
    curve = [] if state is None else [Epoch(**row) for row in state.load()]
    done = torch.tensor([float(len(curve))], device=loop.device)
    if loop.here.all_reduce(done).item() != loop.here.size * len(curve):
        where = None if state is None else state.file
        raise TritbenchError(f"{where}: not the same for all processes; expected one, or none")
    return curve


class _Loop:
    """The steps of a training.

    Attributes:
        device: that the model is on.
        optimizer: AdamW; weights decay, vectors do not.
        order: of the images, and of what is drawn for each.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Images,
        spec: InputSpec,
        recipe: Recipe,
        teacher: nn.Module | None,
        here: parallel.Group,
        steps: int,
    ) -> None:
        self.model, self.spec, self.recipe, self.here, self.steps = model, spec, recipe, here, steps
        self.device = torch.device(recipe.device)
        self.pixels, self.labels = train.pixels.to(self.device), train.labels.to(self.device)
        self.memory_format = _memory_format(model, spec.normalize(train.pixels[:2]))
        model.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        groups = _parameter_groups(model, recipe.weight_decay)
        graphed = self.device.type == "cuda" and here.size == 1
        # A CUDA graph reads the learning rate from memory.
        rate = torch.tensor(recipe.learning_rate, device=self.device) if graphed else 0.0
        self.optimizer = torch.optim.AdamW(
            groups, rate, (0.9, 0.99), fused=True, capturable=graphed
        )
        self.learn = Replayed(self._learn, possible=graphed)
        self.factor = _warmup_cosine(steps * recipe.epochs, recipe.warmup)
        bfloat16 = recipe.precision == "bfloat16"
        self.autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False
        )
        self.soft_targets = None
        if teacher is not None:
            teacher.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload]
            self.soft_targets = SoftTargets(
                teacher,
                self.pixels,
                self.labels,
                spec,
                recipe.distill,
                recipe.label_smoothing,
                recipe.augment,
                self.autocast,
                self.memory_format,
                here,
            )
        self.order = torch.Generator().manual_seed(recipe.seed)
        torch.manual_seed(recipe.seed)  # dropout and stochastic rounding

    @contextmanager
    def running(self, label: str, done: int) -> Iterator[Any]:
        """The model shared among the processes, and a progress bar that begins after `done`
        epochs."""
        with (
            ExitStack() as hooks,
            parallel.distribute(self.model, self.here) as self.network,
            tqdm(
                total=self.steps * self.recipe.epochs,
                initial=self.steps * done,
                desc=label,
                unit="step",
                mininterval=0.5,
                leave=False,
                # A launcher's errors go to stderr.
                file=sys.stderr if self.here.size == 1 else sys.stdout,
                disable=self.here.rank > 0,
            ) as progress,
        ):
            for module in self.model.modules():
                if isinstance(module, nn.Flatten) and self.memory_format == torch.channels_last:
                    hooks.enter_context(module.register_forward_pre_hook(_keep_format))
            if done:
                progress.write(f"{label}: goes on after epoch {done}", file=sys.stderr)
            yield progress

    def epoch(
        self, epoch: int, on_step: Callable[[int, int], bool] | None, progress: Any
    ) -> tuple[float, float]:
        """Every training image once, in whole batches; the mean loss and the accuracy."""
        recipe, here = self.recipe, self.here
        shard = here.shard(recipe.batch_size)
        self.model.train()
        totals = torch.zeros(2, device=self.device)  # of losses, and of hits
        shuffled = torch.randperm(len(self.labels), generator=self.order)
        for index in range(self.steps):
            step = epoch * self.steps + index
            if on_step is not None and on_step(step, self.steps * recipe.epochs):
                self.learn.forget()
            chosen = shuffled[index * recipe.batch_size : (index + 1) * recipe.batch_size]
            draws = draw(recipe.augment, len(chosen), self.order)[shard]
            chosen = chosen[shard]
            batch = self.spec.normalize(augment(self.pixels[chosen.to(self.device)], draws))
            batch = batch.contiguous(memory_format=self.memory_format)
            labels = self.labels[chosen.to(self.device)]
            soft = None if self.soft_targets is None else self.soft_targets.known(chosen, draws)
            self._set_learning_rate(recipe.learning_rate * self.factor(step))
            totals += torch.stack(self.learn(batch, labels, *(() if soft is None else (soft,))))
            progress.update()
        loss_sum, hits = here.all_reduce(totals).tolist()
        return loss_sum / (self.steps * here.size), hits / (self.steps * recipe.batch_size)

    def _learn(self, batch: Tensor, labels: Tensor, *soft: Tensor) -> tuple[Tensor, Tensor]:
        """One step on a batch, its labels and, where they are known, its soft targets; its loss and
        the number of hits."""
        self.optimizer.zero_grad()
        with self.autocast:
            logits = self.network(batch).float()
            if self.soft_targets is None:
                smoothing = self.recipe.label_smoothing
                loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            else:
                targets = soft[0] if soft else self.soft_targets.of(batch, labels)
                loss = F.cross_entropy(logits, targets)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _set_learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Whole batches in `images` images; what is left over waits for another epoch.

    Raises:
        TritbenchError: where they do not fill one.
    """
    if images < recipe.batch_size:
        raise TritbenchError(
            f"train.batch_size = {recipe.batch_size}: expected at most the {images} training images"
        )
    return images // recipe.batch_size


def curve_csv(curve: list[Epoch]) -> str:
    """The curve as CSV for `dvc plots`."""
    rows = [asdict(epoch) for epoch in curve]
    lines = [",".join(rows[0])]
    for row in rows:
        lines.append(",".join(str(v) if isinstance(v, int) else f"{v:.5f}" for v in row.values()))
    return "\n".join(lines) + "\n"


def _validate(
    model: nn.Module,
    images: Images,
    spec: InputSpec,
    device: torch.device,
    here: parallel.Group,
) -> tuple[float, float]:
    model.eval()
    shard = here.shard(len(images))
    loss, correct = 0.0, 0
    with torch.no_grad(), parametrize.cached():
        for start in range(shard.start, shard.stop, EVALUATION_BATCH):
            chosen = slice(start, min(start + EVALUATION_BATCH, shard.stop))
            target = images.labels[chosen].to(device)
            logits = model(spec.normalize(images.pixels[chosen].to(device)))
            loss += F.cross_entropy(logits, target, reduction="sum").item()
            correct += int((logits.argmax(1) == target).sum())
    totals = torch.tensor([loss, correct], dtype=torch.float64, device=device)
    loss, correct = here.all_reduce(totals).tolist()
    return loss / len(images), correct / len(images)


def _keep_format(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Bring a flattened image's gradient into its format: pooling would copy far larger ones."""
    if inputs[0].requires_grad and inputs[0].dim() == 4:
        inputs[0].register_hook(lambda g: g.contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def _memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """channels_last where there are convolutions, which then take half the time, and where all else
    takes it: a `view` of an image may not."""
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        training = {module: module.training for module in model.modules()}
        try:
            model.eval()(images.contiguous(memory_format=torch.channels_last))
            return torch.channels_last
        except RuntimeError:
            pass
        finally:
            for module, mode in training.items():
                module.training = mode
    return torch.contiguous_format


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    learned = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learned if p.dim() > 1]
    vectors = [p for p in learned if p.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    rising = max(1, int(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + cos(pi * (step - rising) / max(1, steps - rising)))

    return factor
