"""A network of a user's, its weights and pictures, as `tritbench try` is given them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

NETWORK = """
from torch import nn

def make(classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, classes),
    )
"""
CLASSES = ("across", "both", "down")


def bars(label: int, random: np.random.Generator) -> np.ndarray:
    """A picture of 16×16 with a bright bar across, down, or both."""
    image = random.integers(0, 100, (16, 16, 3)).astype(np.uint8)
    row, column = random.integers(2, 12, 2)
    if label < 2:
        image[row : row + 3] += 120
    if label > 0:
        image[:, column : column + 3] += 120
    return image


def write_network_and_pictures(folder: Path) -> Path:
    """`my_networks.py`, `my.safetensors`, trained on pixels in -1..1, and `pictures/`."""
    folder.mkdir(exist_ok=True)
    (folder / "my_networks.py").write_text(NETWORK)
    random = np.random.default_rng(0)
    drawn = []
    for part, count in (("train", 240), ("test", 90)):
        for index in range(count):
            image = bars(index % 3, random)
            path = folder / "pictures" / part / CLASSES[index % 3] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            drawn.append(image)
    space: dict[str, object] = {}
    exec(NETWORK, space)
    torch.manual_seed(0)
    model: nn.Module = space["make"](3)  # type: ignore[operator]
    x = torch.from_numpy(np.stack(drawn[:240])).permute(0, 3, 1, 2) / 127.5 - 1
    y = torch.arange(240) % 3
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    save_file(model.state_dict(), folder / "my.safetensors")
    return folder
