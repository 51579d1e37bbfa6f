"""Street View House Numbers, format 1: photographs of whole numbers, prepared as in the paper.

After Goodfellow et al. (2013), the box around all digits of a number is made 30 % wider and
higher, cut out and resized to 64 x 64; training sees 54 x 54 crops at random places, validation
and testing those in the middle. A set comes as folders `train`, `extra` and `test`, each with
pictures `1.png`, `2.png`, ... and their boxes in `digitStruct.mat`, which is an HDF5 file.

Reading a quarter of a million pictures and their boxes can take an hour, so the prepared pictures
are kept in the user's cache as one array of bytes, which later runs map into memory.
"""

import hashlib
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from drawnet.data import views
from drawnet.data.images import DataError, Images
from drawnet.data.pictures import decode
from drawnet.data.store import Store, cache

_SIDE, _CROP = 64, 54
_ENLARGE = 1.3
_MOST_DIGITS = 5
_VALID_EVERY = 50
_BY_HAND = (
    "By hand: fetch train.tar.gz, extra.tar.gz and test.tar.gz from "
    "http://ufldl.stanford.edu/housenumbers and unpack them there"
)


class _Number(NamedTuple):
    """A picture and the box around all of its digits, in pixels."""

    path: Path
    left: float
    top: float
    right: float
    bottom: float


def svhn(split: str, store: Store) -> Images:
    """House numbers in colour, 54 x 54, without labels.

    Every fiftieth picture of `train` and `extra` is for validation. (The paper trains on 231,053
    and validates on 4,701 of them, and does not say how it chose.) Numbers of more than five digits
    are left out, as are pictures that are listed but missing. The description says how many remain.
    """
    parts = _parts(("test",) if split == "test" else ("train", "extra"), store)
    prepared = _prepared(parts, store)
    at = np.arange(len(prepared))
    if split != "test":
        at = at[(at % _VALID_EVERY == 0) == (split == "valid")]
    if not at.size:
        raise DataError(f"{parts[0].parent}: expected pictures for {split!r}, got none")
    what = "+".join(part.name for part in parts)
    crop = "random" if split == "train" else "centre"
    return Images(
        torch.from_numpy(prepared if len(at) == len(prepared) else prepared[at]),
        None,
        "svhn",
        split,
        f"svhn, {len(at)} of the {len(prepared)} numbers of {what}, {crop} {_CROP}x{_CROP} crops",
        view=partial(views.random_crop if split == "train" else views.centre_crop, size=_CROP),
        size=(_CROP, _CROP),
    )


def _parts(names: tuple[str, ...], store: Store) -> list[Path]:
    """The folders of these names that exist; the first must."""
    found = [store.locate("svhn", f"{name}/digitStruct.mat") for name in names]
    if found[0] is None:
        raise store.missing("svhn", f"{names[0]}/digitStruct.mat", _BY_HAND)
    return [path.parent for path in found if path is not None]


def _prepared(parts: list[Path], store: Store) -> np.ndarray:
    """(N, 3, 64, 64) bytes, mapped from the cache; they are put there first if need be."""
    state = [
        (str(part.resolve()), sum(1 for _ in part.glob("*.png")), boxes.st_size, boxes.st_mtime_ns)
        for part in parts
        for boxes in [(part / "digitStruct.mat").stat()]
    ]
    target = cache() / "svhn" / f"{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}.npy"
    if not target.exists():
        numbers = [number for part in parts for number in read_boxes(part, store)]
        if not numbers:
            raise DataError(f"{parts[0]}: expected pictures 1.png, 2.png, ..., got none of them")
        try:
            _prepare(numbers, target, store)
        except OSError as error:
            raise DataError(f"{target.parent}: cannot be written to ({error})") from error
    try:
        pixels: np.ndarray = np.load(target, mmap_mode="c")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{target}: cannot be read; delete it ({error})") from error
    return pixels


def _prepare(numbers: list[_Number], target: Path, store: Store) -> None:
    """Cut out all numbers, one by one, into a new file, which then takes the target's place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder, "part.npy")
        shape = (len(numbers), 3, _SIDE, _SIDE)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for i, number in enumerate(numbers):
                file.write(cut_out(number).transpose(2, 0, 1).tobytes())
                store.tell("preparing house numbers", i + 1, len(numbers))
        part.replace(target)


def cut_out(number: _Number) -> np.ndarray:
    """The (64, 64, 3) piece of the picture around the digits, as far as it lies in the picture."""
    picture = decode(number.path, str(number.path), channels=3)
    box = []
    for low, high, length in (
        (number.left, number.right, picture.width),
        (number.top, number.bottom, picture.height),
    ):
        middle, half = (low + high) / 2, _ENLARGE * (high - low) / 2
        box.append((min(max(middle - half, 0), length), max(min(middle + half, length), 0)))
    (left, right), (top, bottom) = box
    if right - left < 1 or bottom - top < 1:
        raise DataError(
            f"{number.path}: expected a box inside {picture.width} x {picture.height} pixels, "
            f"got {tuple(number[1:])} (left, top, right, bottom)"
        )
    resized = picture.resize(
        (_SIDE, _SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )
    return np.asarray(resized)


def read_boxes(part: Path, store: Store) -> list[_Number]:
    """The pictures in a folder that have at most five digits, with the boxes around these."""
    path = part / "digitStruct.mat"
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path}: needs h5py: pip install h5py") from error
    numbers = []
    try:
        with h5py.File(path, "r") as file:
            names, boxes = file["digitStruct/name"], file["digitStruct/bbox"]
            if len(names) != len(boxes):
                raise DataError(f"{path}: expected {len(names)} boxes, got {len(boxes)}")
            for i in range(len(names)):
                name = _text(file[names[i].item()])
                if not re.fullmatch(r"\d{1,7}\.png", name):
                    raise DataError(f"{path}: record {i}: expected a name like 1.png, got {name!r}")
                box = file[boxes[i].item()]
                sides = [_values(file, box[side]) for side in ("left", "top", "width", "height")]
                if (part / name).is_file() and len(sides[0]) <= _MOST_DIGITS:
                    numbers.append(_union(part / name, *sides))
                store.tell(f"reading the boxes of {part.name}", i + 1, len(names))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a parser that is fed garbage may raise anything
        raise DataError(f"{path}: cannot be read as digitStruct.mat ({error!r})") from error
    return numbers


def _text(characters: Any) -> str:
    if characters.size > 20:
        raise ValueError(f"expected a name of at most 20 characters, got {characters.size}")
    return "".join(chr(code) for code in np.ravel(characters[()]))


def _values(file: Any, side: Any) -> list[float]:
    """One number for each digit: directly for a single digit, by references for several."""
    if side.size > 20:
        raise ValueError(f"expected a number of at most 20 digits, got {side.size}")
    values = np.ravel(side[()])
    if side.dtype.kind == "O":
        return [float(file[reference][()].item()) for reference in values]
    return [float(value) for value in values]


def _union(
    path: Path, left: list[float], top: list[float], width: list[float], height: list[float]
) -> _Number:
    right = max(x + w for x, w in zip(left, width, strict=True))
    bottom = max(y + h for y, h in zip(top, height, strict=True))
    return _Number(path, min(left), min(top), right, bottom)
