"""MNIST, Fashion-MNIST and KMNIST: grey 28 x 28 images of ten classes, in idx files.

An idx file is a big-endian header (two zero bytes, 8 for `uint8`, the number of dimensions, then
each dimension in four bytes) and the bytes themselves. Each set has 60,000 training images and
10,000 test images. As is usual, the last 10,000 training images are kept for validation.
"""

import struct
from pathlib import Path

import torch
from torch import Tensor

from drawnet.data.download import Remote
from drawnet.data.images import DataError, Images
from drawnet.data.reading import ended, exactly, opened
from drawnet.data.store import Store
from drawnet.data.views import shown

_TRAIN, _TEST, _VALID = 60_000, 10_000, 10_000
_SERVERS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "kmnist": "http://codh.rois.ac.jp/kmnist/dataset/kmnist",
}
_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
_SUMS = {
    "mnist": """
        440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 9912422
        3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c 28881
        8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 1648877
        f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 4542
    """,
    "fashion_mnist": """
        3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 26421880
        a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 29515
        346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 4422102
        67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5 5148
    """,
    "kmnist": """
        51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4 18165135
        e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17 29497
        edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5 3041136
        20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c 5120
    """,
}  # sha256 and bytes of each file, with .gz
_REMOTE = {
    (name, file): Remote(f"{_SERVERS[name]}/{file}.gz", sha256, int(size))
    for name, sums in _SUMS.items()
    for file, (sha256, size) in zip(_FILES, map(str.split, sums.split("\n")[1:-1]), strict=True)
}

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

# The three sets share their file names, so each is known by its first labels. Those of KMNIST are
# only known not to be another set's.
_FIRST_LABELS = {
    (5, 0, 4, 1, 9, 2, 1, 3, 1, 4): "mnist",
    (7, 2, 1, 0, 4, 1, 4, 9, 5, 9): "mnist",
    (9, 0, 0, 3, 0, 2, 7, 2, 5, 5): "fashion_mnist",
    (9, 2, 1, 1, 6, 1, 4, 6, 5, 7): "fashion_mnist",
}


def mnist(
    split: str, store: Store, *, binarize: bool = False, include_valid: bool = False
) -> Images:
    """MNIST: 50,000 / 10,000 / 10,000 handwritten digits, grey, or binarized afresh at each use.

    With `include_valid`, the training set is all 60,000. This is for a last training, with settings
    that were found without it. Validation is then on digits that the network has learned.
    """
    return _load("mnist", split, store, _DIGITS, binarize, include_valid)


def fashion_mnist(split: str, store: Store, *, binarize: bool = False) -> Images:
    """Fashion-MNIST: 50,000 / 10,000 / 10,000 pieces of clothing."""
    return _load("fashion_mnist", split, store, _CLOTHES, binarize)


def kmnist(split: str, store: Store, *, binarize: bool = False) -> Images:
    """KMNIST: 50,000 / 10,000 / 10,000 cursive Japanese characters."""
    return _load("kmnist", split, store, _KANA, binarize)


def _load(
    name: str,
    split: str,
    store: Store,
    classes: tuple[str, ...],
    binarize: bool,
    include_valid: bool = False,
) -> Images:
    stem, count = ("t10k", _TEST) if split == "test" else ("train", _TRAIN)
    images, labels = f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"
    images_path = store.find(name, images, _REMOTE[name, images])
    labels_path = store.find(name, labels, _REMOTE[name, labels])
    y = read_idx(labels_path, (count,)).long()
    _check_labels(name, y, labels_path)
    x = read_idx(images_path, (count, 28, 28))[:, None]
    view, how = shown(binarize)
    if split == "train" and include_valid:
        how += ", digits of validation too"
    elif split != "test":
        part = slice(-_VALID, None) if split == "valid" else slice(-_VALID)
        x, y = x[part].clone(), y[part].clone()
    return Images(x, y, name, split, f"{name}, {how}", classes, view=view)


def _check_labels(name: str, y: Tensor, path: Path) -> None:
    if y.max() > 9:
        raise DataError(f"{path}: expected labels 0 to 9, got {int(y.max())}")
    whose = _FIRST_LABELS.get(tuple(y[:10].tolist()))
    if whose != name and (whose or name in _FIRST_LABELS.values()):
        got = whose or "another set"
        raise DataError(f"{path}: expected the labels of {name}, got those of {got}")


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The uint8 tensor of an idx file, plain or gzip, which must have the given shape."""
    with opened(path) as stream:
        magic = bytes(exactly(stream, 4, path, "idx magic"))
        expected = bytes([0, 0, 8, len(shape)])
        if magic != expected:
            raise DataError(f"{path}: expected idx magic {expected.hex()}, got {magic.hex()}")
        header = exactly(stream, 4 * len(shape), path, "idx dimensions")
        dimensions = struct.unpack(f">{len(shape)}I", header)
        if dimensions != shape:
            raise DataError(f"{path}: expected dimensions {shape}, got {dimensions}")
        count = torch.Size(shape).numel()
        data = exactly(stream, count, path, "pixels or labels")
        ended(stream, path, f"{count} bytes of data")
    return torch.frombuffer(data, dtype=torch.uint8).view(shape)
