"""What is known of the data sets before they are read: file names, hashes and class names."""

from dataclasses import dataclass

from tritbench.data import embedded

TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
# Bytes of the published files' content: 60,000 and 10,000 images of 28×28, and the headers.
UNCOMPRESSED = {
    TRAIN_IMAGES: 16 + 60_000 * 28 * 28,
    TRAIN_LABELS: 8 + 60_000,
    TEST_IMAGES: 16 + 10_000 * 28 * 28,
    TEST_LABELS: 8 + 10_000,
}


def users_names(file: str) -> list[str]:
    """What one of FILES may be called in a user's folder, in the order in which it is looked for.

    >>> users_names(TEST_LABELS)[1:3]
    ['t10k-labels-idx1-ubyte', 't10k-labels-idx1-int.gz']
    """
    stem, rank, _ = file.rsplit("-", 2)
    kinds = ("idx1-ubyte", "idx1-int") if rank == "idx1" else ("idx3-ubyte", "idx4-ubyte")
    return [f"{stem}{dash}{kind}{gz}" for dash in "-." for kind in kinds for gz in (".gz", "")]


@dataclass(frozen=True)
class Published:
    """A published data set: its class in torchvision, its classes' names and SHA-256 of FILES."""

    torchvision: str
    classes: tuple[str, ...]
    hashes: tuple[str, ...]


PUBLISHED = {
    "fashion-mnist": Published(
        "FashionMNIST",
        embedded.CLASSES,
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    "mnist": Published(
        "MNIST",
        tuple("0123456789"),
        (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "kmnist": Published(
        "KMNIST",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
}
