"""A window moved by hand on the demo page: plain values in, a picture and words out.

Each value is checked again against the bounds of its control, as in `answers`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from drawnet import attention
from drawnet.attention import Window
from drawnet.data.pictures import to_tensor
from drawnet.demo import pictures
from drawnet.demo.controls import CENTRE_X, CENTRE_Y, INTENSITY, SIZE, STRIDE, WIDTH
from drawnet.visualise import paint
from drawnet.visualise.plots import TEXT, draw_outline

PHOTO = 240
"""The longer side of a photo to look at, in pixels."""


class Look(NamedTuple):
    """What a window shows of a photo."""

    picture: Image.Image
    words: str


@torch.no_grad()
def look(
    url: object,
    centre_x: object,
    centre_y: object,
    variance: object,
    stride: object,
    intensity: object,
    size: object,
) -> Look:
    """Show a photo with the grid of filters, what they read, and what that looks like written back.

    The five numbers are those of equation (21), as a network emits them.

    Args:
        url: The photo, as a ``data:`` URL.
        centre_x: g~_X; see `CENTRE_X`.
        centre_y: g~_Y; see `CENTRE_Y`.
        variance: log sigma^2; see `WIDTH`.
        stride: log delta~; see `STRIDE`.
        intensity: log gamma; see `INTENSITY`.
        size: N; see `SIZE`.

    Raises:
        ValueError: If a value is out of bounds, or the photo cannot be used.
    """
    controls = (CENTRE_X, CENTRE_Y, WIDTH, STRIDE, INTENSITY)
    values = (centre_x, centre_y, variance, stride, intensity)
    params = [control.check(value) for control, value in zip(controls, values, strict=True)]
    number = int(SIZE.check(size))
    photo = pictures.thumbnail(pictures.from_url(url), PHOTO)
    width, height = photo.size
    x = to_tensor(photo)[None]
    window = attention.window(torch.tensor([params]), number, height, width)
    g_y, g_x, delta, sigma, gamma = (float(value) for value in window)
    words = (
        f"The {number} × {number} filters sit **{delta:.1f} pixels** apart around "
        f"({g_x:.1f}, {g_y:.1f}), each **{sigma:.1f} pixels** wide (σ), and what they see is "
        f"multiplied by {gamma:.2f}: **{number**2} numbers** per colour for the photo's "
        f"{width * height:,}."
    )
    return Look(pictures.from_figure(_lay_out(x, window, number)), words)


def _lay_out(x: torch.Tensor, window: Window, size: int) -> Figure:
    """Lay out the photo with its grid and filters, the patch, and the patch written back."""
    height, width = x.shape[2:]
    patch = attention.read(x, window, size)
    # Written delta^2 times as strongly as it is read, the patch is about as bright as the photo.
    strong = window._replace(gamma=window.gamma / window.delta**2)
    back = attention.write(patch, strong, height, width)

    unit = 3.2 / max(height, width)  # inches per pixel of the photo
    wide, tall, square = unit * width, unit * height, min(unit * height, 2.4)
    margin, bank, head = 0.2, 0.6, 0.3
    figure = Figure(figsize=(2 * wide + square + bank + 4 * margin, tall + bank + head))

    def place(left: float, top: float, across: float, down: float) -> Axes:
        total_x, total_y = figure.get_size_inches()
        low = total_y - head - top - down
        axes = figure.add_axes((left / total_x, low / total_y, across / total_x, down / total_y))
        axes.set_axis_off()
        return axes

    photo = place(margin, 0, wide, tall)
    _show(photo, x, "the photo, and where the filters are")
    steps = (np.arange(size) - (size - 1) / 2) * float(window.delta)
    columns, rows = np.meshgrid(float(window.g_x) + steps, float(window.g_y) + steps)
    photo.plot(columns, rows, ".", color="white", markersize=4.5)
    photo.plot(columns, rows, ".", color=paint.WRITE_COLOUR, markersize=2.5)

    f_y, f_x = (f[0].mT.numpy() for f in attention.filterbanks(window, size, height, width))
    line: dict[str, Any] = {"color": paint.WRITE_COLOUR, "linewidth": 0.9}
    along, beside = place(margin, tall, wide, bank), place(margin + wide, 0, bank, tall)
    along.plot(np.arange(width), f_x, **line)
    along.set(xlim=(-0.5, width - 0.5), ylim=(_peak(f_x), 0))
    along.text(0.005, 0.05, "$F_X$", transform=along.transAxes, **TEXT)
    beside.plot(f_y, np.arange(height), **line)
    beside.set(ylim=(height - 0.5, -0.5), xlim=(0, _peak(f_y)))
    beside.set_title("$F_Y$", **TEXT)

    left = 2 * margin + wide + bank
    _show(place(left, 0, square, square), patch, f"what is read: {size} × {size}")
    back_axes = place(left + square + margin, 0, wide, tall)
    _show(back_axes, back, "written back through the same window")
    for axes in (photo, back_axes):
        draw_outline(axes, paint.outline(window, size), 0, paint.WRITE_COLOUR, clip=(height, width))
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return figure


def _peak(filters: NDArray[np.float32]) -> float:
    """How high to plot filters, ``(pixels, N)``; one centred off the photo may be cut off."""
    return float(np.median(filters.max(0))) * 1.3


def _show(axes: Axes, image: torch.Tensor, title: str) -> None:
    height, width = image.shape[2:]
    axes.imshow(
        paint.to_pictures(image, 1)[0],
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="none",
        aspect="auto",
    )
    axes.set_title(title, **TEXT)
