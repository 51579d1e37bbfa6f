"""OMNIGLOT: handwritten characters of many alphabets, brought to 28 x 28 pixels.

The original drawings are 105 x 105 one-bit images in zip files, twenty of each character by twenty
people. They are read without unpacking; a pixel becomes the share of ink in the area it covers.
The background set is for training, except for the last two drawings of each character, which are
for validation. The evaluation set is for testing.

Published likelihoods are measured on another version, `omniglot_burda`.
"""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from drawnet.data.download import Remote
from drawnet.data.images import DataError, Images
from drawnet.data.pictures import decode
from drawnet.data.store import Store
from drawnet.data.views import shown

_SIDE, _SOURCE_SIDE = 28, 105
_MOST_DRAWINGS, _MOST_BYTES = 40_000, 4096
_GITHUB = "https://github.com/brendenlake/omniglot/raw/master/python"
_BACKGROUND = Remote(
    f"{_GITHUB}/images_background.zip",
    "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    9_464_212,
)
_EVALUATION = Remote(
    f"{_GITHUB}/images_evaluation.zip",
    "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    6_462_886,
)
_SMALL = ("images_background_small1.zip", "images_background_small2.zip")
_HELD_OUT = ("_19.png", "_20.png")


def omniglot(split: str, store: Store, *, binarize: bool = False) -> Images:
    """OMNIGLOT from its original zips, ink = 1, grey, or binarized afresh at each use.

    If the full background set is missing, `images_background_small1.zip` and `..._small2.zip`, or
    whichever of them is there, are used instead, and the description says so.
    """
    paths = _zips(split, store)
    drawings: dict[str, np.ndarray] = {}
    for path in paths:
        drawings |= read_drawings(path)
    classes = sorted({name.rsplit("/", 1)[0] for name in drawings})
    if split != "test":
        held_out = split == "valid"
        drawings = {n: d for n, d in drawings.items() if n.endswith(_HELD_OUT) == held_out}
    if not drawings:
        raise DataError(f"{paths[0]}: expected drawings for the split {split!r}, got none")
    names = sorted(drawings)
    number = {name: i for i, name in enumerate(classes)}
    what = " and ".join(path.stem for path in paths)
    view, how = shown(binarize)
    return Images(
        torch.from_numpy(np.stack([drawings[name] for name in names]))[:, None],
        torch.tensor([number[name.rsplit("/", 1)[0]] for name in names]),
        "omniglot",
        split,
        f"omniglot, {what}, {_SIDE}x{_SIDE}, {how}",
        tuple(classes),
        view=view,
    )


def _zips(split: str, store: Store) -> list[Path]:
    if split == "test":
        return [store.find("omniglot", _EVALUATION.filename, _EVALUATION)]
    if store.locate("omniglot", _BACKGROUND.filename) is None:
        small = [path for name in _SMALL if (path := store.locate("omniglot", name))]
        if small:
            return small
    return [store.find("omniglot", _BACKGROUND.filename, _BACKGROUND)]


def read_drawings(path: Path) -> dict[str, np.ndarray]:
    """The drawings of a zip by `Alphabet/characterNN/XXXX_YY.png`, (28, 28) uint8, 255 = ink."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".png")]
            if not 1 <= len(members) <= _MOST_DRAWINGS:
                raise DataError(
                    f"{path}: expected 1 to {_MOST_DRAWINGS} drawings, got {len(members)}"
                )
            drawings = {}
            for info in members:
                with archive.open(info) as file:
                    data = file.read(_MOST_BYTES + 1)
                name = "/".join(info.filename.split("/")[-3:])
                drawings[name] = _shrink(data, f"{path}, {name}")
            return drawings
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a parser that is fed garbage may raise anything
        raise DataError(f"{path}: cannot be read as a zip file ({error})") from error


def _shrink(data: bytes, where: str) -> np.ndarray:
    if len(data) > _MOST_BYTES:
        raise DataError(f"{where}: expected at most {_MOST_BYTES} bytes, got more")
    drawing = decode(BytesIO(data), where, channels=1, megapixels=_SOURCE_SIDE**2 / 1e6)
    if drawing.size != (_SOURCE_SIDE, _SOURCE_SIDE):
        width, height = drawing.size
        raise DataError(
            f"{where}: expected {_SOURCE_SIDE} x {_SOURCE_SIDE} pixels, got {width} x {height}"
        )
    ink = np.asarray(drawing) < 128
    shared: np.ndarray = _AREAS @ ink @ _AREAS.T
    return (255 * shared).round().astype(np.uint8)


def _areas() -> np.ndarray:
    """(28, 105): how much of each old pixel a new one covers, along one axis; rows sum to 1."""
    width = _SOURCE_SIDE / _SIDE
    start, old = width * np.arange(_SIDE)[:, None], np.arange(_SOURCE_SIDE)
    overlap: np.ndarray = np.minimum(start + width, old + 1) - np.maximum(start, old)
    return overlap.clip(min=0) / width


_AREAS = _areas()
