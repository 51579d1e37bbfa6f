"""Film strips and curves, as matplotlib figures that print well.

Windows, lines and words are vectors. Images are enlarged first, so that no viewer smooths their
pixels away. ``figure.savefig("strip.pdf")`` saves a figure, as PDF, SVG or PNG.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor

from drawnet import objective
from drawnet.explore import Transmission
from drawnet.model import Trace
from drawnet.visualise import paint

PAGE_WIDTH = 6.75
"""The width of the text on a page of the paper, in inches."""
TEXT: dict[str, Any] = {"fontsize": 8, "color": "0.15"}
LINE = 0.7
"""The width of the line along the middle of a border, in points."""
ENLARGE = 8
"""Each pixel of an image is stored in a figure as a square of this side, unless the page would be
too wide."""
MOST_PIXELS = 4096
"""The widest that a page may be, in stored pixels: nobody sees anything finer."""


def strip(
    trace: Trace,
    x: Float[Tensor, "batch channels height width"] | None = None,
    *,
    steps: int = 11,
    windows: bool = True,
) -> Figure:
    """Plot the canvas of every image after some of its glimpses, a row per image.

    Figures 1, 7 and 10 of the paper are of this kind.

    Args:
        trace: What the model did, with T glimpses.
        x: The images that were reconstructed, in [0, 1], to show in a first column.
        steps: How many glimpses to show, >= 1, evenly spread and ending with the last.
        windows: Whether to draw the write windows. There are none without attention.
    """
    paint.check_complete(trace)
    glimpses, batch, _, height, width = trace.canvas.shape
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    shown = sorted({round(t) for t in np.linspace(glimpses, 1, steps)})
    images = [trace.likelihood.mean(trace.canvas[t - 1]) for t in shown]
    titles = [str(t) for t in shown]
    if x is not None:
        images, titles = [x, *images], ["image", *titles]
    cells = torch.stack(images, 1).flatten(0, 1)
    figure, axes = mosaic(cells, len(titles), titles)
    if windows and trace.write_window is not None and trace.patch is not None:
        for column, t in enumerate(shown, start=len(titles) - len(shown)):
            at_t = trace.write_window.at(t - 1)
            rectangles = paint.outline(at_t, trace.patch.shape[-1])
            for row in range(batch):
                corner = row * (height + gap(height)), column * (width + gap(height))
                draw_outline(axes, rectangles, row, paint.WRITE_COLOUR, corner, (height, width))
    return figure


def plot_transmission(sent: Transmission) -> Figure:
    """Plot what is seen after some of the glimpses, and under each picture the nats that it cost.

    Args:
        sent: What `drawnet.explore.transmit` returns. Each image has a row, and each number of
            glimpses a column.
    """
    columns, batch, _, height, width = sent.pictures.shape
    points = PAGE_WIDTH * 72 / (columns * (width + gap(height)))  # of one pixel of an image
    foot = round(1.3 * TEXT["fontsize"] / points)
    cells = torch.nn.functional.pad(
        sent.pictures.transpose(0, 1).flatten(0, 1), (0, 0, 0, foot), value=paint.PAPER
    )
    figure, axes = mosaic(cells, columns, [f"after {k}" for k in sent.keep], gap(height))
    for row in range(batch):
        for column in range(columns):
            x = column * (width + gap(height)) + (width - 1) / 2
            y = row * (height + foot + gap(height)) + height - 0.5 + 0.1 * foot
            label = f"{sent.nats[column, row]:.1f} nats"
            axes.text(x, y, label, ha="center", va="top", **TEXT)
    return figure


def gap(height: int) -> int:
    """How many pixels of white lie between images of this height in a figure."""
    return max(height // 14, 1)


def mosaic(
    images: Float[Tensor, "batch channels height width"],
    columns: int,
    titles: list[str],
    between: int | None = None,
) -> tuple[Figure, Axes]:
    """Plot images side by side, on axes whose unit is one pixel of an image.

    Image i has the centre of its first pixel at ``(i % columns * (width + between),
    i // columns * (height + between))``.

    Args:
        images: Images in [0, 1].
        columns: Number of images per row.
        titles: Titles above the columns; each stands above the same number of columns.
        between: Pixels of white between two images; `gap` of their height by default.
    """
    between = gap(images.shape[2]) if between is None else between
    enlarge = min(max(MOST_PIXELS // (columns * (images.shape[3] + between)), 1), ENLARGE)
    page = paint.mosaic(paint.to_pictures(images, enlarge), columns, between * enlarge)
    height, width = page.shape[0] / enlarge, page.shape[1] / enlarge
    head = 0.22 if titles else 0.0
    drawn = PAGE_WIDTH * height / width
    figure = Figure(figsize=(PAGE_WIDTH, drawn + head))
    axes = figure.add_axes((0, 0, 1, drawn / (drawn + head)))
    axes.set_axis_off()
    axes.imshow(page, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="none")
    for number, title in enumerate(titles):
        column = (number + 0.5) * columns / len(titles) - 0.5
        centre = column * (images.shape[3] + between) + (images.shape[3] - 1) / 2
        axes.text(centre, -1.0 - between, title, ha="center", va="bottom", **TEXT)
    return figure, axes


def draw_outline(
    axes: Axes,
    rectangles: paint.Outline,
    index: int,
    colour: tuple[float, ...],
    corner: tuple[float, float] = (0.0, 0.0),
    clip: tuple[int, int] | None = None,
) -> None:
    """Draw the rectangle of one window on axes whose unit is the pixel.

    Args:
        axes: Where to draw.
        rectangles: The rectangles of a batch of windows.
        index: Which of them to draw.
        colour: Red, green and blue in [0, 1].
        corner: Row and column of the axes at which pixel (0, 0) of the image lies.
        clip: Height and width of the image, to cut the rectangle off at its edges.
    """
    top, left, bottom, right, border = (float(side[index]) for side in rectangles)
    y, x = corner

    def loop(grow: float) -> list[tuple[float, float]]:
        low, high = (x + left - grow, y + top - grow), (x + right + grow, y + bottom + grow)
        return [low, (high[0], low[1]), high, (low[0], high[1]), low]

    band = [Path(loop(border / 2), closed=True)]
    if border < min(right - left, bottom - top):
        band.append(Path(loop(-border / 2)[::-1], closed=True))
    patches = (
        PathPatch(
            Path.make_compound_path(*band), facecolor=colour, alpha=paint.BAND_OPACITY, linewidth=0
        ),
        PathPatch(Path(loop(0), closed=True), fill=False, edgecolor=colour, linewidth=LINE),
    )
    for patch in patches:
        axes.add_patch(patch)
        if clip is not None:
            patch.set_clip_path(
                Rectangle((x - 0.5, y - 0.5), clip[1], clip[0], transform=axes.transData)
            )


def plot_nats(trace: Trace, x: Float[Tensor, "batch channels height width"]) -> Figure:
    """Plot what each glimpse cost and gained, in nats, as means over the batch.

    On the left is the KL of every glimpse. On the right are, after every glimpse, the nats spent on
    all glimpses so far, the nats that the image would still cost given the canvas as it is, and
    their sum. At the last glimpse the sum is minus the evidence lower bound.

    Args:
        trace: What the model did to reconstruct ``x``.
        x: The images, in [0, 1].
    """
    paint.check_complete(trace)
    glimpses = np.arange(1, len(trace.canvas) + 1)
    kl = paint.to_array(objective.kl(trace).mean(1))
    log_likelihoods = [objective.log_likelihood(x, c, trace.likelihood) for c in trace.canvas]
    rest = -paint.to_array(torch.stack(log_likelihoods).mean(1))
    spent = kl.cumsum()

    figure = Figure(figsize=(PAGE_WIDTH, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(glimpses, kl, width=0.85, color=paint.KL_COLOUR)
    left.set_ylabel("KL of the glimpse (nats)", **TEXT)
    whole = "code length" if trace.likelihood.is_code_length(x) else "in all"
    curves = (
        (whole, spent + rest, "0.15", "-"),
        ("image given canvas", rest, paint.READ_COLOUR, "-"),
        ("all glimpses so far", spent, paint.KL_COLOUR, "--"),
    )
    for name, values, colour, line in curves:
        right.plot(glimpses, values, line, color=colour, linewidth=1.5, label=name)
    right.set_ylabel("nats per image", **TEXT)
    right.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize=8, labelcolor="0.15")
    right.annotate(
        f"{spent[-1] + rest[-1]:.1f}",
        (glimpses[-1], spent[-1] + rest[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        **TEXT,
    )
    for axes in (left, right):
        axes.set_xlabel("glimpse", **TEXT)
        axes.set_xlim(0.4, len(kl) + 0.6)
        axes.tick_params(labelsize=8, color="0.5", labelcolor="0.15")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
