"""Reading damaged and hostile files: a `DataError` that names the file, and little memory."""

import gzip
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from drawnet.data import DataError
from drawnet.data.binarized_mnist import read_amat
from drawnet.data.mnist import read_idx

SHAPE = (5, 4, 3)
VALUES = torch.arange(60, dtype=torch.uint8).view(SHAPE)
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", *SHAPE) + VALUES.numpy().tobytes()
BITS = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]])
AMAT = b"".join(b" ".join(b"%d" % bit for bit in row) + b"\n" for row in BITS)


def idx(path: Path) -> Tensor:
    return read_idx(path, SHAPE)


def amat(path: Path) -> Tensor:
    return read_amat(path, 3, side=2)


READERS: dict[str, tuple[Callable[[Path], Tensor], bytes]] = {
    "idx": (idx, IDX),
    "amat": (amat, AMAT),
}
each_reader = pytest.mark.parametrize(("reader", "whole"), READERS.values(), ids=READERS)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_whole_files(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert torch.equal(idx(write(tmp_path / "a", pack(IDX))), VALUES)
    images = amat(write(tmp_path / "b", pack(AMAT)))
    assert images.shape == (3, 1, 2, 2)
    assert images.flatten(1).tolist() == (BITS * 255).tolist()


@each_reader
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_truncated_anywhere(
    tmp_path: Path, reader: Callable[[Path], Tensor], whole: bytes, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(whole)
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"cut: "):
            reader(write(tmp_path / "cut", data[:length]))
    with pytest.raises(DataError, match=r"cut: expected \d+ bytes of .*, got \d+"):
        reader(write(tmp_path / "cut", pack(whole[:-1])))


@each_reader
def test_trailing_bytes(tmp_path: Path, reader: Callable[[Path], Tensor], whole: bytes) -> None:
    for data in (whole + b"0", gzip.compress(whole + b"0"), gzip.compress(whole) * 2):
        with pytest.raises(DataError, match=r"long: expected the end of the file"):
            reader(write(tmp_path / "long", data))
    with pytest.raises(DataError, match=r"long: cannot be read"):
        reader(write(tmp_path / "long", gzip.compress(whole) + b"garbage"))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (2, b"\x0d", "expected idx magic 00000803, got 00000d03"),
        (3, b"\x01", "expected idx magic 00000803, got 00000801"),
        (4, b"\xff\xff\xff\xff", r"expected dimensions \(5, 4, 3\), got \(4294967295, 4, 3\)"),
        (8, b"\xff\xff\xff\xff" * 2, r"got \(5, 4294967295, 4294967295\)"),
    ],
)
def test_idx_headers_that_lie(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    data = IDX[:at] + value + IDX[at + len(value) :]
    with pytest.raises(DataError, match=message):
        idx(write(tmp_path / "x", data))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"2", "x: line 1: expected '0' or '1' at byte 0, got '2'"),
        (9, b"\x00", r"x: line 2: expected ' ' at byte 1, got '\\x00'"),
        (15, b" ", r"x: line 2: expected '\\n' at byte 7, got ' '"),
        (20, b"\xff", "x: line 3: expected '0' or '1' at byte 4, got 'ÿ'"),
    ],
)
def test_amat_checks_every_byte(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        amat(write(tmp_path / "x", AMAT[:at] + value + AMAT[at + 1 :]))


def test_amat_lines_are_counted_through_all_blocks(tmp_path: Path) -> None:
    text = b"1 0 1 1\n" * 2345 + b"1 0 1 x\n"
    with pytest.raises(DataError, match="line 2346: expected '0' or '1' at byte 6, got 'x'"):
        read_amat(write(tmp_path / "x", text), 2346, side=2)


@each_reader
def test_gzip_bombs_take_no_memory(
    tmp_path: Path, reader: Callable[[Path], Tensor], whole: bytes
) -> None:
    path = tmp_path / "bomb"
    with gzip.open(path, "wb", 1) as file:
        file.write(whole)
        for _ in range(60):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="bomb: expected the end of the file"):
            reader(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=f"{path.name}: cannot be read"):
            idx(path)


@each_reader
def test_fuzzed(tmp_path: Path, reader: Callable[[Path], Tensor], whole: bytes) -> None:
    """Whatever is done to a file, it is read or refused, and what is read has its shape."""
    chance = random.Random(0)
    read = 0
    for number in range(500):
        data = bytearray(gzip.compress(whole) if number % 2 else whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at : at + chance.randint(1, 9)] = chance.randbytes(chance.randrange(9))
                case 2:
                    del data[at:]
                case 3:
                    data += chance.randbytes(5)
            data = data or bytearray(1)
        path = write(tmp_path / "fuzz", bytes(data))
        try:
            shape = reader(path).shape
        except DataError as error:
            message = str(error)
        else:
            read += 1
            message = f"{path}: {tuple(shape)}"
            assert shape in (SHAPE, (3, 1, 2, 2))
        assert message.startswith(f"{path}: ")
    assert read < 250
