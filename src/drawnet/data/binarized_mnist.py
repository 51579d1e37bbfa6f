"""Binarized MNIST, the benchmark of the paper: one fixed draw of every pixel.

Salakhutdinov and Murray (2008) drew each pixel once from the intensities of MNIST. Likelihoods in
the literature are measured on Larochelle's text files of that draw. Each line is an image: 784
characters `0` or `1`, row by row, each followed by a space and the last by the end of the line.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drawnet.data.download import Remote
from drawnet.data.images import DataError, Images
from drawnet.data.reading import ended, exactly, opened
from drawnet.data.store import Store

_COUNT = {"train": 50_000, "valid": 10_000, "test": 10_000}
_TORONTO = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
_REMOTE = {
    "train": Remote(
        f"{_TORONTO}/binarized_mnist_train.amat",
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        78_400_000,
    ),
    "valid": Remote(
        f"{_TORONTO}/binarized_mnist_valid.amat",
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        15_680_000,
    ),
    "test": Remote(
        f"{_TORONTO}/binarized_mnist_test.amat",
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        15_680_000,
    ),
}


def binarized_mnist(split: str, store: Store, *, include_valid: bool = False) -> Images:
    """Binarized MNIST: 50,000 / 10,000 / 10,000 digits, without labels.

    With `include_valid`, the training set is all 60,000, for a last training; see
    `drawnet.data.mnist`. Results must say so.
    """
    pixels, description = _read(split, store), "binarized_mnist, fixed binarization (Larochelle)"
    if split == "train" and include_valid:
        pixels = torch.cat([pixels, _read("valid", store)])
        description += ", digits of validation too"
    return Images(pixels, None, "binarized_mnist", split, description)


def _read(split: str, store: Store) -> Tensor:
    path = store.find("binarized_mnist", f"binarized_mnist_{split}.amat", _REMOTE[split])
    return read_amat(path, _COUNT[split])


def read_amat(path: Path, count: int, side: int = 28) -> Tensor:
    """The (count, 1, side, side) images, 0 or 255, of an amat file, plain or gzip.

    Every byte is checked. Each pixel and the character after it are compared as two bytes, which is
    ten times as fast as parsing numbers.
    """
    line = np.full((side * side, 2), b" 0"[0], np.uint8)
    line[:, 0] = b"0"[0]
    line[-1, 1] = b"\n"[0]
    pixels = np.empty((count, side * side), np.uint8)
    rows_at_once = 1000
    with opened(path) as stream:
        for start in range(0, count, rows_at_once):
            rows = pixels[start : start + rows_at_once]
            text = exactly(stream, len(rows) * line.size, path, f"lines from {start + 1} on")
            different = np.frombuffer(text, np.uint8).reshape(-1, *line.shape) ^ line
            # '0' and '1' differ only in their lowest bit.
            if (different[:, :, 0] > 1).any() or different[:, :, 1].any():
                raise DataError(f"{path}: {_first_fault(different, line, start)}")
            np.multiply(different[:, :, 0], 255, out=rows)
        ended(stream, path, f"{count} lines")
    return torch.from_numpy(pixels).view(count, 1, side, side)


def _first_fault(different: np.ndarray, line: np.ndarray, start: int) -> str:
    """Which byte is wrong, in words."""
    allowed = np.array([1, 0], np.uint8)
    row, column, after = (int(i) for i in np.argwhere(different > allowed)[0])
    expected = repr(chr(line[column, 1])) if after else "'0' or '1'"
    got = chr(different[row, column, after] ^ line[column, after])
    return f"line {start + row + 1}: expected {expected} at byte {2 * column + after}, got {got!r}"
