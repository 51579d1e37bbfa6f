"""Paint on arrays: enlarge images, set them side by side, draw windows and bars with smooth edges.

Pictures are arrays of display pixels, ``(B, height, width, 3)`` of floats in [0, 1]. Lengths that
come from the model are in image pixels. Pixel i covers the interval [i - 1/2, i + 1/2], so position
p of an image enlarged `scale` times lies at ``(p + 1/2) * scale`` on the display. A shape is
painted by the exact share of each display pixel that it covers: anti-aliasing without sampling.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from drawnet.attention import Window
from drawnet.model import Trace

Array = NDArray[np.float64]

READ_COLOUR = (0.337, 0.706, 0.914)
"""Sky blue. The colours are from the palette of Okabe and Ito: colour-blind people can tell them
apart, and they show on black as well as on white."""
WRITE_COLOUR = (0.835, 0.369, 0.0)
"""Vermillion."""
KL_COLOUR = (0.0, 0.620, 0.451)
"""Bluish green."""
HIDDEN_COLOUR = (0.800, 0.475, 0.655)
"""Reddish purple: the hidden part of an image."""
TINT = 0.35
"""The opacity of that colour over what was drawn in the hidden part."""
PAPER = 1.0
"""The space between the images: white."""
INK = (38, 38, 38)
"""The colour of words: nearly black."""
BAND_OPACITY = 0.45
"""The opacity of a border, which is as wide as sigma; only its middle is solid."""
MIDDLE = 0.3
"""The solid middle of a border is at most this many image pixels wide."""


class Outline(NamedTuple):
    """The rectangles that stand for windows; each field is a ``(B,)`` array in image pixels.

    The sides run through the centres of the first and the last filter. The border is as wide as
    sigma, and half of it lies on either side of them.
    """

    top: Array
    left: Array
    bottom: Array
    right: Array
    border: Array


def outline(window: Window, size: int) -> Outline:
    """The rectangles of a batch of windows.

    Args:
        window: One window per image: tensors of shape ``(B,)``.
        size: N, the number of filters along each side.
    """
    g_y, g_x, delta, sigma = (to_array(number) for number in window[:4])
    reach = (size - 1) / 2 * delta
    return Outline(g_y - reach, g_x - reach, g_y + reach, g_x + reach, sigma)


def check_complete(trace: Trace) -> None:
    if len(trace.canvas) != len(trace.z):
        raise ValueError("the trace holds its last canvas only: run the model with record='all'")


def to_array(values: Tensor) -> Array:
    return values.detach().cpu().double().numpy()


def to_pictures(images: Float[Tensor, "batch channels height width"], scale: int) -> Array:
    """Enlarge images in [0, 1] with one or three channels; each pixel becomes a square."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (B, 1 or 3, H, W), got {tuple(images.shape)}")
    if scale < 1:
        raise ValueError(f"scale must be >= 1, got {scale}")
    pictures = to_array(images).clip(0, 1).transpose(0, 2, 3, 1)
    pictures = np.broadcast_to(pictures, (*pictures.shape[:3], 3))
    return pictures.repeat(scale, axis=1).repeat(scale, axis=2)


def paint_outline(
    pictures: Array, rectangles: Outline, colour: tuple[float, ...], scale: int
) -> None:
    """Draw one rectangle on each picture, in place; what lies outside the picture is cut off.

    The border is transparent except for a solid line along its middle, which marks the exact place
    even in a wide border. It is never narrower than one display pixel.
    """
    height, width = pictures.shape[1:3]

    def covered(grow: Array) -> Array:
        rows = _share(rectangles.top - grow, rectangles.bottom + grow, height, scale)
        columns = _share(rectangles.left - grow, rectangles.right + grow, width, scale)
        return rows[:, :, None] * columns[:, None, :]

    def border(thickness: Array) -> Array:
        return covered(thickness / 2) - covered(-thickness / 2)

    band = np.maximum(rectangles.border, 1 / scale)
    middle = np.minimum(band, max(MIDDLE, 1 / scale))
    opacity = np.maximum(BAND_OPACITY * border(band), border(middle))[..., None]
    pictures += opacity * (np.asarray(colour) - pictures)


def _share(start: Array, end: Array, length: int, scale: int) -> Array:
    """The share of each display pixel that lies between two image positions, ``(B, length)``."""
    edge = np.arange(length)
    low = np.maximum(edge, (start[:, None] + 0.5) * scale)
    high = np.minimum(edge + 1, (end[:, None] + 0.5) * scale)
    return (high - low).clip(0, 1)


def bars(heights: Array, height: int, width: int, chosen: int | NDArray[np.int64]) -> Array:
    """Draw a strip of bars from left to right, one of which stands out.

    Args:
        heights: ``(B, T)``, each in [0, 1].
        height: Height of the strip in display pixels.
        width: Width of the strip in display pixels.
        chosen: The number of the bar that stands out, or ``(B,)`` numbers; -1 for none.
    """
    bar = np.arange(width) * heights.shape[1] // width
    rows = np.arange(height)[::-1, None]
    share = (heights[:, None, bar] * height - rows).clip(0, 1)[..., None]
    stands_out = (bar == np.reshape(chosen, (-1, 1)))[:, None, :, None]
    strip: Array = 0.93 * (1 - share) + np.where(stands_out, WRITE_COLOUR, KL_COLOUR) * share
    return strip


def words(names: Sequence[str], height: int, width: int) -> Array:
    """Write words side by side, each below one of the `bars`: ``(1, height, width, 3)``.

    Args:
        names: The words. One that is too long for its bar is replaced by its number, and left out
            if that is too long as well.
        height: Height of the line in display pixels.
        width: Width of the line in display pixels.
    """
    line = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(line), ImageFont.load_default(0.85 * height)
    slot = width / len(names)
    for number, name in enumerate(names):
        name = " ".join(name.split())
        text = name if pen.textlength(name, font) < slot else str(number)
        if pen.textlength(text, font) < slot:
            pen.text(((number + 0.5) * slot, height / 2), text, INK, font, anchor="mm")
    return np.asarray(line)[None] / 255


def stack(pictures: list[Array], gap: int, axis: Literal[1, 2] = 1) -> Array:
    """Stack pictures of the same width vertically or, along axis 2, of the same height in a row."""
    shape = list(pictures[0].shape)
    shape[axis] = gap
    space = np.full(shape, PAPER)
    parts = [part for picture in pictures for part in (picture, space)]
    return np.concatenate(parts[:-1], axis=axis)


def mosaic(pictures: Array, columns: int | None, gap: int) -> Array:
    """Set pictures side by side in rows: picture i in row i // columns, `gap` pixels apart.

    Args:
        pictures: ``(B, height, width, 3)``.
        columns: Number of pictures per row; with None the whole is about square.
        gap: Display pixels between two pictures.
    """
    number, height, width, _ = pictures.shape
    if number == 0:
        raise ValueError("expected at least one image, got none")
    if columns is None:
        rows = max(round((number * (width + gap) / (height + gap)) ** 0.5), 1)
        columns = -(-number // rows)
    columns = min(max(columns, 1), number)
    rows = -(-number // columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), PAPER)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        page[top : top + height, left : left + width] = picture
    return page


def to_image(picture: Array) -> Image.Image:
    return Image.fromarray((picture * 255).round().astype(np.uint8))


def cover(
    images: Float[Tensor, "batch channels height width"],
    known: Bool[Tensor, "..."],
    opacity: float = 1.0,
) -> Float[Tensor, "batch 3 height width"]:
    """Cover the hidden part of images with a colour.

    Args:
        images: Images in [0, 1], grey or in colour.
        known: Which pixels to leave as they are, of a shape that broadcasts to that of `images`.
        opacity: The opacity of the colour over the other pixels, from 0 to 1.
    """
    colour = images.new_tensor(HIDDEN_COLOUR)[:, None, None]
    hidden = opacity * (~known.expand(images.shape)).to(images)
    return images + hidden * (colour - images)


def grid(
    images: Float[Tensor, "batch channels height width"],
    *,
    columns: int | None = None,
    scale: int = 4,
    gap: int = 4,
) -> Image.Image:
    """Set images side by side in one picture.

    Args:
        images: Images in [0, 1], grey or in colour; values outside are clipped.
        columns: Number of images per row; by default the picture is about square.
        scale: Every pixel becomes a square of this side.
        gap: Pixels of white between two images, not enlarged.

    Returns:
        An RGB picture. Image i has its corner at row ``i // columns * (H * scale + gap)`` and
        column ``i % columns * (W * scale + gap)``.
    """
    return to_image(mosaic(to_pictures(images, scale), columns, gap))
