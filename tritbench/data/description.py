"""dataset.json: what a folder that `download` made holds."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tritbench.errors import TritbenchError

DESCRIPTION = "dataset.json"
TRAIN_IMAGES, TRAIN_LABELS = "train-images.npy", "train-labels.npy"
TEST_IMAGES, TEST_LABELS = "test-images.npy", "test-labels.npy"
ARRAYS = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


class Description(BaseModel):
    """What dataset.json says of the four arrays beside it.

    Attributes:
        name: of the data set in every table, with what was done to its images.
        source: where it came from.
        sha256: of each file.
        counts: of `train` and `test` images.
        image: the shape of one, without the channel of a gray one.
        classes: names, one for each label.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    source: str
    sha256: dict[str, str]
    counts: dict[str, int]
    image: list[int]
    classes: list[str]


def read_description(folder: Path) -> Description:
    """Read a folder's dataset.json.

    Raises:
        TritbenchError: it is missing, or not what `download` writes.
    """
    path = folder / DESCRIPTION
    try:
        about = Description.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise TritbenchError(
            f"{path}: no such file, expected what stages/download.py writes"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise TritbenchError(f"{path}: {key}: {first['msg']}") from None
    if set(about.sha256) != set(ARRAYS):
        raise TritbenchError(
            f"{path}: sha256 names {sorted(about.sha256)}, expected {sorted(ARRAYS)}"
        )
    return about
