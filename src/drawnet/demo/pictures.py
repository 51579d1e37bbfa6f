"""Bring pictures that strangers send to the shape that a model expects.

A picture comes as a ``data:`` URL. It is decoded by `drawnet.data.pictures.decode`, which checks
its size first. A digit is then centred as in MNIST (LeCun et al., 1998): its ink is scaled to fit a
box of 20/28 of the image with its proportions kept, and placed so that its centre of mass lies at
pixel (H / 2, W / 2), counted from 0. A network that has seen digits only in that place thus sees
this one there, too.
"""

import base64
import io
import reprlib

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from drawnet.data.digits import write_digits
from drawnet.data.pictures import decode, to_tensor

BOX = 20 / 28
"""The longer side of the ink of an MNIST digit, relative to the image."""
FAINT = 0.1
"""A picture with less contrast than this, out of 1, is empty."""
MAX_BYTES = 5_000_000
TYPES = ("png", "jpeg", "webp")


def from_url(url: object) -> Image.Image:
    """The picture in a ``data:`` URL, in RGB.

    Raises:
        ValueError: If it is missing, too large, or not a PNG, JPEG or WebP picture.
    """
    if url in (None, ""):
        raise ValueError("there is no picture yet: draw one, or choose one")
    if not isinstance(url, str):
        raise ValueError(f"the picture must be a data: URL, got {reprlib.repr(url)}")
    head, _, body = url.partition(",")
    if head not in [f"data:image/{kind};base64" for kind in TYPES]:
        kinds = ", ".join(TYPES)
        raise ValueError(f"the picture must be one of {kinds}, got {reprlib.repr(head)}")
    if len(body) * 3 / 4 > MAX_BYTES:
        raise ValueError(f"the picture must have at most {MAX_BYTES / 1e6:g} MB")
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError as error:
        raise ValueError(f"the picture is damaged: {error}") from error
    return decode(io.BytesIO(data), "the picture", channels=3)


def to_url(image: Image.Image) -> str:
    """Encode a picture as a ``data:`` URL, without loss."""
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, method=0, quality=0)  # the fastest way
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def to_shape(
    picture: Image.Image, image_shape: tuple[int, int, int], digit: bool
) -> Float[Tensor, "1 channels height width"]:
    """Turn a picture into an image that a model can read, in [0, 1].

    Args:
        picture: In RGB, of any size.
        image_shape: (C, H, W), with one or three channels.
        digit: Whether the picture is ink on paper, white on black or black on white. It is then
            centred and becomes white on black without greys. Otherwise the largest part with the
            right proportions around the middle is taken as it is.

    Raises:
        ValueError: If there is no ink.
    """
    channels, height, width = image_shape
    if digit:
        white = centre(ink(picture), height, width) > 0.5
        image = Image.fromarray(255 * white.astype(np.uint8))
    else:
        image = ImageOps.fit(picture, (width, height), Image.Resampling.BOX)
    return to_tensor(image.convert("L" if channels == 1 else "RGB"))[None]


def ink(picture: Image.Image) -> NDArray[np.float32]:
    """How much every pixel differs from the paper, ``(height, width)`` in [0, 1].

    The paper is the median of the picture's border. The ink is darker or lighter than the paper,
    whichever difference is larger.

    Raises:
        ValueError: If no pixel differs from the paper.
    """
    grey = np.asarray(picture.convert("L"), np.float32) / 255
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    difference = grey - np.median(border)
    if -difference.min() > difference.max():
        difference = -difference
    if difference.max() < FAINT:
        raise ValueError("the picture is empty: draw something on it")
    share: NDArray[np.float32] = np.clip(difference / difference.max(), 0, 1)
    return share


def centre(ink: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Scale ink to `BOX` of the image, and put its centre of mass in the middle.

    Args:
        ink: ``(rows, columns)`` in [0, 1], with some values above one half.
        height: The height of the resulting image.
        width: The width of the resulting image.
    """
    rows, columns = np.nonzero(ink > 0.5)
    box = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = BOX * min(height, width) / max(box.shape)
    size = [max(round(side * scale), 1) for side in box.shape]
    small = np.asarray(Image.fromarray(box).resize(size[::-1], Image.Resampling.BOX))
    small = small / small.max()  # a thin line gets faint when scaled down, but it is still ink

    page = np.zeros((height, width), np.float32)
    mass = small.sum()
    place = []
    for axis, (side, room) in enumerate(zip(size, (height, width), strict=True)):
        mean = small.sum(1 - axis) @ np.arange(side) / mass
        place.append(min(max(round(room / 2 - mean), 0), room - side))
    top, left = place
    page[top : top + size[0], left : left + size[1]] = small
    return page


def thumbnail(picture: Image.Image, side: int) -> Image.Image:
    """A picture whose longer side is at most `side` pixels, and whose shorter is at least 1."""
    small = picture.copy()
    small.thumbnail((side, side))
    return small


def digit(index: int) -> Image.Image:
    """A digit that drawnet draws itself, large enough to draw on."""
    pixels = write_digits(torch.tensor([index]), salt=0)[0, 0].numpy()
    return Image.fromarray(pixels).resize((280, 280), Image.Resampling.BILINEAR).convert("RGB")


def from_figure(figure: Figure) -> Image.Image:
    """Render a figure as a picture."""
    figure.set_dpi(140)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels).convert("RGB")
