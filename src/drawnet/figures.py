"""The figures of the paper, by their numbers.

    figure      shows                                                       drawn by
    1, 7, 10    the canvas after some of the glimpses, with write windows   `visualise.strip`
    3           the attention grid, and what three windows see              `attention_grid`
    4           a patch of a picture and what it gives back                 `zoom`
    5           the glimpses of a classifier                                `glimpses`
    6, 9, 12    samples beside their nearest training images                `samples_and_nearest`
    8           samples                                                     `samples`

Figure 2 is a diagram, and figure 11 is a training curve. Each function returns a matplotlib figure
as wide as a page, to be saved as PDF, SVG or PNG.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from drawnet.attention import Window, filterbanks, read, write
from drawnet.visualise import paint
from drawnet.visualise.plots import ENLARGE, PAGE_WIDTH, TEXT, draw_outline, gap, mosaic

GRID_COLOUR = paint.WRITE_COLOUR
GLIMPSE_COLOUR = paint.KL_COLOUR


def attention_grid(image: Float[Tensor, "channels height width"], *, size: int = 12) -> Figure:
    """Figure 3: a grid of 3 x 3 filters on a picture, and three windows with what each sees.

    The first window has a small stride and a large sigma (near and blurred), the second a large
    stride and a small sigma (all of the picture at a lower resolution), the third has both large.

    Args:
        image: A picture, in [0, 1].
        size: N, the side of the three patches.
    """
    _, height, width = image.shape
    side = min(height, width) - 1
    figure = Figure(figsize=(PAGE_WIDTH, PAGE_WIDTH * 0.55), layout="constrained")
    layout = figure.add_gridspec(3, 3, width_ratios=(3, 1, 1))

    axes = figure.add_subplot(layout[:, 0])
    _show(axes, image, "")
    three = _window(image, extent=0.5 * side, sigma=0.25, size=3)
    _draw_grid(axes, three)

    for row, (extent, sigma) in enumerate(((0.3, 0.05), (0.95, 0.01), (0.95, 0.07))):
        window = _window(image, extent * side, sigma * side, size)
        whole, patch = figure.add_subplot(layout[row, 1]), figure.add_subplot(layout[row, 2])
        _show(whole, image, rf"$\delta={window.delta.item():.1f}$, $\sigma={sigma * side:.1f}$")
        draw_outline(whole, paint.outline(window, size), 0, GLIMPSE_COLOUR, clip=(height, width))
        _show(patch, read(image[None], window, size)[0], f"{size} × {size}")
    return figure


def _draw_grid(axes: Axes, window: Window) -> None:
    """The centres of a 3 x 3 grid, with its stride and its place marked."""
    g_y, g_x, delta, *_ = (number.item() for number in window)
    rows, columns = ([g + i * delta for i in (-1, 0, 1)] for g in (g_y, g_x))
    for y in rows:
        axes.plot(columns, [y] * 3, color=GRID_COLOUR, linewidth=1)
        axes.plot(columns, [y] * 3, "o", color=GRID_COLOUR, markersize=6)
    for x in columns:
        axes.plot([x] * 2, [rows[0], rows[-1]], color=GRID_COLOUR, linewidth=1)
    axes.plot([g_x, g_x], [g_y, -0.5], ":", color=paint.READ_COLOUR, linewidth=1.2)
    axes.plot([g_x, -0.5], [g_y, g_y], ":", color=paint.READ_COLOUR, linewidth=1.2)
    axes.text(g_x, -0.5, "$g_X$", ha="center", va="bottom", **TEXT)
    axes.text(-0.5, g_y, "$g_Y$ ", ha="right", va="center", **TEXT)
    middle = (columns[1] + columns[2]) / 2
    axes.annotate(
        r"$\delta$",
        (middle, rows[2]),
        xytext=(0, -6),
        textcoords="offset points",
        ha="center",
        va="top",
        color=GRID_COLOUR,
        fontsize=12,
    )


def zoom(
    image: Float[Tensor, "channels height width"], *, size: int = 12, window: Window | None = None
) -> Figure:
    """Figure 4: a patch of a picture, what the transposed filters give back, and two filters.

    Args:
        image: A picture, in [0, 1].
        size: N, the side of the patch.
        window: Where to read: tensors of shape ``(1,)``. By default the middle of the picture, with
            filters half as wide as their stride.
    """
    _, height, width = image.shape
    if window is None:
        extent = 0.55 * (min(height, width) - 1)
        window = _window(image, extent, sigma=extent / max(size - 1, 1) / 2, size=size)
    patch = read(image[None], window, size)
    # Written delta^2 times as strongly as it was read, the patch is about as bright as the picture.
    back = write(patch, window._replace(gamma=window.gamma / window.delta**2), height, width)
    f_y, f_x = filterbanks(window, size, height, width)
    filters = f_y[0, :, :, None] * f_x[0, :, None, :]

    tall = min(PAGE_WIDTH * 0.7 * height / width, PAGE_WIDTH * 0.75)
    figure = Figure(figsize=(PAGE_WIDTH, tall), layout="constrained")
    axes = figure.subplots(2, 3)
    _show(axes[0, 0], image, f"{width} × {height} picture")
    draw_outline(axes[0, 0], paint.outline(window, size), 0, GRID_COLOUR, clip=(height, width))
    _show(axes[0, 1], patch[0], f"{size} × {size} patch")
    _show(axes[0, 2], back[0], "transposed reconstruction")
    _show(axes[1, 0], filters[:1] / filters[0].amax(), "first filter")
    _show(axes[1, 1], filters[-1:] / filters[-1].amax(), "last filter")
    axes[1, 2].set_axis_off()
    return figure


def glimpses(
    x: Float[Tensor, "batch channels height width"],
    windows: Window,
    patches: Float[Tensor, "glimpses batch channels size size"],
) -> Figure:
    """Figure 5: where a classifier looks at each image, glimpse by glimpse, and what it sees there.

    Args:
        x: Images in [0, 1], one row each.
        windows: Where it reads: tensors of shape ``(T, B)``.
        patches: What it reads. Each is shown with its brightest point white.
    """
    number, batch, _, size, _ = patches.shape
    height, width = x.shape[2:]
    seen = patches / patches.amax((2, 3, 4), keepdim=True).clamp(min=1e-9)
    scale = min(height / size, width / size)
    seen = _enlarge(seen.flatten(0, 1), scale, height, width).unflatten(0, (number, batch))
    pairs = torch.stack([x.expand_as(seen), seen], 2)  # (T, B, 2, C, H, W)
    cells = pairs.transpose(0, 1).flatten(0, 2)
    titles = [f"glimpse {t}" for t in range(1, number + 1)]
    figure, axes = mosaic(cells, 2 * number, titles)
    for t in range(number):
        rectangles = paint.outline(windows.at(t), size)
        for row in range(batch):
            corner = row * (height + gap(height)), 2 * t * (width + gap(height))
            draw_outline(axes, rectangles, row, GLIMPSE_COLOUR, corner, (height, width))
    return figure


def samples(images: Float[Tensor, "batch channels height width"], *, columns: int = 10) -> Figure:
    """Figure 8: samples side by side.

    Args:
        images: Samples, in [0, 1].
        columns: How many in a row.
    """
    return mosaic(images, columns, [])[0]


def samples_and_nearest(
    images: Float[Tensor, "batch channels height width"],
    training: Iterable[Float[Tensor, "chunk channels height width"]],
    *,
    columns: int = 10,
) -> Figure:
    """Figures 6, 9 and 12: samples, and beside the last of each row the training image nearest it.

    If the samples were copies, the two columns on the right would be alike.

    Args:
        images: Samples, in [0, 1]; only full rows of them are shown.
        training: The training images, in parts of any size.
        columns: How many samples in a row.
    """
    rows = len(images) // columns
    if rows == 0:
        raise ValueError(f"images must fill a row of {columns}, got {len(images)}")
    table = images[: rows * columns].unflatten(0, (rows, columns))
    found, _ = nearest(table[:, -1], training)
    cells = torch.cat([table, found[:, None]], 1).flatten(0, 1)
    titles = [""] * columns + ["nearest"]
    figure, axes = mosaic(cells, columns + 1, titles)
    height, width = images.shape[2:]
    line = columns * (width + gap(height)) - (gap(height) + 1) / 2
    axes.axvline(line, color=GRID_COLOUR, linewidth=1.5)
    return figure


def nearest(
    images: Float[Tensor, "batch channels height width"],
    training: Iterable[Float[Tensor, "chunk channels height width"]],
) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, " batch"]]:
    """The training image nearest to each image, and its Euclidean distance.

    Args:
        images: The images to compare.
        training: The images to search, in parts of any size, so that they need not all be in
            memory as floats.
    """
    found = torch.zeros_like(images)
    distance = images.new_full((len(images),), math.inf)
    for part in training:
        if len(part) == 0:
            continue
        exact = "donot_use_mm_for_euclid_dist"  # 0 for a copy, which is what we look for
        apart = torch.cdist(images.flatten(1), part.to(images).flatten(1), compute_mode=exact)
        nearer, index = apart.min(1)
        better = nearer < distance
        found[better] = part.to(images)[index[better]]
        distance = torch.where(better, nearer, distance)
    return found, distance


def _window(
    image: Float[Tensor, "channels height width"], extent: float, sigma: float, size: int
) -> Window:
    """A window in the middle of a picture, ``extent`` pixels from its first filter to its last."""
    _, height, width = image.shape
    numbers = ((height - 1) / 2, (width - 1) / 2, extent / max(size - 1, 1), sigma, 1.0)
    return Window(*(image.new_tensor([number]) for number in numbers))


def _enlarge(
    images: Float[Tensor, "batch channels size size"], scale: float, height: int, width: int
) -> Float[Tensor, "batch channels {height} {width}"]:
    """Images enlarged with square pixels, each in the middle of a white page."""
    size = images.shape[2]
    side = round(size * scale)
    index = torch.arange(side, device=images.device) * size // side
    page = images.new_ones(*images.shape[:2], height, width)
    top, left = (height - side) // 2, (width - side) // 2
    page[:, :, top : top + side, left : left + side] = images[:, :, index][:, :, :, index]
    return page


def _show(axes: Axes, image: Float[Tensor, "channels height width"], title: str) -> None:
    height, width = image.shape[1:]
    scale = ENLARGE if max(height, width) <= 128 else 1
    axes.imshow(
        paint.to_pictures(image[None], scale)[0],
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="none",
    )
    axes.set_title(title, **TEXT)
    axes.set_axis_off()
