"""Decode pictures that anybody may have made.

A file of 140 kB can hold 144 megapixels, so the size is checked before anything is decoded, and
only PNG, JPEG and WebP are tried at all. Whatever mode a picture comes in (palette, CMYK, 16 bit,
transparent), it leaves as 8-bit grey or RGB.
"""

import warnings
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from drawnet.data.images import DataError

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".tif", ".tiff", ".bmp", ".gif")
MEGAPIXELS = 4.0
"""The most that a stranger's picture may have."""
PHOTO_MEGAPIXELS = 100.0
"""The most that the user's own picture may have: no camera's photo is refused."""


def decode(
    file: Path | IO[bytes],
    where: str,
    channels: int,
    megapixels: float = MEGAPIXELS,
    enough: int | None = None,
) -> Image.Image:
    """The picture in a file, upright, in mode L (1 channel) or RGB (3 channels).

    Args:
        file: The file.
        where: Its name, for errors.
        channels: 1 or 3.
        megapixels: The most that it may have.
        enough: A JPEG with sides of at least twice as many pixels may come at 1/2, 1/4 or 1/8 of
            its size, with sides of at least this many, which is several times as fast.

    Raises:
        DataError: The file is not a picture, is damaged, or has too many pixels. Names `where`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large sizes and odd metadata
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > megapixels * 1e6:
                    raise DataError(
                        f"{where}: expected at most {megapixels:g} megapixels, "
                        f"got {width} x {height}"
                    )
                if enough is not None:
                    image.draft(None, (enough, enough))
                return repaint(ImageOps.exif_transpose(image), channels)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: expected a PNG, JPEG or WebP picture, got none") from error
    except Exception as error:  # a decoder that is fed garbage may raise anything
        raise DataError(f"{where}: expected a PNG, JPEG or WebP picture, got {error}") from error


def repaint(image: Image.Image, channels: int) -> Image.Image:
    """A picture of any mode as L (1 channel) or RGB (3 channels), over white if transparent."""
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip high values
        values = np.asarray(image).clip(0, 0xFFFF)
        clear = values == image.info.get("transparency", -1)
        values = np.where(clear, 0xFF, values >> 8)
        image = Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def planes(image: Image.Image) -> np.ndarray:
    """The (C, H, W) bytes of a picture in mode L or RGB."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def to_tensor(image: Image.Image) -> Tensor:
    """The (C, H, W) values in [0, 1] of a picture in mode L or RGB, in torch's default type."""
    return torch.from_numpy(planes(image).copy()).to(torch.get_default_dtype()) / 255
