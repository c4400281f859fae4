"""Augmentation is by name, and the seed's alone."""

import pytest
import torch
from networks import SETTINGS, spec

from tritbench.augment import augment, draw
from tritbench.data import Images
from tritbench.models import build
from tritbench.train import Recipe, fit


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, height: int = 16, width: int = 8) -> torch.Tensor:
    """Images whose pixels are all different, and none of them black."""
    pixels = torch.arange(1, height * width + 1, dtype=torch.uint8)
    return pixels.view(1, 1, height, width).expand(count, 3, -1, -1).clone()


def test_half_of_all_images_are_mirrored() -> None:
    images = numbered(1000)
    made = augment(images, draw(["flip"], 1000, generator()))
    mirrored = (made == images.flip(3)).flatten(1).all(1)
    assert 450 < mirrored.sum() < 550
    assert made[~mirrored].equal(images[~mirrored])


def test_a_crop_moves_an_image_by_up_to_an_eighth_and_fills_with_black() -> None:
    images = numbered(2000)
    made = augment(images, draw(["crop"], 2000, generator()))
    assert made.shape == images.shape
    at = (made[:, 0] == images[0, 0, 8, 4]).nonzero()  # where each one's centre came to lie
    assert at[:, 0].equal(torch.arange(2000))
    moves = (at[:, 1:] - torch.tensor([8, 4])).unique(dim=0)
    assert moves.tolist() == [[y, x] for y in (-2, -1, 0, 1, 2) for x in (-1, 0, 1)]
    for image, (down, right) in zip(made[:50], (at[:50, 1:] - torch.tensor([8, 4])), strict=True):
        rolled = images[0].roll((int(down), int(right)), (1, 2))
        assert image[image > 0].equal(rolled[image > 0])
        assert (image == 0).sum() == 3 * (128 - (16 - abs(down)) * (8 - abs(right)))


def test_a_cutout_is_a_black_square_somewhere_in_the_image() -> None:
    images = numbered(2000)
    made = augment(images, draw(["cutout"], 2000, generator()))
    black = (made == 0).all(1)
    assert made.equal(images * ~black[:, None])
    rows, columns = black.any(2), black.any(1)
    assert black.equal(rows[:, :, None] & columns[:, None, :])
    assert rows.sum(1).unique().tolist() == [2, 3, 4]
    assert columns.sum(1).unique().tolist() == [1, 2]
    assert rows.any(0).all()
    assert columns.any(0).all()


def test_a_process_sees_its_part_of_the_whole_batch() -> None:
    images, own = numbered(64), slice(16, 32)
    whole = augment(images, draw(["flip", "crop", "cutout"], 64, generator(5)))
    part = augment(images[own], draw(["flip", "crop", "cutout"], 64, generator(5))[own])
    assert part.equal(whole[own])


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    stream = generator()
    assert augment(numbered(4), draw([], 4, stream)).equal(numbered(4))
    assert torch.rand(3, generator=stream).equal(torch.rand(3, generator=generator()))


@pytest.mark.parametrize("names", [("flip",), ("flip", "crop"), ("flip", "cutout")])
def test_training_with_a_teacher_is_the_seeds_alone(names: tuple[str, ...]) -> None:
    pixels = torch.randint(0, 256, (64, 1, 8, 8), generator=generator()).to(torch.uint8)
    images = Images(pixels, torch.arange(64) % 3)
    results = []
    for seed in (0, 0, 1):
        model, teacher = (build("mlp", SETTINGS["mlp"], (1, 8, 8), 3, s) for s in (0, 7))
        teacher.eval()
        before = {key: value.clone() for key, value in teacher.state_dict().items()}
        recipe = Recipe(2, 0.01, 16, augment=names, distill=0.5, seed=seed)
        fit(model, images, images, spec(), recipe, teacher)
        assert all(value.equal(before[key]) for key, value in teacher.state_dict().items())
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert results[0].equal(results[1])
    assert not results[0].equal(results[2])
