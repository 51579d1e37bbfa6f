"""Film strips and curves hold the right images, windows and numbers, in vectors."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from torch import Tensor

from drawnet.attention import Window
from drawnet.explore import Transmission
from drawnet.likelihood import Bernoulli, Likelihood, Logistic
from drawnet.model import Trace
from drawnet.objective import elbo, kl
from drawnet.visualise import paint, plot_nats, plot_transmission, plots, strip

T, B, Z, WRITE = 7, 3, 5, 4
C, H, W = 3, 15, 10
GAP = 1  # a fourteenth of the height, rounded down


@pytest.fixture
def trace() -> Trace:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    number = torch.arange(T * B, dtype=torch.float64).view(T, B)
    window = Window(
        g_y=4 + number / 10, g_x=6 - number / 20, delta=1 + number / 30, sigma=0.5 + number / 40,
        gamma=torch.ones(T, B),
    )  # fmt: skip
    return Trace(
        canvas=normal(T, B, C, H, W),
        z=normal(T, B, Z),
        mu=normal(T, B, Z),
        log_sigma=normal(T, B, Z),
        write_window=window,
        start=normal(C, H, W),
        patch=normal(T, B, C, WRITE, WRITE),
    )


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, C, H, W, generator=torch.Generator().manual_seed(1))


def cell(figure: Figure, row: int, column: int) -> Tensor:
    """The image in a cell of a page, at its own size."""
    (picture,) = figure.axes[0].get_images()
    left, right, bottom, top = picture.get_extent()
    page = np.asarray(picture.get_array())
    scale = page.shape[0] / (bottom - top)
    assert (left, top) == (-0.5, -0.5)
    assert scale == page.shape[1] / (right - left) == int(scale)
    pixels = page[:: int(scale), :: int(scale)]
    y, x = row * (H + GAP), column * (W + GAP)
    return torch.from_numpy(pixels[y : y + H, x : x + W].transpose(2, 0, 1).copy())


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(
    ("steps", "shown"), [(1, [7]), (3, [1, 4, 7]), (4, [1, 3, 5, 7]), (7, [*range(1, 8)])]
)
def test_a_strip_shows_the_canvas_after_the_glimpses_it_names(
    trace: Trace, steps: int, shown: list[int]
) -> None:
    figure = strip(trace, steps=steps)
    assert titles(figure) == [str(t) for t in shown]
    for row in range(B):
        for column, t in enumerate(shown):
            expected = torch.sigmoid(trace.canvas[t - 1, row])
            torch.testing.assert_close(cell(figure, row, column), expected)


def test_more_steps_than_glimpses_show_every_glimpse_once(trace: Trace) -> None:
    assert titles(strip(trace, steps=11)) == [str(t) for t in range(1, T + 1)]


def test_the_images_of_a_reconstruction_stand_in_front(trace: Trace, x: Tensor) -> None:
    figure = strip(trace, x, steps=2)
    assert titles(figure) == ["image", "1", "7"]
    for row in range(B):
        torch.testing.assert_close(cell(figure, row, 0), x[row])


def patches(figure: Figure) -> list[PathPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]


def test_windows_of_a_strip_lie_in_their_cells(trace: Trace, x: Tensor) -> None:
    figure = strip(trace, x, steps=3)
    drawn = iter(patches(figure))
    window = trace.write_window
    assert window is not None
    for column, t in ((1, 0), (2, 3), (3, 6)):
        for row in range(B):
            g_y, g_x, delta, sigma, _ = (float(number[t, row]) for number in window)
            reach = (WRITE - 1) / 2 * delta
            centre = np.array([column * (W + GAP) + g_x, row * (H + GAP) + g_y])
            band, line = next(drawn), next(drawn)
            for patch, distance in ((band, reach + sigma / 2), (line, reach)):
                extents = patch.get_path().get_extents()
                np.testing.assert_allclose(extents.min, centre - distance)
                np.testing.assert_allclose(extents.max, centre + distance)
                to_data = figure.axes[0].transData.inverted().transform
                corners = np.sort(to_data(patch.clipbox.get_points()), axis=0)
                first = np.array([column * (W + GAP) - 0.5, row * (H + GAP) - 0.5])
                np.testing.assert_allclose(corners, [first, first + np.array([W, H])])
            inner = np.abs(band.get_path().vertices - centre).max(1).min()
            assert inner == pytest.approx(reach - sigma / 2), "the border is sigma wide"
    assert next(drawn, None) is None


def test_a_border_wider_than_the_window_has_no_hole(trace: Trace) -> None:
    window = trace.write_window
    assert window is not None
    wide = replace(trace, write_window=window._replace(sigma=torch.full((T, B), 30.0)))
    for patch in patches(strip(wide, steps=1)):
        assert len(patch.get_path().vertices) == 5


def test_a_strip_draws_its_windows_where_the_animation_does(trace: Trace) -> None:
    scale = 12
    black = replace(trace, canvas=torch.full_like(trace.canvas, -50.0))
    figure = strip(black, steps=1)
    drawn = BytesIO()
    figure.savefig(drawn, format="rgba", dpi=W * scale / figure.get_figwidth())
    pixels = np.frombuffer(drawn.getvalue(), np.uint8).reshape(-1, W * scale, 4) / 255
    page = pixels[-(B * (H + GAP) - GAP) * scale :, :, :3]  # below the title

    assert trace.write_window is not None
    raster = np.zeros((B, H * scale, W * scale, 3))
    rectangles = paint.outline(trace.write_window.at(T - 1), WRITE)
    paint.paint_outline(raster, rectangles, paint.WRITE_COLOUR, scale)
    for row in range(B):
        top = row * (H + GAP) * scale
        coloured, expected = page[top : top + H * scale] > 0.1, raster[row] > 0.1
        assert expected.any()
        assert (coloured != expected).mean() < 0.02, "but for smooth edges they agree"


def test_without_windows_there_are_none(trace: Trace) -> None:
    assert patches(strip(trace, windows=False)) == []
    assert patches(strip(replace(trace, write_window=None, patch=None))) == []


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_a_strip_can_be_saved_for_print(trace: Trace, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"strip.{suffix}"
    strip(trace).savefig(path)
    start = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[suffix]
    assert path.read_bytes().startswith(start)


def test_strip_says_what_it_cannot_draw(trace: Trace) -> None:
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        strip(trace, steps=0)
    with pytest.raises(ValueError, match="record='all'"):
        strip(replace(trace, canvas=trace.canvas[-1:]))


def test_nats_are_those_of_the_objective(trace: Trace, x: Tensor) -> None:
    cost, total = plot_nats(trace, x).axes
    heights = [bar.get_height() for bar in cost.patches]
    np.testing.assert_allclose(heights, kl(trace).mean(1))
    code_length, rest, spent = (line.get_ydata() for line in total.lines)
    assert len(rest) == T
    assert code_length[-1] == pytest.approx(-elbo(x, trace).mean().item())
    np.testing.assert_allclose(code_length, np.add(rest, spent))
    assert spent[-1] == pytest.approx(kl(trace).sum(0).mean().item())


@pytest.mark.parametrize(
    ("likelihood", "rounded", "name"),
    [
        (Bernoulli(), True, "code length"),
        (Bernoulli(), False, "in all"),
        (Logistic(), False, "code length"),
    ],
)
def test_nats_are_called_a_code_length_where_they_are(
    trace: Trace, x: Tensor, likelihood: Likelihood, rounded: bool, name: str
) -> None:
    canvas = trace.canvas.repeat(1, 1, likelihood.planes, 1, 1)
    drawn = replace(trace, canvas=canvas, likelihood=likelihood)
    x = x.round() if rounded else x
    total = plot_nats(drawn, x).axes[1]
    whole = total.lines[0]
    assert whole.get_label() == name
    assert whole.get_ydata()[-1] == pytest.approx(-elbo(x, drawn).mean().item())


def test_a_strip_of_intensities_shows_their_means(trace: Trace) -> None:
    drawn = replace(trace, canvas=trace.canvas.repeat(1, 1, 2, 1, 1), likelihood=Logistic())
    expected = (trace.canvas[-1, 0].clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(cell(strip(drawn, steps=1), 0, 0), expected)


def test_each_picture_sent_has_its_cost_below_it() -> None:
    pictures = torch.rand(4, B, C, H, W)
    nats = torch.arange(4.0 * B).view(4, B) + 0.25
    figure = plot_transmission(Transmission((0, 1, 3, 7), pictures, nats))
    (axes,) = figure.axes
    heads, costs = axes.texts[:4], axes.texts[4:]
    assert [text.get_text() for text in heads] == ["after 0", "after 1", "after 3", "after 7"]
    (picture,) = axes.get_images()
    page = np.asarray(picture.get_array())[::8, ::8]
    pitch = (len(page) + GAP) // B
    assert pitch > H + GAP
    for i, text in enumerate(costs):
        row, column = divmod(i, 4)
        top, left = row * pitch, column * (W + GAP)
        seen = page[top : top + H, left : left + W].transpose(2, 0, 1)
        np.testing.assert_allclose(seen, pictures[column, row])
        assert text.get_text() == f"{nats[column, row].item():.1f} nats"
        x, y = text.get_position()
        assert x == left + (W - 1) / 2
        assert top + H - 1 < y < top + pitch


@pytest.mark.parametrize(("width", "enlarge"), [(10, 8), (300, 3), (5000, 1)])
def test_a_page_of_large_images_is_no_finer_than_can_be_seen(width: int, enlarge: int) -> None:
    images = torch.rand(4, 1, 2, width)
    figure, _ = plots.mosaic(images, 4, [])
    (picture,) = figure.axes[0].get_images()
    page = np.asarray(picture.get_array())
    assert page.shape == (2 * enlarge, (4 * width + 3) * enlarge, 3)
    first = page[::enlarge, ::enlarge, 0][:, :width]
    torch.testing.assert_close(torch.from_numpy(first.copy()), images[0, 0])
