"""The one training loop, for FP32 and for quantization-aware training."""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import cos, isfinite, pi

import torch
import torch.utils.deterministic
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from tqdm import tqdm

from tritbench import parallel
from tritbench.augment import Draws, augment, draw
from tritbench.data import Images
from tritbench.errors import TritbenchError
from tritbench.models import InputSpec
from tritbench.params import Params
from tritbench.precision import Precision, choose

EVALUATION_BATCH = 1000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


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


def use_device(device: str, threads: int) -> str:
    """Set PyTorch up for reproducible work and name the device: cpu, or cuda where `auto` finds it.

    `threads` are this machine's: the processes that train together share them.

    Raises:
        TritbenchError: where cuda is asked for and absent.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, 1 s sooner
    # That mode also fills new memory, so that reading it too early is seen: a fifth of all time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(max(1, threads // parallel.processes_here()))
    _keep_freed_memory()
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise TritbenchError("train.device = 'cuda': no CUDA device here; expected cpu or auto")
    if device == "auto":
        device = "cuda" if available else "cpu"
    parallel.join(device)
    return device


def _keep_freed_memory() -> None:
    """Ask glibc to keep what is freed: a tensor of megabytes otherwise goes back to the kernel and
    comes anew, page by page, at every step, which doubles the time of elementwise work."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def fit(
    model: nn.Module,
    train: Images,
    validation: Images,
    spec: InputSpec,
    recipe: Recipe,
    teacher: nn.Module | None = None,
    on_step: Callable[[int, int], None] | None = None,
    label: str = "",
) -> list[Epoch]:
    """Train `model` in place with AdamW and leave it in evaluation mode, on CPU; returns its curve.

    In a group of processes each works on its slice of every batch; all end with the same network.

    Args:
        model: parametrized weights (QAT) train like any other.
        train: uint8 pixels [n, c, h, w] and labels [n]; at least one batch.
        validation: scored after each epoch; not learned from.
        spec: how pixels are normalized.
        recipe: the hyperparameters; the same recipe gives the same bits on one machine.
        teacher: where recipe.distill is above 0, the model whose predictions are that share of the
            targets (Hinton et al., arXiv 1503.02531, at temperature 1); labels are the rest.
        on_step: called before each step with its number and the number of all steps.
        label: what the progress bar says.

    Raises:
        TritbenchError: where the loss is not finite, the images do not fill a batch, or the
            processes cannot share a batch evenly.
    """
    start = time.perf_counter()
    here = parallel.group()
    if recipe.batch_size % here.size:
        raise TritbenchError(
            f"train.batch_size = {recipe.batch_size}: expected a multiple of the {here.size} "
            "processes that train.launcher starts"
        )
    epoch_steps = steps_per_epoch(len(train), recipe)
    device = torch.device(recipe.device)
    pixels, labels = train.pixels.to(device), train.labels.to(device)
    memory_format = _memory_format(model, spec.normalize(train.pixels[:2]))
    model.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, recipe.weight_decay), recipe.learning_rate, (0.9, 0.99), fused=True
    )
    steps = epoch_steps * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_cosine(steps, recipe.warmup))
    autocast = torch.autocast(
        device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16", cache_enabled=False
    )
    taught = None
    if teacher is not None and recipe.distill > 0:
        teacher.to(device, memory_format=memory_format)  # type: ignore[call-overload]
        taught = _Teacher(teacher, pixels, labels, spec, recipe, autocast, memory_format, here)
    order = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)  # dropout and stochastic rounding
    own = here.own(recipe.batch_size)
    curve = []
    with (
        ExitStack() as hooks,
        parallel.distribute(model, here) as network,
        tqdm(
            total=steps,
            desc=label,
            unit="step",
            mininterval=0.5,
            leave=False,
            file=sys.stderr if here.size == 1 else sys.stdout,  # a launcher's errors go to stderr
            disable=here.rank > 0,
        ) as progress,
    ):
        for module in model.modules():
            if isinstance(module, nn.Flatten) and memory_format == torch.channels_last:
                hooks.enter_context(module.register_forward_pre_hook(_keep_format))
        for epoch in range(recipe.epochs):
            model.train()
            total_loss = torch.zeros((), device=device)
            correct = torch.zeros((), device=device)
            shuffled = torch.randperm(len(train), generator=order)
            for step in range(epoch_steps):
                if on_step is not None:
                    on_step(epoch * epoch_steps + step, steps)
                chosen = shuffled[step * recipe.batch_size : (step + 1) * recipe.batch_size]
                draws = draw(recipe.augment, len(chosen), order)[own]
                chosen = chosen[own]
                batch = spec.normalize(augment(pixels[chosen.to(device)], draws))
                batch = batch.contiguous(memory_format=memory_format)
                target = labels[chosen.to(device)]
                with autocast:
                    logits = network(batch).float()
                    if taught is None:
                        smoothing = recipe.label_smoothing
                        loss = F.cross_entropy(logits, target, label_smoothing=smoothing)
                    else:
                        loss = F.cross_entropy(logits, taught.targets(chosen, draws, batch))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total_loss += loss.detach()
                correct += (logits.argmax(1) == target).sum()
                progress.update()
            loss_sum, hits = here.total(torch.stack([total_loss, correct])).tolist()
            if not isfinite(loss_sum):
                raise TritbenchError(
                    f"{label}: the loss is {loss_sum} in epoch {epoch + 1}; expected a "
                    f"finite one; try a learning rate below {recipe.learning_rate}"
                )
            curve.append(
                Epoch(
                    epoch + 1,
                    loss_sum / (epoch_steps * here.size),
                    hits / (epoch_steps * recipe.batch_size),
                    *_validate(model, validation, spec, device, here),
                )
            )
            accuracy = curve[-1].val_accuracy
            progress.set_postfix(loss=f"{curve[-1].train_loss:.3f}", accuracy=f"{accuracy:.4f}")
    model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    seconds = time.perf_counter() - start
    if here.rank == 0:
        print(f"{label}: {recipe.epochs} epochs in {seconds:.1f} s, validation {accuracy:.2%}")
    return curve


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
    own = here.own(len(images))
    loss, correct = 0.0, 0
    with torch.no_grad(), parametrize.cached():
        for start in range(own.start, own.stop, EVALUATION_BATCH):
            chosen = slice(start, min(start + EVALUATION_BATCH, own.stop))
            target = images.labels[chosen].to(device)
            logits = model(spec.normalize(images.pixels[chosen].to(device)))
            loss += F.cross_entropy(logits, target, reduction="sum").item()
            correct += int((logits.argmax(1) == target).sum())
    totals = torch.tensor([loss, correct], dtype=torch.float64, device=device)
    loss, correct = here.total(totals).tolist()
    return loss / len(images), correct / len(images)


class _Teacher:
    """Targets that follow a teacher's predictions, `recipe.distill` of them, and labels.

    The predictions for every image and, with `flip`, its mirror image are taken once: in each step
    anew they would be a third of the training's time. Crops are too many for that.
    """

    def __init__(
        self,
        teacher: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        spec: InputSpec,
        recipe: Recipe,
        autocast: torch.autocast,
        memory_format: torch.memory_format,
        here: parallel.Group,
    ) -> None:
        self.model, self.labels, self.recipe = teacher, labels, recipe
        self.spec, self.autocast, self.memory_format = spec, autocast, memory_format
        self.known: Tensor | None = None  # targets [1 or 2, n, classes]
        if "crop" not in recipe.augment:
            sides = (False, True) if "flip" in recipe.augment else (False,)
            predictions = torch.stack([self._predictions(pixels, side, here) for side in sides])
            self.known = self._mixed(labels.cpu(), predictions)

    def targets(self, chosen: Tensor, draws: Draws, batch: Tensor) -> Tensor:
        """Probabilities [m, classes] for a batch [m, ...] of images, their indices and draws."""
        if self.known is not None:
            return self.known[draws.flipped.long(), chosen].to(batch.device)
        with torch.no_grad():
            predictions = self.model(batch).float().softmax(1)
        return self._mixed(self.labels[chosen.to(batch.device)], predictions)

    def _mixed(self, labels: Tensor, predictions: Tensor) -> Tensor:
        smoothing, classes = self.recipe.label_smoothing, predictions.shape[-1]
        hard = F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        return torch.lerp(hard, predictions, self.recipe.distill)

    @torch.no_grad()
    def _predictions(self, pixels: Tensor, mirrored: bool, here: parallel.Group) -> Tensor:
        logits = []
        with self.autocast:
            own = here.own(len(pixels))
            for start in range(own.start, own.stop, EVALUATION_BATCH):
                part = pixels[start : min(start + EVALUATION_BATCH, own.stop)]
                batch = self.spec.normalize(part.flip(3) if mirrored else part)
                batch = batch.contiguous(memory_format=self.memory_format)
                logits.append(self.model(batch).float())
        return here.gather(torch.cat(logits).softmax(1), len(pixels)).cpu()


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
