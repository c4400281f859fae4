"""Images: getting them (`fetch`) and loading them (`load`)."""

from tritbench.optional import explained

with explained():
    from tritbench.data.dataset import (
        Dataset,
        Description,
        Images,
        calibration_images,
        load,
        read_description,
    )
    from tritbench.data.sources import NoSource, dataset_in, fetch, folder_variable

__all__ = [
    "Dataset",
    "Description",
    "Images",
    "NoSource",
    "calibration_images",
    "dataset_in",
    "fetch",
    "folder_variable",
    "load",
    "read_description",
]
