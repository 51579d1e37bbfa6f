"""CIFAR-10: colour photographs of 32 x 32 pixels in ten classes, in the binary version.

A record is a byte for the label and 3 x 1024 bytes for the red, green and blue planes, row by row;
a file is 10,000 records. They are read from the `.bin` files or from the published archive. The
last tenth of the 50,000 training images is kept for validation.
"""

import tarfile
from pathlib import Path

import numpy as np
import torch

from drawnet.data.download import Remote, check
from drawnet.data.images import DataError, Images
from drawnet.data.reading import Readable, ended, exactly, opened
from drawnet.data.store import Store

_RECORD, _IN_FILE = 1 + 3 * 32 * 32, 10_000
_FOLDER = "cifar-10-batches-bin"
_ARCHIVE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)
_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_BEGINNINGS = {
    "train": ("data_batch_1.first4000.bin", 4_000),
    "test": ("test_batch.first1000.bin", 1_000),
}
_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def cifar10(split: str, store: Store) -> Images:
    """CIFAR-10: 45,000 / 5,000 / 10,000 photographs.

    If the folder holds `data_batch_1.first4000.bin` or `test_batch.first1000.bin` instead, this
    beginning of the set is used, and the description says so.
    """
    part = "test" if split == "test" else "train"
    records = _read(part, store)
    there, whole = len(records), len(_FILES[part]) * _IN_FILE
    if split != "test":
        held_out = there // 10
        records = records[-held_out:] if split == "valid" else records[:-held_out]
    description = f"cifar10, {len(records)} {'test' if part == 'test' else 'training'} images"
    if there < whole:
        description += f" (partial: only the first {there} of {whole} are there)"
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    pixels = torch.from_numpy(np.ascontiguousarray(records[:, 1:])).view(-1, 3, 32, 32)
    return Images(pixels, labels, "cifar10", split, description, _CLASSES)


def _read(part: str, store: Store) -> np.ndarray:
    """All records of one part, from the first source there is."""
    paths = [
        store.locate("cifar10", f"{_FOLDER}/{file}") or store.locate("cifar10", file)
        for file in _FILES[part]
    ]
    found = [path for path in paths if path is not None]
    if len(found) == len(paths):
        return np.concatenate([read_records(path, _IN_FILE) for path in found])
    beginning, count = _BEGINNINGS[part]
    path = store.locate("cifar10", beginning)
    if path is not None and store.locate("cifar10", _ARCHIVE.filename) is None:
        return read_records(path, count)
    what = f"{' '.join(_FILES[part])} or {_ARCHIVE.filename}"
    return _unpack(store.find("cifar10", _ARCHIVE.filename, _ARCHIVE, what), _FILES[part])


def read_records(path: Path, count: int) -> np.ndarray:
    """The (count, 3073) bytes of a file, labels first."""
    with opened(path) as stream:
        records = _records(stream, count, path)
        ended(stream, path, f"{count} records of {_RECORD} bytes")
    return records


def _records(stream: Readable, count: int, path: Path) -> np.ndarray:
    data = exactly(stream, count * _RECORD, path, f"{count} records")
    records = np.frombuffer(data, np.uint8).reshape(count, _RECORD)
    if records[:, 0].max() > 9:
        at = int((records[:, 0] > 9).argmax())
        raise DataError(f"{path}: record {at}: expected a label 0 to 9, got {records[at, 0]}")
    return records


def _unpack(archive: Path, files: list[str]) -> np.ndarray:
    """Read records straight from the published archive, which its hash shows to be harmless."""
    check(archive, _ARCHIVE)
    with tarfile.open(archive, "r|gz") as members:
        parts = {
            member.name: _records(stream, _IN_FILE, archive)
            for member in members
            if (stream := members.extractfile(member)) and Path(member.name).name in files
        }
    return np.concatenate([parts[f"{_FOLDER}/{file}"] for file in files])
