"""A folder of your own pictures.

Pictures of any size and mode, in the folder or below it, are brought to one size. If every picture
lies in a subfolder, the names of the subfolders are the classes. Eight pictures in ten are for
training, one for validation and one for testing. A hash of the file's path below the folder
decides, so adding or removing pictures moves none of the others. If all pictures lie in folders
named train, valid and test, these are the splits, and the classes are the folders in them.
"""

import hashlib
import logging
import os
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from drawnet.data.images import SPLITS, DataError, Images
from drawnet.data.pictures import PHOTO_MEGAPIXELS, SUFFIXES, UNREAD_SUFFIXES, decode, planes
from drawnet.data.store import Store
from drawnet.data.views import mirrored, shown

_FITS = ("crop", "stretch")
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
"""What folders of splits are called."""
_FINER = 4
"""How many times finer than the images a photo is decoded at least, before it is resized."""
_log = logging.getLogger(__name__)


def folder(
    split: str,
    store: Store,
    *,
    size: int | list[int] = 64,
    fit: str = "crop",
    channels: int = 3,
    binarize: bool = False,
    mirror: bool = False,
    skip_broken: bool = False,
    megapixels: float = PHOTO_MEGAPIXELS,
) -> Images:
    """The pictures (PNG, JPEG, WebP) in the folder `data_dir`.

    Args:
        size: Height and width to bring them to, in pixels, 1 to 1024: one number for both, or
            [height, width].
        fit: "crop" keeps the proportions, and cuts out the largest part of that shape around the
            middle; "stretch" keeps everything.
        channels: 1 for grey, 3 for colour.
        binarize: Draw every number as 0 or 1, afresh at each use; otherwise keep intensities.
        mirror: Exchange left and right in half of the training images, afresh at each use.
        skip_broken: Skip pictures and folders that cannot be read, each with a warning in the log;
            otherwise the first one is an error.
        megapixels: A picture with more than this counts as broken, and is not decoded. At most 178,
            the limit of Pillow.
    """
    if store.data_dir is None:
        raise ValueError("folder needs the folder with the pictures: give data_dir, or --data-dir")
    sides = [size, size] if isinstance(size, int) else size
    if len(sides) != 2 or any(type(n) is not int or not 1 <= n <= 1024 for n in sides):
        raise ValueError(f"size must be 1 to 1024, or two such numbers, got {size}")
    height, width = sides
    if fit not in _FITS:
        raise ValueError(f"fit must be one of {', '.join(_FITS)}, got {fit!r}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if not 0 < megapixels <= 178:
        raise ValueError(f"megapixels must be in (0, 178], got {megapixels}")

    root = store.data_dir
    found, closed = _pictures(root, skip_broken)
    tops = {_SPLITS.get(path.parts[0].lower(), "") for path in found}
    given = tops if "train" in tops and "" not in tops else set[str]()
    level = 1 if given else 0  # where the classes are
    classes = sorted({path.parts[level] for path in found})
    if any(len(path.parts) == level + 1 for path in found):
        classes = []
    wanted = [path for path in found if _split(path, given) == split]

    pixels = np.empty((len(wanted), channels, height, width), np.uint8)
    labels, broken, enough = [], 0, _FINER * max(sides)
    for number, path in enumerate(wanted, 1):
        try:
            picture = decode(root / path, str(root / path), channels, megapixels, enough)
        except DataError as error:
            _skip(error, skip_broken)
            broken += 1
        else:
            pixels[number - 1 - broken] = planes(_brought_to(picture, (width, height), fit))
            labels.append(classes.index(path.parts[level]) if classes else 0)
        store.tell("reading pictures", number, len(wanted))
    kept = len(wanted) - broken
    if kept == 0:
        share = "" if given else ", which gets one picture in ten (eight for 'train')"
        raise DataError(
            f"{root}: expected readable pictures for the split {split!r}{share}, "
            f"got none of {len(found)} pictures"
        )

    view, colours = shown(binarize)
    how = "cropped" if fit == "crop" else "stretched"
    by = [f"folders {', '.join(name for name in SPLITS if name in given)}"] if given else []
    if len(given) < len(SPLITS):
        by.append("file name")
    description = (
        f"folder {root.resolve().name}, {how} to {height}x{width}, split by {' and '.join(by)}"
    )
    if binarize:
        description += f", {colours}"
    if mirror and split == "train":
        view, description = partial(mirrored, view=view), f"{description}, mirrored at random"
    if broken:
        description += f", {broken} broken left out"
    if closed:
        description += f", {closed} folders left out"
    return Images(
        torch.from_numpy(pixels[:kept]),
        torch.tensor(labels) if classes else None,
        "folder",
        split,
        description,
        tuple(classes),
        view=view,
    )


def split_of(name: str) -> str:
    """The split that a file belongs to, by the hash of its path below the folder."""
    name = unicodedata.normalize("NFC", name)  # macOS spells accents in its own way
    part = int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:8]) % 10
    return {0: "test", 1: "valid"}.get(part, "train")


def _split(path: Path, given: set[str]) -> str:
    """The split of a picture, where `given` are those with folders of their own.

    The others come from the pictures for training.
    """
    part = split_of(path.as_posix())
    if not given:
        return part
    own = _SPLITS[path.parts[0].lower()]
    return part if own == "train" and part not in given else own


def _skip(error: Exception, skip_broken: bool) -> None:
    """Say what is skipped or, unless that was asked for, raise."""
    if not skip_broken:
        hint = "the option skip_broken: true leaves such out"
        raise DataError(f"{error}; {hint}") from error
    _log.warning("skipped %s", error)


def _pictures(root: Path, skip_broken: bool) -> tuple[list[Path], int]:
    """The pictures in a folder and below, sorted, as paths below it, except hidden ones; and how
    many folders cannot be read."""
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of pictures, got no folder")

    closed: list[OSError] = []
    found, others, walked = [], 0, set()
    for parent, folders, files in os.walk(root, onerror=closed.append, followlinks=True):
        if (real := os.path.realpath(parent)) in walked:  # by a link
            folders.clear()
            continue
        walked.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        folders.sort(key=lambda name: (Path(parent, name).is_symlink(), name))  # links last
        files = [name for name in files if not name.startswith(".")]
        found += [
            Path(parent, name).relative_to(root)
            for name in files
            if name.lower().endswith(SUFFIXES)
        ]
        others += sum(name.lower().endswith(UNREAD_SUFFIXES) for name in files)
    for error in closed:
        _skip(DataError(f"{error.filename}: cannot be read: {error.strerror}"), skip_broken)
    if not found:
        got = f"{others} of other formats" if others else "none"
        raise DataError(f"{root}: expected pictures ({', '.join(SUFFIXES)}), got {got}")
    if others:
        _log.warning("left out %d files of other formats (%s)", others, ", ".join(UNREAD_SUFFIXES))
    return sorted(found), len(closed)


def _brought_to(picture: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    if fit == "crop":
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    return picture.resize(size, Image.Resampling.LANCZOS)
