"""Loading a set by its name, and what a batch is."""

import gzip
import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drawnet.data import DataError, Images, load
from drawnet.data.digits import write_digits
from drawnet.data.images import plain
from drawnet.data.views import fixed, two_images


@pytest.mark.parametrize(
    ("name", "split", "shape", "mean"),
    [
        ("binarized_mnist", "train", (50_000, 1, 28, 28), 0.13056),
        ("binarized_mnist", "valid", (10_000, 1, 28, 28), 0.13113),
        ("binarized_mnist", "test", (10_000, 1, 28, 28), 0.13251),
        ("mnist", "train", (50_000, 1, 28, 28), 0.13096),
        ("mnist", "test", (10_000, 1, 28, 28), 0.13251),
    ],
)
def test_published_sets(
    name: str, split: str, shape: tuple[int, ...], mean: float, data_dir: Path
) -> None:
    images = load(name, split, data_dir)
    assert images.pixels.shape == shape
    assert images.image_shape == shape[1:]
    assert len(images) == shape[0]
    assert images.pixels.sum() / images.pixels.numel() / 255 == pytest.approx(mean, abs=6e-6)


def test_mnist_train_and_valid_are_the_two_parts_of_the_file(data_dir: Path) -> None:
    train, valid = (load("mnist", split, data_dir) for split in ("train", "valid"))
    assert train.labels is not None
    assert valid.labels is not None
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (len(train), len(valid)) == (50_000, 10_000)
    mean = torch.cat([train.pixels, valid.pixels]).double().mean() / 255
    assert mean.item() == pytest.approx(0.13066, abs=5e-6)


@pytest.mark.parametrize("name", ["binarized_mnist", "mnist", "cluttered_mnist"])
def test_a_last_training_may_have_the_digits_of_validation_too(data_dir: Path, name: str) -> None:
    for split in ("train", "valid", "test"):
        usual = load(name, split, data_dir)
        every = load(name, split, data_dir, include_valid=True)
        expected = [usual, load(name, "valid", data_dir)] if split == "train" else [usual]
        assert torch.equal(every.pixels, torch.cat([each.pixels for each in expected]))
        labels = [each.labels for each in expected if each.labels is not None]
        assert (every.labels is None) == (not labels)
        if every.labels is not None:
            assert torch.equal(every.labels, torch.cat(labels))
        assert ("of validation too" in every.description) == (split == "train")


def test_files_may_lie_directly_in_the_folder(data_dir: Path) -> None:
    direct = load("binarized_mnist", "test", data_dir / "binarized_mnist")
    assert torch.equal(direct.pixels, load("binarized_mnist", "test", data_dir).pixels)


def test_environment_names_the_folder(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWNET_DATA", str(data_dir))
    assert len(load("mnist", "test")) == 10_000


def test_shown_it_says_in_one_line_what_it_is() -> None:
    pixels = torch.zeros(90, 3, 7, 9, dtype=torch.uint8)
    images = Images(pixels, None, "squares", "valid", "squares, all black", size=(5, 6))
    few = images.subset(torch.arange(20))
    assert repr(few) == "<20 images of 3 x 5 x 6: squares, all black, valid>"


def test_one_set_is_not_taken_for_another(data_dir: Path) -> None:
    with pytest.raises(DataError, match=r"expected the labels of kmnist, got those of mnist"):
        load("kmnist", "test", data_dir / "mnist")


def test_a_set_that_is_not_known_is_not_taken_for_mnist(data_dir: Path, tmp_path: Path) -> None:
    images, labels = (f"t10k-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    (tmp_path / images).symlink_to(data_dir / "mnist" / images)
    content = gzip.decompress((data_dir / "mnist" / labels).read_bytes())
    (tmp_path / labels).write_bytes(content[:8] + content[:7:-1])
    with pytest.raises(DataError, match=r"expected the labels of mnist, got those of another set"):
        load("mnist", "test", tmp_path)
    assert len(load("kmnist", "test", tmp_path)) == 10_000


def test_a_given_folder_without_the_set_is_an_error_naming_the_places(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load("mnist", "test", tmp_path)
    assert str(tmp_path / "mnist") in str(error.value)


def test_unknown_words_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"data set must be one of .*mnist.*, got 'mnits'"):
        load("mnits", "train")
    with pytest.raises(ValueError, match=r"split must be one of train, valid, test, got 'dev'"):
        load("digits", "dev")
    with pytest.raises(ValueError, match=r"kmnist takes the options binarize, got 'binarise'"):
        load("kmnist", "train", binarise=True)
    with pytest.raises(ValueError, match=r"digits takes no options, got 'size'"):
        load("digits", "train", size=3)


def test_static_and_dynamic_binarization_are_told_apart(data_dir: Path) -> None:
    assert "fixed" in load("binarized_mnist", "test", data_dir).description
    assert load("mnist", "test", data_dir).description == "mnist, grey"
    assert "dynamic" in load("mnist", "test", data_dir, binarize=True).description


def test_batch() -> None:
    images = load("digits", "test")
    index = torch.tensor([7, 3, 3, 1999])
    x, y = images.batch(index)
    assert x.shape == (4, 1, 28, 28)
    assert x.dtype == torch.float64
    assert y is not None
    assert y.tolist() == [7, 3, 3, 9]
    assert torch.equal(x[1], x[2])
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert images.batch(index)[0].equal(x)
    torch.set_default_dtype(torch.float32)
    assert images.batch(index)[0].dtype == torch.float32


def test_batch_without_labels() -> None:
    images = Images(torch.full((5, 3, 4, 6), 51, dtype=torch.uint8), None, "a", "train", "a")
    x, y = images.batch(torch.tensor([4, 0]))
    assert y is None
    assert x.shape == (2, *images.image_shape) == (2, 3, 4, 6)
    assert torch.equal(x, torch.full_like(x, 0.2))


@pytest.mark.parametrize(("split", "count"), [("train", 20_000), ("valid", 2_000)])
def test_digits(split: str, count: int) -> None:
    images = load("digits", split)
    assert images.pixels.shape == (count, 1, 28, 28)
    assert images.labels is not None
    assert images.labels.bincount().tolist() == [count // 10] * 10
    assert images.pixels.unique().tolist() == [0, 255]
    assert images.pixels.flatten(1).unique(dim=0).shape[0] > count - 5
    assert 0.11 < images.pixels.sum() / images.pixels.numel() / 255 < 0.14
    ink = images.pixels.flatten(1).double().mean(1) / 255
    assert ink.min() > 0.02
    assert ink.max() < 0.4
    edge = images.pixels.clone()
    edge[:, :, 1:-1, 1:-1] = 0
    assert edge.count_nonzero() / images.pixels.count_nonzero() < 1e-3


def test_digits_depend_on_split_and_index_alone() -> None:
    index = torch.tensor([11, 4, 1234])
    digits = write_digits(index, salt=1)
    assert torch.equal(digits, load("digits", "valid").pixels[index])
    assert torch.equal(digits[[1]], write_digits(index[[1]], salt=1))
    assert not torch.equal(digits, write_digits(index, salt=2))


def test_digits_are_the_same_everywhere() -> None:
    digits = load("digits", "valid").pixels.numpy().tobytes()
    assert hashlib.sha256(digits).hexdigest() == (
        "31163254fc18d10db04a7552b9444e5462dadd05698ca99d8cd9d524ca4a86c7"
    )


def test_digits_can_be_told_apart() -> None:
    """A classifier of least squares, trained on 2,000 digits, reads 500 others."""
    (x, y), (x_test, y_test) = (
        images.batch(torch.arange(count))
        for images, count in ((load("digits", "valid"), 2000), (load("digits", "test"), 500))
    )
    assert y is not None
    assert y_test is not None
    x, x_test = x.flatten(1) - 0.5, x_test.flatten(1) - 0.5
    ridge = x.T @ x + 50 * torch.eye(784)
    weights = torch.linalg.solve(ridge, x.T @ torch.eye(10)[y])
    assert ((x_test @ weights).argmax(1) == y_test).double().mean() > 0.9


def test_images_of_a_subset_are_those_of_the_set() -> None:
    scenes = Images(
        torch.randint(256, (7, 1, 5, 4), dtype=torch.uint8),
        torch.arange(7),
        "scenes",
        "test",
        "scenes",
        view=partial(two_images, size=9, chances=fixed),
        size=(9, 9),
    )
    some = scenes.subset(torch.tensor([6, 2, 3]))
    assert (len(some), some.image_shape) == (3, (1, 9, 9))
    assert torch.equal(some.batch(torch.tensor([2, 0]))[0], scenes.batch(torch.tensor([3, 6]))[0])
    fewer = some.subset(torch.tensor([1])).to("cpu")
    assert len(fewer) == 1
    assert torch.equal(fewer.batch(torch.tensor([0]))[0], scenes.batch(torch.tensor([2]))[0])
    named = replace(scenes, view=plain, size=None).subset(torch.tensor([4, 5]))
    assert named.batch(torch.tensor([1, 0]))[1].tolist() == [5, 4]


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (
            torch.rand(4, 1, 3, 3),
            None,
            r"mine: expected pixels \(N, C, H, W\) of uint8, got \(4, 1",
        ),
        (torch.zeros(4, 3, 3).byte(), None, r"of uint8, got \(4, 3, 3\)"),
        (torch.zeros(4, 1, 3, 3).byte(), torch.zeros(3).long(), r"int64 labels \(4,\), got \(3,\)"),
        (torch.zeros(4, 1, 3, 3).byte(), torch.zeros(4), r"got \(4,\) of torch.float"),
    ],
)
def test_what_are_no_images(pixels: Tensor, labels: Tensor | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Images(pixels, labels, "mine", "train", "mine")
