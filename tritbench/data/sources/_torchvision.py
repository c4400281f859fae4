"""torchvision where its compiled operators do not load."""

import functools
import importlib.machinery
import importlib.util
from types import ModuleType

import torch

# The two operators for which `import torchvision` registers a fake without looking whether they
# exist, as torchvision declares them (csrc/ops/nms.cpp, csrc/ops/quantized/cpu/qnms_kernel.cpp).
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@functools.cache
def declare_operators() -> None:
    """Make `import torchvision` succeed, here or in what imports it, such as timm.

    PyPI's torchvision is built for CUDA. Beside a CPU build of PyTorch its operators do not load,
    and `import torchvision` fails with "operator torchvision::nms does not exist", though data sets
    and classification networks use no operator. Declaring these two before the import makes it
    succeed. Where the operators load, nothing is declared.
    """
    _load_operators()
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library().define(schema)


def torchvision_datasets() -> ModuleType:
    """Import and return `torchvision.datasets`."""
    declare_operators()
    return importlib.import_module("torchvision.datasets")


def _load_operators() -> None:
    """Load torchvision's operators as its own import would; its loading them again changes nothing.

    Trying `import torchvision` instead would leave half of its modules behind when it fails.
    """
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations if package else None
    extension = importlib.machinery.PathFinder.find_spec("_C", folders) if folders else None
    if extension and extension.origin:
        try:
            torch.ops.load_library(extension.origin)
        except OSError:
            return  # built for another PyTorch


@functools.cache
def _library() -> torch.library.Library:
    """Cached, because what it defines is gone when it is collected."""
    return torch.library.Library("torchvision", "FRAGMENT")
