"""CIFAR-10, OMNIGLOT and the house numbers: their formats, real and made up."""

import io
import itertools
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from drawnet.data import DataError, cifar10, load, omniglot_burda
from drawnet.data.cifar10 import read_records
from drawnet.data.omniglot import read_drawings
from drawnet.data.omniglot_burda import read_chardata
from drawnet.data.store import Store
from drawnet.data.svhn import cut_out, read_boxes


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


# CIFAR-10


def test_cifar10_beginnings(data_dir: Path) -> None:
    train, valid, test = (load("cifar10", split, data_dir) for split in ("train", "valid", "test"))
    assert [len(images) for images in (train, valid, test)] == [3600, 400, 1000]
    assert train.image_shape == (3, 32, 32)
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert test.labels.bincount().tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    assert train.pixels[0, :, 0, 0].tolist() == [59, 62, 63]
    assert test.pixels[0, :, 0, 0].tolist() == [158, 112, 49]
    assert "only the first 4000 of 50000" in valid.description
    assert "only the first 1000 of 10000" in test.description


@pytest.fixture
def small_cifar10(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The six files of a CIFAR-10 of 20 images a file."""
    monkeypatch.setattr(cifar10, "_IN_FILE", 20)
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    records = rng.integers(0, 10, (len(names), 20, 3073), np.uint8)
    return {name: part.tobytes() for name, part in zip(names, records, strict=True)}


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_cifar10_files(tmp_path: Path, small_cifar10: dict[str, bytes], folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, data in small_cifar10.items():
        (tmp_path / folder / name).write_bytes(data)
    train, valid, test = (load("cifar10", split, tmp_path) for split in ("train", "valid", "test"))
    whole = np.frombuffer(b"".join(list(small_cifar10.values())[:5]), np.uint8).reshape(100, 3073)
    both = torch.cat([train.pixels, valid.pixels]).flatten(1)
    assert torch.equal(both, torch.tensor(whole[:, 1:]))
    assert len(valid) == 10
    assert valid.labels is not None
    assert valid.labels.tolist() == whole[90:, 0].tolist()
    assert test.description == "cifar10, 20 test images"


def test_cifar10_archive(
    tmp_path: Path, small_cifar10: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in reversed(small_cifar10.items()):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with pytest.raises(DataError, match=r"expected cifar-10-binary.tar.gz as published, of sha256"):
        load("cifar10", "test", tmp_path)
    monkeypatch.setattr(cifar10, "check", lambda *_: None)
    (images,) = (load("cifar10", "valid", tmp_path),)
    expected = np.frombuffer(small_cifar10["data_batch_5.bin"], np.uint8).reshape(20, 3073)[10:]
    assert images.labels is not None
    assert images.labels.tolist() == expected[:, 0].tolist()


def test_cifar10_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected test_batch.bin or cifar-10-binary.tar.gz"):
        load("cifar10", "test", tmp_path)


# OMNIGLOT


def test_omniglot(data_dir: Path) -> None:
    train, valid = (load("omniglot", split, data_dir) for split in ("train", "valid"))
    assert train.image_shape == (1, 28, 28)
    # 2,720 + 3,120 drawings, of which the 1,000 of Greek and Latin are in both files
    assert len(train) + len(valid) == 4840
    assert len(valid) == 484
    assert train.classes == valid.classes
    assert len(train.classes) == 242
    assert train.labels is not None
    assert train.labels.bincount().tolist() == [18] * 242
    assert train.classes[0] == "Balinese/character01"
    assert "small1 and images_background_small2, 28x28, grey" in train.description
    assert 0.04 < train.pixels.double().mean() / 255 < 0.12
    assert train.pixels[:, :, 0, 0].double().mean() < 5
    assert "dynamic" in load("omniglot", "valid", data_dir, binarize=True).description


def drawings(tmp_path: Path, *images: tuple[str, bytes]) -> Path:
    path = tmp_path / "images_evaluation.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in images:
            archive.writestr(name, data)
    return path


def test_omniglot_ink_is_shared_out_by_area(tmp_path: Path) -> None:
    page = np.full((105, 105), True)
    page[:15, :30] = False  # 4 x 8 pixels of 3.75
    page[60:75, 60:62] = False
    path = drawings(tmp_path, ("set/A/character01/0001_01.png", png(page)))
    drawing = read_drawings(path)["A/character01/0001_01.png"]
    assert (drawing[:4, :8] == 255).all()
    assert drawing[16:20, 16].tolist() == [136] * 4  # 2 / 3.75
    assert np.count_nonzero(drawing) == 36
    images = load("omniglot", "test", tmp_path)
    assert images.classes == ("A/character01",)


def test_omniglot_keeps_the_last_drawers_of_each_character_for_validation(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w") as archive:
        for character in (1, 2):
            for drawer in range(1, 21):
                page = np.full((105, 105), True)
                page[: 15 * character, : 4 * drawer] = False  # says whose it is
                name = f"images_background/A/character{character:02}/0{character}_{drawer:02}.png"
                archive.writestr(name, png(page))
    for split, drawers in (("train", range(1, 19)), ("valid", (19, 20))):
        images = load("omniglot", split, tmp_path)
        assert images.classes == ("A/character01", "A/character02")
        assert images.labels is not None
        drawn = images.pixels[:, 0].double() / 255 * 3.75
        heights, widths = drawn.sum(1).amax(1), drawn.sum(2).amax(1)
        assert (heights / 15).round().tolist() == [c for c in (1, 2) for _ in drawers]
        assert (widths / 4).round().tolist() == [*drawers, *drawers]
        assert images.labels.tolist() == [c for c in (0, 1) for _ in drawers]


def test_omniglot_hostile_zips(tmp_path: Path) -> None:
    page = np.full((105, 105), True)
    with pytest.raises(DataError, match=r"A/c/1.png: expected 105 x 105 pixels, got 105 x 104"):
        read_drawings(drawings(tmp_path, ("s/A/c/1.png", png(page[1:]))))
    with pytest.raises(DataError, match=r"A/c/1.png: expected at most .*got 1500 x 1500"):
        read_drawings(drawings(tmp_path, ("s/A/c/1.png", png(np.full((1500, 1500), True)))))
    with pytest.raises(DataError, match=r"A/c/1.png: expected at most 4096 bytes"):
        read_drawings(drawings(tmp_path, ("s/A/c/1.png", bytes(1 << 24))))
    with pytest.raises(DataError, match=r"expected 1 to 40000 drawings, got 0"):
        read_drawings(drawings(tmp_path, ("readme", b"")))


def test_omniglot_burda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"data": (784, 9), "testdata": (784, 4)}
    monkeypatch.setattr(omniglot_burda, "_SHAPES", shapes)
    monkeypatch.setattr(omniglot_burda, "_VALID", 2)
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28)) / 255
    columns = images.reshape(9, 784, order="F").T  # MATLAB's x(:), image by image
    assert columns[28, 3] == images[3, 0, 1]
    savemat(tmp_path / "chardata.mat", {"data": columns, "testdata": columns[:, 5:]})
    train, valid, test = (
        load("omniglot_burda", split, tmp_path, binarize=False)
        for split in ("train", "valid", "test")
    )
    assert [len(part) for part in (train, valid, test)] == [7, 2, 4]
    x = torch.cat([part.batch(torch.arange(len(part)))[0] for part in (train, valid)])
    torch.testing.assert_close(x[:, 0], torch.from_numpy(images))
    assert "dynamic" in load("omniglot_burda", "test", tmp_path).description
    savemat(tmp_path / "chardata.mat", {"testdata": columns[:, 5:] * 255})
    with pytest.raises(DataError, match=r"expected intensities in \[0, 1\]"):
        load("omniglot_burda", "test", tmp_path)
    with pytest.raises(DataError, match=r"expected data of shape \(784, 9\), got None"):
        load("omniglot_burda", "train", tmp_path)
    with pytest.raises(DataError, match="By hand: fetch"):
        load("omniglot_burda", "train", tmp_path / "nowhere")


# House numbers


def house_numbers(
    folder: Path, records: list[tuple[str, list[tuple[float, float, float, float]]]]
) -> Path:
    """`digitStruct.mat` as MATLAB writes it, of names and boxes (left, top, width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "digitStruct.mat", "w") as file:
        count = itertools.count()

        def store(value: Any, dtype: Any = "f8") -> Any:
            return file.create_dataset(f"#refs#/{next(count)}", data=np.array(value, dtype)).ref

        names, boxes = [], []
        for name, digits in records:
            names.append([store([[ord(c)] for c in name], "u2")])
            group = file.create_group(f"#refs#/{next(count)}")
            for side, values in zip(
                ("left", "top", "width", "height"), zip(*digits, strict=True), strict=True
            ):
                one = len(values) == 1
                data = [[v] if one else [store([[v]])] for v in values]
                dtype = "f8" if one else h5py.ref_dtype
                group.create_dataset(side, data=np.array(data, dtype))
            boxes.append([group.ref])
        file.create_dataset("digitStruct/name", data=np.array(names, h5py.ref_dtype))
        file.create_dataset("digitStruct/bbox", data=np.array(boxes, h5py.ref_dtype))
    return folder


def test_svhn(data_dir: Path, cache_folder: Path) -> None:
    folder = data_dir / "svhn" / "format1_sample"
    seen: list[tuple[str, int, int]] = []
    train = load("svhn", "train", folder, progress=lambda *step: seen.append(step))
    assert seen[-1] == ("preparing house numbers", 6, 6)
    valid, test = (load("svhn", split, folder) for split in ("valid", "test"))
    assert [len(images) for images in (train, valid, test)] == [5, 1, 3]
    assert train.pixels.shape == (5, 3, 64, 64)
    assert train.image_shape == (3, 54, 54)
    assert "5 of the 6 numbers of train+extra, random 54x54 crops" in train.description
    index = torch.arange(5)
    a, b = (train.batch(index, torch.Generator().manual_seed(seed))[0] for seed in (1, 2))
    assert a.shape == (5, 3, 54, 54)
    assert not torch.equal(a, b)
    x, _ = test.batch(torch.arange(3))
    assert torch.equal(x, test.pixels[:, :, 5:59, 5:59] / 255.0)
    x, _ = valid.batch(torch.arange(1))
    assert torch.equal(x, valid.pixels[:, :, 5:59, 5:59] / 255.0)
    assert len(list(cache_folder.rglob("*"))) == 2 + 2  # folders, and two arrays
    again = load("svhn", "train", folder, progress=lambda *step: pytest.fail("prepared again"))
    assert torch.equal(again.pixels, train.pixels)


def test_svhn_boxes_of_the_real_file(data_dir: Path) -> None:
    first, *_ = numbers = read_boxes(data_dir / "svhn" / "format1_sample" / "train", Store())
    assert [number.path.name for number in numbers] == ["1.png", "2.png", "3.png"]
    assert first[1:] == (246, 77, 246 + 173, 77 + 223)


def test_svhn_box_is_the_union_made_larger(tmp_path: Path) -> None:
    boxes = [(20.0, 30.0, 10.0, 20.0), (40.0, 20.0, 20.0, 10.0)]
    part = house_numbers(
        tmp_path,
        [
            ("1.png", boxes),
            ("7.png", boxes[:1]),
            ("2.png", boxes * 3),
            ("5.png", [*boxes, *boxes, boxes[0]]),
        ],
    )
    picture = np.zeros((90, 100, 3), np.uint8)
    # 20..60 by 20..50, made 52 by 39 around (40, 35)
    picture[16:54, 14:66] = 200
    for i in (1, 2, 5):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    number, five = read_boxes(part, Store())  # 7.png is not there, 2.png has six digits
    assert five.path.name == "5.png"
    assert number == (tmp_path / "1.png", 20, 20, 60, 50)
    cut = cut_out(number)
    assert cut.shape == (64, 64, 3)
    assert (cut[2:-2, 2:-2] == 200).all()
    assert cut[0].max() < 200
    at_the_edge = cut_out(number._replace(left=-5.0, right=5.0))
    assert (at_the_edge[:, 40:] == 0).all()
    with pytest.raises(DataError, match=r"1.png: expected a box inside 100 x 90 pixels, got \(200"):
        cut_out(number._replace(left=200.0, right=220.0))


def test_svhn_every_fiftieth_is_for_validation(tmp_path: Path) -> None:
    def shades(split: str) -> list[int]:
        return load("svhn", split, tmp_path).pixels[:, 0, 0, 0].tolist()

    boxes = [(0.0, 0.0, 4.0, 4.0)]
    part = house_numbers(tmp_path / "train", [(f"{i}.png", boxes) for i in range(102)])
    for i in range(102):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(part / f"{i}.png")
    assert shades("valid") == [0, 50, 100]
    assert shades("train") == [i for i in range(102) if i % 50]
    # Other boxes are prepared anew.
    house_numbers(part, [(f"{i}.png", boxes) for i in range(3, 102)])
    assert shades("valid") == [3, 53]


@pytest.mark.parametrize("name", ["../1.png", "1.png\0", "a.png", "", "1" * 30 + ".png"])
def test_svhn_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"digitStruct.mat: "):
        read_boxes(house_numbers(tmp_path, [(name, [(1.0, 2.0, 3.0, 4.0)])]), Store())


def test_svhn_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected test/digitStruct.mat, .* By hand: fetch"):
        load("svhn", "test", tmp_path)
    house_numbers(tmp_path / "test", [("1.png", [(1.0, 2.0, 3.0, 4.0)])])
    with pytest.raises(DataError, match=r"expected pictures 1.png, .*got none"):
        load("svhn", "test", tmp_path)


def test_svhn_damaged_cache(data_dir: Path, cache_folder: Path) -> None:
    folder = data_dir / "svhn" / "format1_sample"
    load("svhn", "test", folder)
    (prepared,) = cache_folder.rglob("*.npy")
    for damaged in (prepared.read_bytes()[:-1], b""):
        prepared.write_bytes(damaged)
        with pytest.raises(DataError, match="npy: cannot be read; delete it"):
            load("svhn", "test", folder)


# All of them, damaged


def whole_cifar10(path: Path) -> None:
    path.write_bytes(bytes(3 * 3073))


def whole_omniglot(path: Path) -> None:
    page = np.full((105, 105), True)
    drawings(path.parent, *((f"s/A/c/{i}.png", png(page)) for i in range(3))).rename(path)


def whole_burda(path: Path) -> None:
    savemat(path, {"testdata": np.full((784, 2), 0.5)}, do_compression=True, appendmat=False)


def whole_svhn(path: Path) -> None:
    house_numbers(path.parent, [("1.png", [(1.0, 2.0, 3.0, 4.0)] * 2)] * 2)


READERS: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any]]] = {
    "cifar10": ("x.bin", whole_cifar10, lambda path: read_records(path, 3)),
    "omniglot": ("x.zip", whole_omniglot, read_drawings),
    "omniglot_burda": ("x.mat", whole_burda, lambda path: read_chardata(path, "testdata")),
    "svhn": ("digitStruct.mat", whole_svhn, lambda path: read_boxes(path.parent, Store())),
}


@pytest.mark.parametrize(("name", "make", "read"), READERS.values(), ids=READERS)
def test_damaged_files(
    tmp_path: Path,
    name: str,
    make: Callable[[Path], None],
    read: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Truncated, lengthened, with wrong bytes: read, or refused by name."""
    monkeypatch.setattr(omniglot_burda, "_SHAPES", {"testdata": (784, 2)})
    path = tmp_path / name
    make(path)
    whole = path.read_bytes()
    read(path)
    for length in range(0, len(whole), len(whole) // 30 + 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=name):
            read(path)
    chance = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            read(path)
        except DataError as error:
            message = str(error)
        else:
            message = f"{path}"
        assert message.startswith(str(path))
