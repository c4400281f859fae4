"""Images: getting them (`fetch`) and loading them (`load`)."""

from tritbench.optional import explained

with explained():
    from tritbench.data.dataset import Dataset, Images, calibration_images, load
    from tritbench.data.description import Description, read_description
    from tritbench.data.folder import fetch
    from tritbench.data.sources.published import dataset_in
    from tritbench.data.sources.source import NoSource, folder_variable

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
