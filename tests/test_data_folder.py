"""A person's own pictures: folders and datasets, with whatever may be in them."""

import contextlib
import errno
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from drawnet.data import SPLITS, DataError, from_dataset, load
from drawnet.data.folder import split_of
from drawnet.data.pictures import decode

TRAIN, TRAIN_2, TRAIN_3 = [f"{i}.png" for i in range(40) if split_of(f"{i}.png") == "train"][:3]


def save(path: Path, width: int, height: int, mode: str = "RGB", colour: Any = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), colour).save(path)


def bomb(width: int, height: int) -> bytes:
    """A valid PNG of few bytes and many black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_sizes_are_cropped_or_stretched(tmp_path: Path) -> None:
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, :20], picture[:, 20:40], picture[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(picture).save(tmp_path / TRAIN)
    cropped = load("folder", "train", tmp_path, size=10)
    assert cropped.image_shape == (3, 10, 10)
    assert cropped.pixels[0, :, 5, 5].tolist() == [0, 255, 0]
    assert cropped.pixels[0, 0].max() < 20
    stretched = load("folder", "train", tmp_path, size=10, fit="stretch")
    assert stretched.pixels[0, :, 5].argmax(0).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert load("folder", "train", tmp_path, size=7, channels=1).image_shape == (1, 7, 7)
    flat = load("folder", "train", tmp_path, size=[10, 30])
    assert flat.image_shape == (3, 10, 30)
    assert flat.pixels[0, :, 5, [5, 15, 25]].tolist() == (255 * torch.eye(3)).tolist()
    assert ", cropped to 10x30, " in flat.description


def test_splits_share_nothing_and_stay_when_files_come_and_go(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / f"{i}.png", 3, 5, "L", i)

    def names(split: str) -> set[int]:
        images = load("folder", split, tmp_path, size=2, channels=1)
        return set(images.pixels[:, 0, 0, 0].tolist())

    train, valid, test = names("train"), names("valid"), names("test")
    assert train | valid | test == set(range(40))
    assert len(train) + len(valid) + len(test) == 40
    assert len(train) > 25
    (tmp_path / f"{min(train)}.png").unlink()
    assert names("train") == train - {min(train)}
    assert (names("valid"), names("test")) == (valid, test)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root, other):
        for i in range(40):
            save(folder / f"{i}.png", 3, 5)
    (root / "linked").symlink_to(other)
    (other / "back").symlink_to(root)
    parts = [load("folder", split, root, size=2) for split in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 80


def test_a_folder_with_two_names_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for i in range(40):
        save(tmp_path / "b" / f"{i}.png", 3, 5)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "c").symlink_to("b")
    parts = [load("folder", split, tmp_path, size=2) for split in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 40
    assert {part.classes for part in parts} == {("b",)}


def test_shares_of_the_splits() -> None:
    parts = [split_of(f"photo {i}.jpg") for i in range(5000)]
    assert parts.count("train") / 5000 == pytest.approx(0.8, abs=0.02)
    assert parts.count("valid") / 5000 == pytest.approx(0.1, abs=0.02)
    assert split_of("Zoë.png") == split_of("Zoe\u0308.png")


def test_a_picture_is_in_the_same_split_everywhere() -> None:
    found = {
        split: [i for i in range(20) if split_of(f"{i}.png") == split]
        for split in ("valid", "test")
    }
    assert found == {"valid": [4, 11, 19], "test": [1]}


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "cat" / f"{i}.png", 4, 4, "L", 10)
        save(tmp_path / "dog" / f"{i}.jpg", 4, 4, "L", 200)
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    save(tmp_path / ".hidden" / "1.png", 4, 4)
    images = load("folder", "train", tmp_path, size=2, channels=1)
    assert images.classes == ("cat", "dog")
    assert images.labels is not None
    assert torch.equal(images.labels, (images.pixels[:, 0, 0, 0] > 100).long())
    save(tmp_path / TRAIN, 4, 4)
    images = load("folder", "train", tmp_path, size=2)
    assert images.labels is None
    assert images.classes == ()
    (tmp_path / TRAIN).unlink()
    broken = next(f"cat/{i}.png" for i in range(20) if split_of(f"cat/{i}.png") == "train")
    (tmp_path / broken).write_bytes(b"no picture")
    fewer = load("folder", "train", tmp_path, size=2, channels=1, skip_broken=True)
    assert len(fewer) == len(images) - 2
    assert torch.equal(fewer.labels, (fewer.pixels[:, 0, 0, 0] > 100).long())


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 77, "png", (77, 77, 77)),
        ("LA", (77, 0), "png", (255, 255, 255)),
        ("P", 0, "png", (0, 0, 0)),
        ("RGBA", (10, 20, 30, 255), "png", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), "webp", (255, 255, 255)),
        ("I;16", 0x8123, "png", (0x81, 0x81, 0x81)),
        ("CMYK", (0, 0, 0, 255), "jpg", (0, 0, 0)),
        ("YCbCr", (255, 128, 128), "jpg", (255, 255, 255)),
    ],
)
def test_modes(
    tmp_path: Path, mode: str, colour: Any, suffix: str, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / f"x.{suffix}"
    save(path, 3, 2, mode, colour)
    picture = decode(path, "x", channels=3)
    assert (picture.mode, picture.size) == ("RGB", (3, 2))
    assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 2
    assert decode(path, "x", channels=1).mode == "L"


def test_what_is_clear_of_a_picture_of_16_bits_is_white(tmp_path: Path) -> None:
    values = np.array([[1000, 0x8123]], np.uint16)
    Image.fromarray(values).save(tmp_path / TRAIN, transparency=1000)
    images = load("folder", "train", tmp_path, size=2, channels=1, fit="stretch")
    assert images.pixels[0, 0, 0].tolist() == [255, 0x81]


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=exif)
    assert decode(tmp_path / "x.jpg", "x", channels=3).size == (4, 8)


def test_a_long_thin_picture_is_no_trouble(tmp_path: Path) -> None:
    save(tmp_path / TRAIN, 1, 10_000, "L", 99)
    assert load("folder", "train", tmp_path, size=9).pixels.unique().tolist() == [99]


@pytest.mark.parametrize("side", [10_001, 12_000, 30_000])
def test_bombs_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    (tmp_path / TRAIN).write_bytes(bomb(side, side))
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(DataError, match=rf"{TRAIN}: expected .*(100 megapixels, got {side}|bomb)"),
    ):
        load("folder", "train", tmp_path)


def test_a_photo_is_read_unless_the_limit_is_lower(tmp_path: Path) -> None:
    (tmp_path / TRAIN).write_bytes(bomb(2_001, 2_001))
    assert len(load("folder", "train", tmp_path, size=3)) == 1
    with pytest.raises(DataError, match="4 megapixels, got 2001 x 2001"):
        load("folder", "train", tmp_path, megapixels=4, size=3)


def test_broken_files_are_errors_or_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / TRAIN, 50, 50, "L", 5)
    save(tmp_path / TRAIN_2, 50, 50, "L", 6)
    (tmp_path / TRAIN).write_bytes((tmp_path / TRAIN).read_bytes()[:-30])
    (tmp_path / TRAIN_3).write_bytes(b"MZ no picture")
    with pytest.raises(DataError, match=TRAIN):
        load("folder", "train", tmp_path, size=4, channels=1)
    images = load("folder", "train", tmp_path, size=4, channels=1, skip_broken=True)
    assert images.pixels.unique().tolist() == [6]
    assert "2 broken left out" in images.description
    assert TRAIN in caplog.text
    assert TRAIN_3 in caplog.text


def test_only_pictures_are_decoded(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    (tmp_path / TRAIN).write_bytes(eps)
    with pytest.raises(DataError, match="expected a PNG, JPEG or WebP picture"):
        load("folder", "train", tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "webp"])
def test_fuzzed_pictures(suffix: str) -> None:
    stream = io.BytesIO()
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(stream, suffix)
    whole = np.frombuffer(stream.getvalue(), np.uint8)
    decoded = 0
    for _ in range(170):
        data = whole[: rng.integers(1, len(whole) + 1)].copy()
        data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
        with contextlib.suppress(DataError):
            assert decode(io.BytesIO(data.tobytes()), "fuzz", 3).mode == "RGB"
            decoded += 1
    assert decoded < 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be 1 to 1024, or two such numbers, got 0"),
        ({"size": [9]}, r"size must be 1 to 1024, or two such numbers, got \[9\]"),
        ({"size": [9, 1025]}, "size must be 1 to 1024, or two such numbers, got"),
        ({"size": [9, "9"]}, "size must be 1 to 1024, or two such numbers, got"),
        ({"size": "big"}, "size must be of type int or list, got 'big'"),
        ({"size": True}, "size must be of type int or list, got True"),
        ({"skip_broken": 1}, "skip_broken must be of type bool, got 1"),
        ({"fit": "pad"}, "fit must be one of crop, stretch, got 'pad'"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"megapixels": float("nan")}, "megapixels must be in \\(0, 178\\], got nan"),
        ({"megapixels": 200}, "megapixels must be in \\(0, 178\\], got 200"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("folder", "train", tmp_path, **options)


def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "closed"):
        save(tmp_path / name / TRAIN, 2, 2)
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        DataError, match=r"closed: cannot be read: Permission denied; .*skip_broken"
    ):
        load("folder", "train", tmp_path)
    assert load("folder", "train", tmp_path, skip_broken=True).classes == ("a",)


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give data_dir"):
        load("folder", "train")
    with pytest.raises(DataError, match="got no folder"):
        load("folder", "train", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"expected pictures \(.*\), got none"):
        load("folder", "train", tmp_path)
    save(tmp_path / TRAIN, 2, 2)
    with pytest.raises(DataError, match=r"split 'valid'.* got none of 1 pictures"):
        load("folder", "valid", tmp_path)


class Items(Dataset[Any]):
    """A list as a dataset; like many, it knows its length and does not end with an IndexError."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index % len(self.items)]


GREY = np.array([[0, 255, 51], [102, 204, 153]], np.uint8)
COLOUR = np.stack([GREY, GREY // 3, GREY // 5], -1)


@pytest.mark.parametrize(
    ("item", "shape"),
    [
        (Image.fromarray(GREY), (1, 2, 3)),
        (Image.fromarray(COLOUR), (3, 2, 3)),
        (GREY, (1, 2, 3)),
        (COLOUR, (3, 2, 3)),
        (GREY / 255, (1, 2, 3)),
        (torch.from_numpy(GREY), (1, 2, 3)),
        (torch.from_numpy(COLOUR).movedim(2, 0), (3, 2, 3)),
        (torch.from_numpy(COLOUR).movedim(2, 0).float() / 255, (3, 2, 3)),
        (torch.from_numpy(GREY).bfloat16() / 255, (1, 2, 3)),
        (Image.fromarray(GREY.astype(np.float32) / 255), (1, 2, 3)),
        (Image.fromarray(GREY).convert("LA"), (1, 2, 3)),
        (GREY / 255 * (1 + 1e-6) - 1e-7, (1, 2, 3)),  # as resizing leaves them
    ],
)
def test_datasets_of_all_kinds(item: Any, shape: tuple[int, int, int]) -> None:
    expected = torch.from_numpy(GREY[None] if shape[0] == 1 else COLOUR.transpose(2, 0, 1).copy())
    for images in (from_dataset(Items(item, item)), from_dataset(Items((item,)))):
        assert images.image_shape == shape
        assert images.labels is None
        assert torch.equal(images.pixels[-1], expected)


def test_datasets_with_labels() -> None:
    images = from_dataset(Items((GREY, 2), (GREY > 60, torch.tensor(0)), (GREY, np.int64(1))))
    assert images.labels is not None
    assert images.labels.tolist() == [2, 0, 1]
    assert images.classes == ("0", "1", "2")
    assert images.pixels[1].tolist() == [[[0, 255, 0], [255, 255, 255]]]
    named = from_dataset(
        TensorDataset(torch.zeros(4, 1, 5, 3), torch.tensor([0, 1, 0, 0])),
        name="mine",
        split="test",
        classes=["a", "b", "c"],
    )
    assert (named.name, named.split, named.classes) == ("mine", "test", ("a", "b", "c"))
    assert named.description == "mine, read from a dataset of 4 items"


def test_iterable_datasets() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([GREY, GREY, GREY])

    class Counted(Stream):
        def __len__(self) -> int:
            return 3

    assert len(from_dataset(Stream())) == len(from_dataset(Counted())) == 3


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ((), "expected at least one item, got none"),
        (("cat.png",), "item 0: expected a Pillow image, a tensor or an array, got str"),
        ((GREY, GREY.T), r"item 1: expected shape \(1, 2, 3\), as item 0 has, got \(1, 3, 2\)"),
        ((torch.rand(28, 28, 1),), r"item 0: expected \(C, H, W\) with 1 to 4 channels"),
        ((np.zeros((3, 28, 28)),), r"item 0: expected \(H, W, C\) with 1 to 4 channels"),
        ((GREY * 1.0,), r"item 0: expected floats in \[0, 1\], got 0 to 255"),
        ((GREY / 254,), r"item 0: expected floats in \[0, 1\], got 0 to 1.00394"),
        ((Image.fromarray(GREY * np.float32(1)),), r"item 0: expected floats in \[0, 1\]"),
        ((GREY * np.nan,), r"item 0: expected floats in \[0, 1\], got nan to nan"),
        ((GREY.astype(int),), "item 0: expected uint8, bool or floats, got int64"),
        ((Image.fromarray(GREY.astype(np.int32)),), r"8 or 16 bits, got 32 \(mode I\)"),
        (((GREY, 10**9),), "expected labels below 100000, or the names of the classes, got 10000"),
        (((GREY, 0), GREY), "item 1: expected labels for all items or for none"),
        ((GREY, (GREY, 0)), "item 1: expected labels for all items or for none"),
        (((GREY, -1),), "item 0: expected an integer label >= 0, got -1"),
        (((GREY, 0.5),), "item 0: expected an integer label >= 0, got 0.5"),
        (((GREY, [1, 2]),), "item 0: expected a picture and one label"),
        (((GREY, 1, 2),), "item 0: expected a picture and one label"),
    ],
)
def test_datasets_that_cannot_be_used(items: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_dataset(Items(*items))


def test_more_labels_than_classes() -> None:
    with pytest.raises(DataError, match="expected labels below 2, got 5"):
        from_dataset(Items((GREY, 5)), classes=["a", "b"])


def test_pictures_binarized_afresh(tmp_path: Path) -> None:
    save(tmp_path / TRAIN, 40, 40, "L", 51)
    images = load("folder", "train", tmp_path, size=40, channels=1, binarize=True)
    assert "binarized afresh" in images.description
    x, _ = images.batch(torch.zeros(20, dtype=torch.int64), torch.Generator().manual_seed(0))
    assert x.unique().tolist() == [0, 1]
    assert x.mean() == pytest.approx(0.2, abs=0.01)


def test_folders_of_splits_are_the_splits(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / "Train" / "cat" / f"{i}.png", 4, 4, "L", 10)
        save(tmp_path / "Train" / "dog" / f"{i}.png", 4, 4, "L", 20)
    save(tmp_path / "test" / "dog" / "1.png", 4, 4, "L", 200)
    split = {name: load("folder", name, tmp_path, size=2, channels=1) for name in SPLITS}
    assert {images.classes for images in split.values()} == {("cat", "dog")}
    assert split["test"].pixels[:, 0, 0, 0].tolist() == [200]
    assert split["test"].labels.tolist() == [1]
    assert 0 < len(split["valid"]) < 20, "a tenth of those for training"
    assert len(split["train"]) + len(split["valid"]) == 80
    assert split["train"].description.endswith(", split by folders train, test and file name")

    save(tmp_path / "val" / "dog" / "1.png", 4, 4, "L", 100)
    split = {name: load("folder", name, tmp_path, size=2, channels=1) for name in SPLITS}
    assert [len(images) for images in split.values()] == [80, 1, 1]
    assert split["train"].description.endswith(", split by folders train, valid, test")
    assert split["valid"].pixels[:, 0, 0, 0].tolist() == [100]

    save(tmp_path / "bird" / "1.png", 4, 4)
    assert load("folder", "train", tmp_path, size=2).classes == ("Train", "bird", "test", "val")


def test_half_of_the_pictures_are_mirrored(tmp_path: Path) -> None:
    picture = np.zeros((2, 2), np.uint8)
    picture[:, 0] = 255
    for i in range(200):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    images = load("folder", "train", tmp_path, size=2, channels=1, mirror=True)
    assert images.description.endswith(", mirrored at random")
    x, _ = images.batch(torch.arange(len(images)), torch.Generator().manual_seed(0))
    assert torch.equal(x[..., 0], 1 - x[..., 1])
    assert 0.3 < x[..., 0].mean() < 0.7
    for split in ("valid", "test"):
        others = load("folder", split, tmp_path, size=2, channels=1, mirror=True)
        assert others.batch(torch.arange(len(others)))[0][..., 0].min() == 1
        assert "mirrored" not in others.description


def test_pictures_of_other_formats_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.HEIC", "b.tif", "c.txt", ".d.tif"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"expected pictures \(.*\), got 2 of other formats"):
        load("folder", "train", tmp_path)
    save(tmp_path / TRAIN, 3, 5)
    assert len(load("folder", "train", tmp_path, size=2)) == 1
    assert "left out 2 files of other formats" in caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_a_large_jpeg_is_decoded_no_finer_than_needed(
    tmp_path: Path, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x = np.mgrid[:1200, :1600]
    smooth = np.stack([x / 1600, y / 1200, np.sin(x / 90) / 2 + 0.5], -1)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    Image.fromarray((255 * smooth).astype(np.uint8)).save(tmp_path / TRAIN, "JPEG", exif=exif)
    whole = decode(tmp_path / TRAIN, "", 3)
    fast = decode(tmp_path / TRAIN, "", 3, enough=290)
    assert fast.size == tuple(side // 4 for side in whole.size)
    expected = ImageOps.fit(whole, (40, 30), Image.Resampling.LANCZOS)
    spy = Mock(wraps=decode)
    monkeypatch.setattr("drawnet.data.folder.decode", spy)
    images = load("folder", "train", tmp_path, size=[30, 40])
    assert spy.call_args.args[-1] == 4 * 40
    found = images.pixels[0].permute(1, 2, 0).int()
    assert (found - torch.from_numpy(np.asarray(expected).copy()).int()).abs().max() <= 3
