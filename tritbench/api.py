"""Three lines for a network of one's own: `tritbench.quantize`, `save` and `tritbench.load`."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tritbench import runtime
from tritbench.data import Dataset, calibration_images
from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.graph import capture
from tritbench.packing import read_trit, trit_bytes
from tritbench.params import LEAST_CALIBRATION, PtqParams, QuantizeParams
from tritbench.quantize.ptq import quantize_graph
from tritbench.shapes import InputSpec
from tritbench.values import PtqMethod

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset as TorchDataset

    Images = Tensor | Dataset | TorchDataset[Any] | DataLoader[Any]

MOST = 4096  # images that are taken of a data set
_BATCH = 128


class TernaryModel:
    """A ternary network. Calling it with a batch [n, ...] gives float32 logits [n, classes].

    Attributes:
        classes: one name for each logit.
        content: the bytes of its .trit file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        network = read_trit(content, "the ternary network")
        self.classes = network.classes
        self._model = runtime.from_packed(network, 1, "auto", "int8")

    def __call__(self, images: Any) -> Any:
        """Logits [n, classes] of a tensor or an array, and of that kind.

        Args:
            images: as the network takes them; uint8 pixels where it was quantized with such.
        """
        return self._model(images)

    def save(self, path: str | Path) -> None:
        """Write a .trit file, which `tritbench.load` and `tritbench inspect` read.

        Raises:
            OSError: it cannot be written; there is all of the file or none.
        """
        write_atomic(Path(path), self.content)


def quantize(
    model: nn.Module,
    images: "Images",
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    classes: Sequence[str] | None = None,
    method: PtqMethod = "descent",
    granularity: str = "channel",
) -> TernaryModel:
    """Make the weights of every linear layer and convolution -1, 0 or +1 times a scale.

    The network is not trained; it and its weights stay as they are. Quality grows with the number
    of images, a few hundred at least; labels are not looked at.

    Args:
        model: any `nn.Module` with one input and logits [n, classes].
        images: like those that it will see, 16 or more: a tensor [n, ...], a `Dataset` of PyTorch
            or of `tritbench.data.load`, or a `DataLoader`; what they give beside an image, such as
            its label, is left. Floats are taken as the model takes them. uint8 pixels are divided
            by 255 and normalized by `mean` and `std`, then and when the result is called. Of data
            sets and loaders 4,096 images are taken.
        mean: of uint8 pixels in 0..1, one for all channels or one for each. A data set of tritbench
            has its own.
        std: likewise.
        classes: names of the logits; the default is their numbers.
        method: `threshold`, `raw`, `absmean`, `optimal`, `gptq` or `descent`: fast to accurate.
        granularity: weights that share a scale: `tensor`, `channel` (of the output) or `group:N`.

    Raises:
        TritbenchError: naming an argument, or all that keeps the network from becoming ternary.
    """
    if isinstance(images, Dataset):
        mean, std, classes = images.mean, images.std, classes or images.classes
    batches = _batches(images)
    spec = None
    if batches[0].dtype == torch.uint8:
        shape = tuple(batches[0].shape[1:])
        means, stds = (
            (float(value),) * shape[0] if isinstance(value, int | float) else tuple(value)
            for value in (mean, std)
        )
        spec = InputSpec(shape, means, stds)
        batches = [spec.normalize(batch) for batch in batches]
    graph = capture(model, batches[0])
    settings = QuantizeParams(
        threshold="auto", reference="absmean", granularity=granularity, backend="native"
    )
    ptq = PtqParams(
        method=method, calibration=LEAST_CALIBRATION, bias_correction=True, batchnorm=True
    )
    quantized = quantize_graph(graph, batches, settings, ptq)
    logits = graph.shapes()[graph.output][-1]
    names = [str(number) for number in range(logits)] if classes is None else list(classes)
    return TernaryModel(trit_bytes(quantized, spec, names, {}, calibration=batches))


def _batches(images: "Images") -> list[Tensor]:
    """The images in batches [n, ...], all of one type and shape."""
    if isinstance(images, Tensor):
        batches = list(images.detach().cpu().split(_BATCH))
    elif isinstance(images, Dataset):
        batches = list(calibration_images(images, MOST, 0).split(_BATCH))
    elif hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        step = -(-len(images) // MOST)
        chosen = (_image(images[index]) for index in range(0, len(images), max(1, step)))
        batches = [torch.stack(group) for group in _grouped(chosen)]
    else:
        batches = []
        for batch in cast(Iterable[Any], images):
            batches.append(_image(batch).detach().cpu())
            if sum(map(len, batches)) >= MOST:
                break
    count = sum(map(len, batches))
    if count < LEAST_CALIBRATION:
        raise TritbenchError(f"images: {count} given, expected at least {LEAST_CALIBRATION}")
    first = batches[0]
    for batch in batches:
        kind = batch.dtype == torch.uint8 or batch.is_floating_point()
        if batch.dtype != first.dtype or batch.shape[1:] != first.shape[1:] or not kind:
            raise TritbenchError(
                f"images: {batch.dtype} {list(batch.shape[1:])} among {first.dtype} "
                f"{list(first.shape[1:])}, expected uint8 or floats of one shape"
            )
    return batches


def _image(item: Any) -> Tensor:
    """The image of what a data set or loader gives: it, or the first of several."""
    found = item[0] if isinstance(item, tuple | list) else item
    if not isinstance(found, Tensor):
        raise TritbenchError(f"images: {type(found).__name__} given, expected tensors")
    return found


def _grouped(images: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    iterator = iter(images)
    return iter(lambda: list(itertools.islice(iterator, _BATCH)), [])
