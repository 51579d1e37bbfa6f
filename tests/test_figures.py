"""The figures of the paper."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from drawnet.attention import Window, read
from drawnet.figures import (
    attention_grid,
    glimpses,
    nearest,
    samples,
    samples_and_nearest,
    zoom,
)

H, W = 30, 41


@pytest.fixture
def photo() -> Tensor:
    return torch.rand(3, H, W, generator=torch.Generator().manual_seed(0))


def shown(axes: Axes, height: int, width: int) -> Tensor:
    """The image on axes, (3, height, width)."""
    (picture,) = axes.get_images()
    page = np.asarray(picture.get_array())
    assert picture.get_extent() == pytest.approx((-0.5, width - 0.5, height - 0.5, -0.5))
    scale = page.shape[0] // height
    assert page.shape[:2] == (height * scale, width * scale)
    return torch.from_numpy(page[::scale, ::scale].transpose(2, 0, 1).copy())


def extents(axes: Axes, number: int) -> tuple[float, float, float, float]:
    box = axes.patches[number].get_path().get_extents()
    return box.x0, box.y0, box.x1, box.y1


def test_the_grid_is_centred_and_the_windows_show_what_they_see(photo: Tensor) -> None:
    size = 7
    figure = attention_grid(photo, size=size)
    grid, *panels = figure.axes
    torch.testing.assert_close(shown(grid, H, W), photo)
    dots = np.concatenate([line.get_xydata() for line in grid.lines if line.get_marker() == "o"])
    assert dots.shape == (9, 2)
    np.testing.assert_allclose(dots.mean(0), [(W - 1) / 2, (H - 1) / 2])
    strides = np.diff(np.unique(dots[:, 0].round(9)))
    assert strides[0] == pytest.approx(strides[1])

    assert len(panels) == 6
    for whole, patch in zip(panels[::2], panels[1::2], strict=True):
        left, top, right, bottom = extents(whole, 1)
        delta = (right - left) / (size - 1)
        assert bottom - top == pytest.approx(right - left)
        sigma = extents(whole, 0)[2] - extents(whole, 0)[0] - (right - left)
        window = Window(*(
            torch.tensor([number])
            for number in ((top + bottom) / 2, (left + right) / 2, delta, sigma, 1.0)
        ))  # fmt: skip
        seen = read(photo[None], window, size)[0]
        torch.testing.assert_close(shown(patch, size, size), seen)


def test_zoom_reads_a_patch_and_gives_it_back() -> None:
    size = 8
    picture = torch.full((1, H, W), 0.6)
    figure = zoom(picture, size=size)
    whole, patch, back, first, last, _ = figure.axes
    torch.testing.assert_close(shown(whole, H, W), picture.expand(3, -1, -1))
    torch.testing.assert_close(shown(patch, size, size), torch.full((3, size, size), 0.6))
    left, top, right, bottom = extents(whole, 1)
    middle = shown(back, H, W)[:, round(top) + 2 : round(bottom) - 1]
    middle = middle[:, :, round(left) + 2 : round(right) - 1]
    torch.testing.assert_close(middle, torch.full_like(middle, 0.6), atol=0.05, rtol=0)
    for axes, place in ((first, (top, left)), (last, (bottom, right))):
        brightest = shown(axes, H, W)[0].argmax().item()
        assert divmod(brightest, W) == tuple(round(side) for side in place)


def test_zoom_takes_a_window_of_ones_own(photo: Tensor) -> None:
    window = Window(*(torch.tensor([number]) for number in (8.0, 25.0, 1.5, 0.7, 1.0)))
    whole, patch, *_ = zoom(photo, size=5, window=window).axes
    assert extents(whole, 1) == pytest.approx((22, 5, 28, 11))
    torch.testing.assert_close(shown(patch, 5, 5), read(photo[None], window, 5)[0])


def test_glimpses_stand_beside_the_images_they_were_taken_from() -> None:
    t, b, n, height, width = 2, 3, 4, 28, 33
    x = torch.rand(b, 1, height, width)
    number = torch.arange(t * b, dtype=torch.float64).view(t, b)
    windows = Window(10 + number, 12 - number, 1 + number / 9, 1 + number / 20, 2 + number)
    patches = torch.stack(
        [read(x, Window(*(numbers[i] for numbers in windows)), n) for i in range(t)]
    )
    figure = glimpses(x, windows, patches)
    (axes,) = figure.axes
    gap = 2
    page = np.asarray(axes.get_images()[0].get_array())[::8, ::8, 0]
    assert page.shape == (b * (height + gap) - gap, 2 * t * (width + gap) - gap)
    for i in range(t):
        for j in range(b):
            top, left = j * (height + gap), 2 * i * (width + gap)
            image = page[top : top + height, left : left + width]
            np.testing.assert_allclose(image, x[j, 0])
            seen = page[top : top + height, left + width + gap :][:, 2 : 2 + height]
            expected = patches[i, j, 0] / patches[i, j].max()
            np.testing.assert_allclose(seen[3::7, 3::7], expected)
            box = extents(axes, 2 * (i * b + j) + 1)
            reach = (n - 1) / 2 * windows.delta[i, j].item()
            centre = left + windows.g_x[i, j].item(), top + windows.g_y[i, j].item()
            expected_box = *(c - reach for c in centre), *(c + reach for c in centre)
            assert box == pytest.approx(expected_box)
    pair = 2 * (width + gap)
    titles = {text.get_text(): text.get_position()[0] for text in axes.texts}
    middle = (pair - gap - 1) / 2  # of an image and what was seen of it
    assert titles == {"glimpse 1": middle, "glimpse 2": middle + pair}


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_nearest_finds_the_nearest(chunk: int) -> None:
    images, training = torch.rand(5, 1, 3, 4), torch.rand(50, 1, 3, 4)
    found, distance = nearest(images, [training[:0], *training.split(chunk)])
    apart = (images[:, None] - training).flatten(2).norm(dim=2)
    torch.testing.assert_close(distance, apart.min(1).values)
    assert torch.equal(found, training[apart.argmin(1)])


def test_a_copy_is_found_at_no_distance() -> None:
    training = torch.rand(60, 3, 14, 15).float()
    found, distance = nearest(training[13:50], [training])
    assert torch.equal(found, training[13:50])
    assert distance.tolist() == [0] * 37


def test_the_last_sample_of_each_row_has_its_nearest_beside_it() -> None:
    images, training = torch.rand(7, 1, 14, 10), torch.rand(9, 1, 14, 10)
    figure = samples_and_nearest(images, [training], columns=3)
    page = np.asarray(figure.axes[0].get_images()[0].get_array())[::8, ::8, 0]
    assert page.shape == (2 * 14 + 1, 4 * 10 + 3)
    for row in range(2):
        strip = page[row * 15 : row * 15 + 14]
        for column in range(3):
            image = images[3 * row + column, 0]
            np.testing.assert_allclose(strip[:, column * 11 : column * 11 + 10], image)
        found = nearest(images[[3 * row + 2]], [training])[0][0, 0]
        np.testing.assert_allclose(strip[:, 33:], found)
    with pytest.raises(ValueError, match="a row of 10, got 7"):
        samples_and_nearest(images, [training])


def test_samples_fill_rows() -> None:
    figure = samples(torch.zeros(23, 3, 14, 14), columns=10)
    page = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert page.shape == ((3 * 15 - 1) * 8, (10 * 15 - 1) * 8, 3)


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_figures_can_be_saved_for_print(photo: Tensor, suffix: str, tmp_path: Path) -> None:
    figure: Figure
    for figure in (attention_grid(photo), zoom(photo)):
        path = tmp_path / f"figure.{suffix}"
        figure.savefig(path)
        assert path.stat().st_size > 1000
