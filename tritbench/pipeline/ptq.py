"""Post-training quantization of a checkpoint."""

from tritbench import data
from tritbench.data import Dataset
from tritbench.devices import use_device
from tritbench.graph import Graph
from tritbench.models import InputSpec
from tritbench.params import Params
from tritbench.quantize import Quantized
from tritbench.quantize import quantize_ptq as quantize


def quantize_ptq(
    params: Params, name: str, dataset: Dataset, graph: Graph, spec: InputSpec
) -> Quantized:
    """Make a trained network ternary without labels, on images of the training split.

    Raises:
        TritbenchError: as `tritbench.quantize.quantize_ptq`.
    """
    own = params.of(name)
    device = use_device(own.train.device, own.train.threads)
    images = data.calibration_images(dataset, own.ptq.calibration, own.seed)
    return quantize(graph, images, spec, own.quantize, own.ptq, own.train.augment, device)
