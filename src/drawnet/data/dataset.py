"""Any `torch.utils.data.Dataset` as `Images`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from drawnet.checks import SLACK
from drawnet.data.images import DataError, Images
from drawnet.data.pictures import planes, repaint

MOST_CLASSES = 100_000
"""With larger labels, a dataset must say what its classes are."""


def from_dataset(
    dataset: Dataset[Any],
    *,
    name: str = "dataset",
    split: str = "train",
    classes: Sequence[str] = (),
) -> Images:
    """Read a dataset once, from first to last, into memory.

    Args:
        dataset: Pictures x, or pairs (x, label). x is a Pillow image; a tensor (C, H, W) or
            (H, W); or a numpy array (H, W, C) or (H, W). Tensors and arrays are `uint8` 0..255,
            `bool`, or floats in [0, 1], which are rounded to the nearest of 256 intensities and may
            lie outside [0, 1] by a rounding error. All pictures have the same shape. Labels are
            integers >= 0.
        name, split: What to call the set.
        classes: The names of the labels; by default "0", "1", ...

    Raises:
        DataError: Says which item is wrong, what was expected and what it got.
    """
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for number, item in enumerate(_items(dataset)):
        picture, *label = item if isinstance(item, tuple | list) else (item,)
        where = f"{name}, item {number}"
        pixels.append(_bytes(picture, where))
        if pixels[-1].shape != pixels[0].shape:
            raise DataError(
                f"{where}: expected shape {pixels[0].shape}, as item 0 has, got {pixels[-1].shape}"
            )
        labels += _label(label, where)
        if len(labels) not in (0, number + 1):
            raise DataError(f"{where}: expected labels for all items or for none")
    if not pixels:
        raise DataError(f"{name}: expected at least one item, got none")
    if labels and not classes:
        if max(labels) >= MOST_CLASSES:
            wanted = f"labels below {MOST_CLASSES}, or the names of the classes"
            raise DataError(f"{name}: expected {wanted}, got {max(labels)}")
        classes = [str(label) for label in range(max(labels) + 1)]
    if labels and max(labels) >= len(classes):
        raise DataError(f"{name}: expected labels below {len(classes)}, got {max(labels)}")
    return Images(
        torch.from_numpy(np.stack(pixels)),
        torch.tensor(labels) if labels else None,
        name,
        split,
        f"{name}, read from a dataset of {len(pixels)} items",
        tuple(classes) if labels else (),
    )


def _items(dataset: Dataset[Any]) -> Iterator[Any]:
    if hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset):
        # Iterating needs an IndexError at the end, which not every dataset raises.
        return (dataset[i] for i in range(len(dataset)))
    return iter(dataset)


def _label(label: list[Any], where: str) -> list[int]:
    if not label:
        return []
    try:
        (value,) = (_plain(part).item() for part in label)
    except ValueError as error:
        raise DataError(f"{where}: expected a picture and one label, got {label}") from error
    if not isinstance(value, int) or value < 0:
        raise DataError(f"{where}: expected an integer label >= 0, got {value!r}")
    return [int(value)]


def _plain(part: Any) -> np.ndarray:
    return np.asarray(part.cpu() if isinstance(part, Tensor) else part)


def _bytes(picture: object, where: str) -> np.ndarray:
    """(C, H, W) uint8."""
    if isinstance(picture, Image.Image):
        if picture.mode == "F":
            return _bytes(np.asarray(picture), where)
        if picture.mode == "I":  # nothing says where white is
            raise DataError(f"{where}: expected a Pillow image of 8 or 16 bits, got 32 (mode I)")
        grey = picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith("I")
        return planes(repaint(picture, 1 if grey else 3))
    if isinstance(picture, Tensor):
        if picture.dtype == torch.bfloat16:  # numpy has no such type
            picture = picture.float()
        array: np.ndarray = picture.detach().cpu().numpy()
    elif isinstance(picture, np.ndarray):
        array = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    else:
        raise DataError(
            f"{where}: expected a Pillow image, a tensor or an array, got {type(picture).__name__}"
        )
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not 1 <= array.shape[0] <= 4 or 0 in array.shape:
        layout = "(C, H, W)" if isinstance(picture, Tensor) else "(H, W, C)"
        raise DataError(
            f"{where}: expected {layout} with 1 to 4 channels, or (H, W), got {picture.shape}"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{where}: expected uint8, bool or floats, got {array.dtype}")
    low, high = array.min(), array.max()
    if not (low >= -SLACK and high <= 1 + SLACK):  # written so that NaN is refused too
        raise DataError(f"{where}: expected floats in [0, 1], got {low:g} to {high:g}")
    return (array.clip(0, 1) * 255).round().astype(np.uint8)
