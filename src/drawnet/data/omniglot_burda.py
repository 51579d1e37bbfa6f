"""The 28 x 28 version of OMNIGLOT that likelihoods are published on (Burda et al., 2015).

One MATLAB file, `chardata.mat`, with the images as columns of matrices of intensities in [0, 1].
The last 1,345 training images are kept for validation, as is usual.
"""

from pathlib import Path

import numpy as np
import torch

from drawnet.data.images import DataError, Images
from drawnet.data.store import Store
from drawnet.data.views import shown

_SHAPES = {"data": (784, 24_345), "testdata": (784, 8_070)}
_VALID = 1_345


def omniglot_burda(split: str, store: Store, *, binarize: bool = True) -> Images:
    """The 28 x 28 version of Burda et al. (2015), on which likelihoods are published.

    23,000 / 1,345 / 8,070 drawings without labels, from `chardata.mat`; needs scipy. They are grey;
    the literature binarizes them afresh at each use.
    """
    path = store.locate("omniglot_burda", "chardata.mat")
    path = path or store.locate("omniglot", "chardata.mat")
    if path is None:
        raise store.missing(
            "omniglot_burda",
            "chardata.mat",
            "By hand: fetch datasets/OMNIGLOT/chardata.mat from github.com/yburda/iwae",
        )
    pixels = read_chardata(path, "testdata" if split == "test" else "data")
    if split != "test":
        pixels = pixels[-_VALID:] if split == "valid" else pixels[:-_VALID]
    view, how = shown(binarize)
    return Images(
        torch.from_numpy(pixels.copy())[:, None],
        None,
        "omniglot_burda",
        split,
        f"omniglot_burda (28x28 of Burda et al.), {how}",
        view=view,
    )


def read_chardata(path: Path, variable: str) -> np.ndarray:
    """The (N, 28, 28) uint8 images of one matrix of `chardata.mat`."""
    try:
        from scipy.io import loadmat, whosmat
    except ImportError as error:
        raise DataError(f"{path}: needs scipy: pip install scipy") from error
    expected = _SHAPES[variable]
    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        if shapes.get(variable) != expected:
            raise DataError(
                f"{path}: expected {variable} of shape {expected}, got {shapes.get(variable)}"
            )
        columns = np.asarray(loadmat(path, variable_names=[variable])[variable])
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a parser that is fed garbage may raise anything
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error})") from error
    if columns.dtype.kind not in "fu" or not (columns.min() >= 0 and columns.max() <= 1):
        raise DataError(f"{path}: expected intensities in [0, 1], got others")
    # MATLAB stores columns first: every image is a column of the matrix, and lies on its side.
    return (columns * 255).round().astype(np.uint8).T.reshape(-1, 28, 28).swapaxes(1, 2)
