"""Networks that others wrote: torchvision's, from module to ternary file and back."""

import pytest

from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.runtime import NATIVE
from zoo.coverage import cover, networks

SMALLEST = [
    *("squeezenet1_1", "squeezenet1_0", "shufflenet_v2_x0_5", "mnasnet0_5", "shufflenet_v2_x1_0"),
    *("mobilenet_v3_small", "mnasnet0_75", "mobilenet_v2", "shufflenet_v2_x1_5", "regnet_y_400mf"),
    *("mnasnet1_0", "efficientnet_b0"),
]


@pytest.mark.parametrize("name", SMALLEST)
def test_a_network_of_torchvision_becomes_a_ternary_file_that_runs(name):
    ((_, module, _),) = networks([name])
    row = cover(name, module, 96)  # the size changes no operation
    assert row["reason"] == ""
    assert float(row["interpreter_error"]) <= 1e-4
    assert float(row["reference_error"]) <= 1e-4
    assert float(row["engine_error"]) <= 1e-4
    assert row["engine"].startswith("tritbench native") == NATIVE
    assert 1.6 <= float(row["bits_per_weight"]) < 2.2


def test_all_of_them_are_tried():
    torchvision_datasets()
    from torchvision import models

    assert len(models.list_models(module=models)) == 80
