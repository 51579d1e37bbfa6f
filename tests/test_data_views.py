"""What is random about a batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from drawnet.data import Images, load
from drawnet.data.images import View
from drawnet.data.views import (
    WARP_CHANCES,
    binarized,
    centre_crop,
    cluttered,
    fixed,
    fresh,
    random_crop,
    two_images,
    warped,
)

COUNT, HEIGHT, WIDTH = 11, 7, 5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def grey() -> Images:
    pixels = torch.randint(256, (COUNT, 1, HEIGHT, WIDTH), generator=seeded(3), dtype=torch.uint8)
    return Images(pixels, torch.arange(COUNT), "grey", "train", "grey", tuple("abcdefghijk"))


def clutter_by_loops(images: Images, index: Tensor, u: Tensor, size: int, piece: int) -> Tensor:
    """The generator of Mnih et al., step by step, one image and one pixel at a time."""
    scenes = torch.zeros(len(index), 1, size, size)
    for scene, target, row in zip(scenes[:, 0], index, u.tolist(), strict=True):
        place, rest = row[:2], torch.tensor(row[2:]).view(5, -1).T.tolist()
        for source, from_y, from_x, to_y, to_x in rest:
            other = images.pixels[int(source * COUNT), 0] / 255
            for i in range(piece):
                for j in range(piece):
                    value = other[
                        int(from_y * (HEIGHT - piece + 1)) + i,
                        int(from_x * (WIDTH - piece + 1)) + j,
                    ]
                    y, x = (int(to * (size - piece + 1)) for to in (to_y, to_x))
                    scene[y + i, x + j] += value
        scene[scene >= 1] = 1
        y, x = int(place[0] * (size - HEIGHT + 1)), int(place[1] * (size - WIDTH + 1))
        scene[y : y + HEIGHT, x : x + WIDTH] += images.pixels[target, 0] / 255
        scene.clamp_(0, 1)
    return scenes


@pytest.mark.parametrize("distractors", [0, 1, 13])
@pytest.mark.parametrize("chances", [fresh, fixed])
def test_clutter_is_that_of_the_naive_loop(grey: Images, distractors: int, chances: Any) -> None:
    index, size, piece = torch.tensor([4, 0, 10, 4]), 12, 3
    view = partial(cluttered, size=size, distractors=distractors, piece=piece, chances=chances)
    x, y = view(grey.pixels, grey.labels, index, seeded(5))
    u = chances(index, 2 + 5 * distractors, seeded(5)).double()
    torch.testing.assert_close(x, clutter_by_loops(grey, index, u, size, piece))
    assert y is not None
    assert torch.equal(y, index)


def test_two_images_are_added_and_clipped(grey: Images) -> None:
    index, size = torch.arange(COUNT), 8
    x, y = two_images(grey.pixels, grey.labels, index, seeded(6), size=size, chances=fresh)
    assert y is None
    u = fresh(index, 5, seeded(6)).tolist()
    expected = torch.zeros(COUNT, 1, size, size)
    for scene, i, (other, *places) in zip(expected[:, 0], index, u, strict=True):
        for image, top, left in (
            (i, places[0], places[2]),
            (int(other * COUNT), places[1], places[3]),
        ):
            y0, x0 = int(top * (size - HEIGHT + 1)), int(left * (size - WIDTH + 1))
            scene[y0 : y0 + HEIGHT, x0 : x0 + WIDTH] += grey.pixels[image, 0] / 255
        scene.clamp_(0, 1)
    torch.testing.assert_close(x, expected)
    assert (x == 1).any()


def _bends(count: int, linear: Tensor) -> Tensor:
    u = torch.full((count, WARP_CHANCES), 0.5)
    u[:, :4] = linear
    return u


@pytest.mark.parametrize(
    ("chances", "turns"),
    [((0.5, 0.5, 0.5, 0.5), 0), ((0.25, 0.25, 0.75, 0.25), 1), ((0.0, 0.5, 0.5, 0.0), 2)],
    ids=["as it is", "by 90 degrees", "by 180 degrees"],
)
def test_warps_that_are_turns(grey: Images, chances: tuple[float, ...], turns: int) -> None:
    square = grey.pixels[:, :, :5]
    x = warped(square, _bends(COUNT, torch.tensor(chances)), 2.0, 0.0)
    turned: Tensor = square.rot90(turns, (2, 3))
    assert torch.equal(x, turned.int())


def test_warps_are_about_the_middle_and_lose_nothing_inside() -> None:
    pixels = torch.zeros(5000, 1, 28, 28, dtype=torch.uint8)
    pixels[:, :, 12:16, 9:19] = 200
    u = _bends(5000, fresh(torch.arange(5000), 4, seeded(0)))
    x = warped(pixels, u, 0.2, 0.0).double()
    towards = torch.arange(28) - 13.5
    light = x.sum((1, 2, 3))
    for sideways in (x.sum((1, 2)), x.sum((1, 3))):
        assert ((sideways * towards).sum(1) / light).abs().max() < 0.05
    area = light / (200 * 40)  # 1 / det(I + M), with four numbers of variance 0.2^2 / 3
    assert abs((1 / area).mean() - 1) < 0.01
    assert abs((1 / area).std() / 0.2 * (3 / 2) ** 0.5 - 1) < 0.05


def test_bending_every_point_alike_shifts_the_image(grey: Images) -> None:
    down, across = 1, -2
    u = _bends(COUNT, torch.full((4,), 0.5))
    u[:, 4:].unflatten(1, (2, -1))[:] = 0.5 + torch.tensor([[across], [down]]) / 2 / 4
    x = warped(grey.pixels, u, 0.0, 4.0)
    assert torch.equal(x[:, :, :-1, 2:], grey.pixels[:, :, 1:, :-2].int())
    assert not x[:, :, -1].any()
    assert not x[:, :, :, :2].any()


def test_bends_differ_from_place_to_place_and_are_smooth() -> None:
    ramp = torch.arange(0, 252, 9, dtype=torch.uint8)  # its brightness says where a pixel was
    pixels = torch.stack([ramp.expand(28, 28), ramp.expand(28, 28).T])[None]
    pixels = pixels.expand(2000, 2, 28, 28).contiguous()
    u = fresh(torch.arange(2000), WARP_CHANCES, seeded(0))
    moved = (warped(pixels, u, 0.0, 1.2) - pixels.int())[:, :, 4:-4, 4:-4] / 9
    assert moved.mean((0, 2, 3)).abs().max() < 0.01
    spread = moved.std((0, 2, 3))
    assert (spread - spread.mean()).abs().max() < 0.01
    assert 0.5 * 1.2 / 3**0.5 < spread.mean() < 1.2 / 3**0.5  # bicubic averages the points' noise
    assert moved.diff(dim=2).std() < 0.4 * spread.mean()  # a pixel further it is much the same
    far = (moved[:, 0, 0, 0] * moved[:, 0, -1, -1]).mean() / spread.mean() ** 2
    assert far.abs() < 0.1
    apart = (moved[:, 0] * moved[:, 1]).mean() / spread.mean() ** 2
    assert apart.abs() < 0.02


def test_binarized_has_the_intensities_as_means(grey: Images) -> None:
    pixels = grey.pixels.clone()
    pixels[2, 0, 0, 0], pixels[2, 0, 0, 1] = 0, 255
    index = torch.full((20_000,), 2)
    x, y = binarized(pixels, None, index, seeded(0))
    assert y is None
    assert x.unique().tolist() == [0, 1]
    p = pixels[2] / 255
    error = (x.mean(0) - p).abs()
    assert (error <= 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_crops(grey: Images) -> None:
    colour = grey.pixels.expand(-1, 3, -1, -1) // torch.tensor([1, 2, 3])[:, None, None]
    colour = colour.to(torch.uint8)
    index = torch.arange(COUNT).repeat(40)
    x, _ = random_crop(colour, None, index, seeded(1), size=4)
    assert x.shape == (len(index), 3, 4, 4)
    windows = colour.unfold(2, 4, 1).unfold(3, 4, 1).movedim((2, 3), (1, 2)) / 255.0
    same = (windows[index] == x[:, None, None]).flatten(3).all(3)
    assert (same.flatten(1).sum(1) == 1).all()
    assert (same.sum(0) > 20).all()
    x, _ = centre_crop(colour, None, index, None, size=4)
    torch.testing.assert_close(x, colour[index, :, 1:5, 0:4] / 255.0)


VIEWS: dict[str, View] = {
    "binarized": binarized,
    "random_crop": partial(random_crop, size=3),
    "cluttered": partial(cluttered, size=9, distractors=2, piece=3, chances=fresh),
    "warped": partial(cluttered, size=9, distractors=2, piece=3, warp=0.5, chances=fresh),
    "bent": partial(cluttered, size=9, distractors=2, piece=3, elastic=2.0, chances=fresh),
    "two_images": partial(two_images, size=9, chances=fresh),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_generator_decides_everything(grey: Images, view: View) -> None:
    index = torch.arange(COUNT)
    before = torch.random.get_rng_state()
    a, b, c = (view(grey.pixels, grey.labels, index, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.set_default_dtype(torch.float32)
    single = view(grey.pixels, grey.labels, index, seeded(1))[0]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), a)


def test_in_order_takes_one_image_at_a_time_at_least() -> None:
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        next(load("digits", "test").in_order(0, seed=3))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_in_order_images_do_not_depend_on_the_batch(
    grey: Images, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drawnet.data.images.BLOCK", 4)
    images = replace(grey, view=view)
    expected = [
        images.batch(torch.arange(first, last), seeded(first))
        for first, last in ((0, 4), (4, 8), (8, COUNT))
    ]
    for size in (3, 4, 400):
        batches = list(images.in_order(size, seed=0))
        assert max(len(x) for x, _, _ in batches) == min(size, 4)
        for i in range(1 if expected[0][1] is None else 2):
            parts = ([batch[i] for batch in way] for way in (batches, expected))
            assert torch.equal(*map(torch.cat, parts))


def test_in_order_seeds_have_nothing_in_common(grey: Images) -> None:
    """Not even where one is the other plus the number of a batch."""
    draws = [
        torch.rand((), generator=generator).item()
        for seed in (0, 1, 2, 3, 6, 9, 2**32 - 1)
        for _, _, generator in grey.in_order(3, seed)
    ]
    assert len(set(draws)) == len(draws) == 7 * -(-COUNT // 3)


def test_without_a_generator_the_global_one_is_used(grey: Images) -> None:
    index = torch.arange(COUNT)
    a, b = (binarized(grey.pixels, None, index, None)[0] for _ in range(2))
    assert not torch.equal(a, b)


def test_fixed_chances_are_uniform_and_depend_on_the_index_alone() -> None:
    index = torch.arange(4000)
    u = fixed(index, 7)
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    assert u.unique().numel() > 0.99 * u.numel()
    counts = (u * 10).long().flatten().bincount(minlength=10) / u.numel()
    assert (counts - 0.1).abs().max() < 0.006
    correlation = torch.corrcoef(torch.cat([u.T, u.roll(1, 0).T]).double()) - torch.eye(14)
    assert correlation.abs().max() < 0.07
    assert torch.equal(u[[5, 17]], fixed(torch.tensor([5, 17]), 7))
    assert torch.equal(u[:, :3], fixed(index, 3))
    assert (u != fixed(index, 7, salt=1)).double().mean() > 0.99
    known = (fixed(torch.tensor([0, 49_999]), 2, salt=2) * 2**24).long().tolist()
    assert known == [[9372816, 15129264], [12159287, 4722331]]


def test_cluttered_mnist(data_dir: Path) -> None:
    images = load("cluttered_mnist", "test", data_dir)
    assert images.image_shape == (1, 100, 100)
    index = torch.arange(300)
    x, y = images.batch(index, seeded(0))
    assert x.shape == (300, 1, 100, 100)
    assert ", 100x100, 8 distractors of 8x8, " in images.description
    assert y is not None
    assert torch.equal(y, load("mnist", "test", data_dir).batch(index)[1])
    assert 0.018 < x.mean() < 0.022
    assert not torch.equal(x, images.batch(index, seeded(1))[0])
    small = load("cluttered_mnist", "test", data_dir, size=60, distractors=4)
    assert small.batch(index)[0].shape == (300, *small.image_shape) == (300, 1, 60, 60)


def test_fixed_clutter_is_the_same_for_ever(data_dir: Path) -> None:
    images = load("cluttered_mnist", "test", data_dir, fixed=True)
    index = torch.tensor([9, 9999, 3])
    x, _ = images.batch(index, seeded(0))
    assert torch.equal(x[[2, 0]], images.batch(index[[2, 0]], seeded(1))[0])
    assert "fixed" in images.description
    assert "fixed" not in load("cluttered_mnist", "test", data_dir).description


def test_only_digits_to_train_on_are_warped(data_dir: Path) -> None:
    index = torch.arange(64)
    for split in ("train", "valid", "test"):
        plain = load("cluttered_mnist", split, data_dir)
        for option, words in (
            ("warp", "digits warped by 0.2"),
            ("elastic", "digits bent by 0.2 pixels"),
        ):
            bent = load("cluttered_mnist", split, data_dir, **{option: 0.2})
            same = torch.equal(*(images.batch(index, seeded(0))[0] for images in (plain, bent)))
            assert same == (split != "train")
            assert bent.description == plain.description + ("" if same else f", {words}")


def test_two_digits(data_dir: Path) -> None:
    images = load("two_digits", "test", data_dir)
    assert images.image_shape == (1, 60, 60)
    assert images.labels is None
    assert images.classes == ()
    x, y = images.batch(torch.arange(500), seeded(0))
    assert y is None
    assert x.shape == (500, 1, 60, 60)
    assert 0.9 < x.mean() / (2 * 0.1325 * 28**2 / 60**2) < 1  # overlaps are clipped
    assert torch.equal(images.pixels, load("mnist", "test", data_dir).pixels)
    same = load("two_digits", "test", data_dir, fixed=True)
    assert torch.equal(same.batch(torch.arange(5))[0], same.batch(torch.arange(9))[0][:5])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cluttered_mnist", {"size": 27}, "size must be 28 to 1024, got 27"),
        ("cluttered_mnist", {"distractors": -1}, "distractors must be 0 to 1000, got -1"),
        ("cluttered_mnist", {"piece": 29}, "piece must be 1 to 28, got 29"),
        ("cluttered_mnist", {"warp": -0.1}, "warp must be 0 to 0.5, got -0.1"),
        ("cluttered_mnist", {"elastic": 6}, "elastic must be 0 to 5, got 6"),
        ("two_digits", {"size": 10_000}, "size must be 28 to 1024, got 10000"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(name, "test", **options)


def bends(view: View) -> bool:
    return isinstance(view, partial) and not {"warp", "elastic"}.isdisjoint(view.keywords)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_generator_on_the_cpu_makes_the_same_batch_on_every_device(
    grey: Images, view: View
) -> None:
    index = torch.arange(COUNT)
    here = replace(grey, view=view)
    there = here.to("cuda")
    (x, y), (x_there, y_there) = (images.batch(index, seeded(4)) for images in (here, there))
    assert x_there.is_cuda
    # Bent digits are interpolated in floating point, and then rounded to one of 256 intensities.
    torch.testing.assert_close(x_there.cpu(), x, rtol=0, atol=1 / 255 + 1e-6 if bends(view) else 0)
    if y is not None:
        assert y_there is not None
        assert torch.equal(y_there.cpu(), y)
    own = torch.Generator("cuda").manual_seed(4)
    assert there.batch(index, own)[0].shape == x.shape
    assert torch.equal(fixed(index.cuda(), 7).cpu(), fixed(index, 7))
