"""Drawings, figures and walks from the command line."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from commands import SIDE, Answer, T, save_classifier, save_drawer, save_pictures
from matplotlib.figure import Figure
from PIL import Image, ImageOps, ImageSequence
from tiny import seeded

from drawnet import DRAW, DRAWConfig, Trace, data, figures, visualise
from drawnet.classify import GlimpseClassifier
from drawnet.cli.drawing import pairs_in_a_row
from drawnet.cli.inputs import drawn_at_random, picture
from drawnet.complete import complete, hide, hide_at_random
from drawnet.data.lighthouse import lighthouse
from drawnet.visualise import animate_glimpses, grid, render

BEGINS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of a network with attention, of one without, and of a classifier."""
    folder = tmp_path_factory.mktemp("weights")
    torch.set_default_dtype(torch.float64)
    return {
        "WITH": save_drawer(folder / "with"),
        "WITHOUT": save_drawer(folder / "without", write_size=None),
        "CLASSIFIER": save_classifier(folder / "classifier"),
        "OWN": save_own(folder / "own"),
        "CLASSES": save_drawer(folder / "classes", {"classes": ["a", "b"]}, classes=2),
    }


def save_own(folder: Path) -> Path:
    class Own(DRAW):
        """A network that the command line does not know."""

    Own(DRAWConfig(image_shape=(1, SIDE, SIDE))).save_pretrained(folder)
    return folder


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Let a function of `drawnet.figures` note what it is given, and draw nothing."""

    def catch(name: str) -> list[Any]:
        given: list[Any] = []

        def note(*args: Any, **options: Any) -> Figure:
            # A training set comes in parts, which are gone once the command has ended.
            given.extend(torch.cat(list(a)) if hasattr(a, "__next__") else a for a in args)
            given.append(options)
            return Figure()

        monkeypatch.setattr(figures, name, note)
        return given

    return catch


def shape_of(rows: int, columns: int) -> float:
    """Height over width of a page of pictures, which lie a pixel apart."""
    return (rows * (SIDE + 1) - 1) / (columns * (SIDE + 1) - 1)


def test_a_drawing_at_another_size(
    drawnet: Callable[..., Answer], weights: dict[str, Path], tmp_path: Path
) -> None:
    size = 31  # 3.44 times the model's
    options = ("--count", 3, "--columns", 3, "--seed", 5, "--format", "apng", "--out", tmp_path)
    answer = drawnet("generate", weights["WITH"], "--size", size, "--no-windows", *options)
    assert answer.code == 0
    model = DRAW.from_pretrained(weights["WITH"])
    with torch.no_grad():
        trace = model.generate(3, generator=seeded(5))
        expected = grid(torch.sigmoid(render(trace, size / SIDE)), columns=3, scale=1)
    still, moving = answer.out.splitlines()
    with Image.open(still) as page:
        assert page.size == (3 * size + 2 * 4, size)
        assert np.array_equal(np.asarray(page), np.asarray(expected))
    with Image.open(moving) as animation:
        *_, last = ImageSequence.Iterator(animation)
        assert last.size == (3 * size + 2 * 8, size)
        first = np.asarray(last.convert("RGB"))[:, :size]
    assert np.array_equal(first, np.asarray(expected)[:, :size])


def test_canvases_that_do_not_fit(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drawnet.cli.budget.CANVASES", 2 * (T + 1) * 18**2)
    options = ("--size", 18, "--out", tmp_path)
    assert drawnet("generate", weights["WITH"], *options, "--count", 2).code == 0
    refused = drawnet("generate", weights["WITH"], *options, "--count", 3)
    assert "expected at most 2 images with all their canvases, got 3" in refused.err
    still = drawnet("generate", weights["WITH"], *options, "--count", 3, "--format", "none")
    assert still.code == 0

    counts: list[int] = []
    plot = visualise.plot_nats
    monkeypatch.setattr(visualise, "plot_nats", lambda t, x: counts.append(len(x)) or plot(t, x))
    monkeypatch.setattr("drawnet.cli.budget.CANVASES", 3 * (T + 1) * SIDE**2)
    figure = ("figure", "nats", weights["WITH"], "--data-dir", pictures, "--split", "train")
    assert drawnet(*figure, "--out", tmp_path / "nats.png").code == 0
    assert counts == [3]


@pytest.mark.parametrize(("size", "side"), [((), SIDE), (("--size", 20), 20)])
def test_each_drawing_on_its_own(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    tmp_path: Path,
    size: tuple[Any, ...],
    side: int,
) -> None:
    options = ("--count", 3, "--columns", 1, "--format", "none", "--separate", "--out", tmp_path)
    answer = drawnet("generate", weights["WITH"], *options, *(size or ("--scale", 1)))
    assert answer.out.splitlines() == [
        str(tmp_path / name) for name in ("generated.png", "generated")
    ]
    found = sorted((tmp_path / "generated").iterdir())
    assert [file.name for file in found] == ["0001.png", "0002.png", "0003.png"]
    fewer = ("--count", 2, "--format", "none", "--separate", "--out", tmp_path / "fewer")
    for count in ((), ("--count", 1)):
        drawnet("generate", weights["WITH"], *fewer, *count)
    assert len(list((tmp_path / "fewer" / "generated").iterdir())) == 1
    with Image.open(tmp_path / "generated.png") as page:
        whole = np.asarray(page)
    for number, file in enumerate(found):
        with Image.open(file) as image:
            top = number * (side + 4)
            assert np.array_equal(np.asarray(image), whole[top : top + side])


def test_without_an_animation_there_may_be_many(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drawnet.cli.budget.FILM", 3 * (T + 1) * SIDE**2 - 1)
    options = ("--count", 3, "--scale", 1, "--out", tmp_path)
    refused = drawnet("generate", weights["WITH"], *options)
    assert "or no animation, by --format none" in refused.err
    answer = drawnet("generate", weights["WITH"], *options, "--format", "none")
    assert answer.out.splitlines() == [str(tmp_path / "generated.png")]
    assert [path.name for path in tmp_path.iterdir()] == ["generated.png"]
    monkeypatch.setattr("drawnet.cli.budget.PICTURE", 3 * SIDE**2 - 1)
    for more in ((), ("--format", "none")):
        refused = drawnet("generate", weights["WITH"], *options, *more)
        assert refused.err.endswith("draw fewer images or smaller ones\n")


def test_pictures_that_do_not_fit_are_smaller_if_nobody_says_how_large(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drawnet.cli.budget.FILM", 4 * 7 * (T + 1) * SIDE**2)
    for verb, more in (("generate", ()), ("reconstruct", ("--data-dir", pictures))):
        options = (weights["WITH"], "--count", 3, *more, "--out", tmp_path)
        assert drawnet(verb, *options).code == 0
        assert "megapixels" in drawnet(verb, *options, "--scale", 4).err
    with Image.open(tmp_path / "reconstructed.png") as picture:
        assert picture.height < 3 * (2 * SIDE + 8)
    # There are not so many images.
    few = len(data.load("folder", "test", pictures, size=SIDE, channels=1))
    monkeypatch.setattr("drawnet.cli.budget.FILM", 3 * few * (T + 1) * SIDE**2)
    options = (weights["WITH"], "--data-dir", pictures, "--out", tmp_path)
    assert drawnet("reconstruct", *options, "--count", 1000).code == 0


def test_without_an_animation_only_the_last_canvas_is_drawn_larger(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--size", 31, "--count", 3, "--seed", 5)
    drawnet("generate", weights["WITH"], *options, "--out", tmp_path / "all")
    monkeypatch.setattr(visualise, "refine", None)
    drawnet("generate", weights["WITH"], *options, "--out", tmp_path / "last", "--format", "none")
    files = [tmp_path / name / "generated.png" for name in ("all", "last")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_full_disk_leaves_the_pictures_before(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawnet("generate", weights["WITH"], "--count", 3, "--out", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = drawnet("generate", weights["WITH"], "--count", 4, "--out", tmp_path)
    assert answer.code == 1
    assert answer.err == f"drawnet generate: cannot save {tmp_path}/generated.png: disk full\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_may_have_any_name(weights: dict[str, Path], tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [
        sys.executable,
        "-m",
        "drawnet",
        "generate",
        weights["WITH"],
        "--count=1",
        "--out",
        out,
    ]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=strict)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [out + b"/generated.png", out + b"/generated.gif"]


def test_windows_glimpses_and_columns(
    drawnet: Callable[..., Answer], weights: dict[str, Path], tmp_path: Path
) -> None:
    options = ("--count", 6, "--scale", 2, "--format", "apng", "--seed", 1)
    command = ("generate", weights["WITH"], *options)
    drawnet(*command, "--columns", 2, "--fps", 4, "--out", tmp_path / "a")
    drawnet(*command, "--no-windows", "--glimpses", T + 3, "--out", tmp_path / "b")
    with Image.open(tmp_path / "a" / "generated.png") as still:
        assert still.size == (2 * SIDE * 2 + 4, 3 * SIDE * 2 + 2 * 4)
    with Image.open(tmp_path / "a" / "generated.apng") as framed:
        assert framed.n_frames == T + 1
        assert framed.size == (2 * SIDE * 2 + 8, 3 * SIDE * 2 + 2 * 8)
        assert framed.info["duration"] == 250
        framed.seek(T)
        assert np.ptp(np.asarray(framed.convert("RGB")), axis=2).max() > 0
    with Image.open(tmp_path / "b" / "generated.apng") as bare:
        assert bare.n_frames == T + 3 + 1
        bare.seek(T + 3)
        assert np.ptp(np.asarray(bare.convert("RGB")), axis=2).max() == 0


def test_drawings_by_class(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[int]] = []
    generate = DRAW.generate

    def note(self: DRAW, n: int, **options: Any) -> Trace:
        asked.append(options["y"].tolist())
        return generate(self, n, **options)

    monkeypatch.setattr(DRAW, "generate", note)

    def columns(*options: object) -> int:
        answer = drawnet("generate", weights["CLASSES"], "--out", tmp_path, *options)
        assert answer.code == 0, answer.err
        with Image.open(tmp_path / "generated.png") as page:
            return (page.width + 4) // (SIDE * 4 + 4)

    assert columns("--count", 5) == 2, "a column for each class"
    assert columns("--count", 5, "--label", "b") == 3, "about square"
    assert columns("--count", 5, "--label", "1, a") == 3, "a row for each label"
    assert columns("--count", 5, "--label", "b,a,b", "--columns", 1) == 1
    assert asked == [[0, 1, 0, 1, 0], [1] * 5, [1, 1, 1, 0, 0], [1, 0, 1, 1, 0]]


def test_a_number_is_the_class_of_that_name(drawnet: Callable[..., Answer], tmp_path: Path) -> None:
    path = save_drawer(tmp_path / "numbers", {"classes": ["1", "2"]}, classes=2)
    answers = [drawnet("generate", path, "--label", k, "--out", tmp_path) for k in range(3)]
    assert [answer.code for answer in answers] == [2, 0, 0]
    assert "--label must be one of 1, 2, got '0'" in answers[0].err


@pytest.mark.parametrize(
    ("count", "in_a_row"),
    [(1, 1), (2, 1), (3, 3), (4, 2), (7, 2), (9, 3), (16, 4), (17, 3), (24, 4), (100, 10)],
)
def test_pairs_fill_rows(count: int, in_a_row: int) -> None:
    assert pairs_in_a_row(count) == in_a_row


def cells(page: np.ndarray, columns: int) -> np.ndarray:
    """The images of a page at scale 1, ``(rows, columns, SIDE, SIDE, 3)``."""
    page = np.pad(page, ((0, 4), (0, 4), (0, 0)))
    grid = page.reshape(-1, SIDE + 4, columns, SIDE + 4, 3).swapaxes(1, 2)
    return grid[:, :, :SIDE, :SIDE]


@pytest.mark.parametrize("network", ["WITH", "CLASSES"])
def test_each_image_lies_beside_its_copy(
    network: str,
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
) -> None:
    answer = drawnet(
        "reconstruct", weights[network], "--data-dir", pictures, "--split", "train", "--count", 16,
        "--scale", 1, "--format", "webp", "--out", tmp_path,
    )  # fmt: skip
    assert answer.code == 0
    with Image.open(tmp_path / "reconstructed.png") as picture:
        page = cells(np.asarray(picture), 8)
    assert len(page) == 4
    split = data.load("folder", "train", pictures, size=SIDE, channels=1)
    known = {image.numpy().tobytes() for image in split.pixels[:, 0]}
    found = [image[..., 0].tobytes() for row in page for image in row]
    assert [image in known for image in found] == [True, False] * 16
    assert len(set(found[::2])) == 16
    # Another seed takes others.
    drawnet(
        "reconstruct", weights[network], "--data-dir", pictures, "--split", "train", "--seed", 1,
        "--count", 16, "--scale", 1, "--format", "none", "--out", tmp_path,
    )  # fmt: skip
    with Image.open(tmp_path / "reconstructed.png") as picture:
        page = cells(np.asarray(picture), 8)
    assert {image[..., 0].tobytes() for row in page for image in row[::2]} != set(found[::2])


@pytest.mark.parametrize("network", ["WITH", "WITHOUT", "CLASSES"])
def test_what_is_known_what_is_hidden_and_what_may_be_there(
    network: str,
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
) -> None:
    answer = drawnet(
        "complete", weights[network], "--data-dir", pictures, "--split", "train", "--mask", "top",
        "--count", 3, "--times", 2, "--rounds", 2, "--chains", 2, "--scale", 1, "--out", tmp_path,
    )  # fmt: skip
    assert answer == Answer(0, f"{tmp_path / 'completed.png'}\n{tmp_path / 'completed.gif'}\n", "")
    with Image.open(tmp_path / "completed.png") as picture:
        page = cells(np.asarray(picture), 4)
    assert len(page) == 3
    half = SIDE // 2
    assert (page[:, 1, :half] == (204, 121, 167)).all()
    assert (page[:, 1:, half:] == page[:, :1, half:]).all()
    one, two = page[:, 2, :half], page[:, 3, :half]
    assert (one != two).any()
    assert (one != page[:, 0, :half]).any()
    split = data.load("folder", "train", pictures, size=SIDE, channels=1)
    known = {image.numpy().tobytes() for image in split.pixels[:, 0]}
    assert all(row[0, :, :, 0].tobytes() in known for row in page)
    with Image.open(tmp_path / "completed.gif") as animation:
        assert animation.n_frames == T + 1
        assert animation.size == (2 * SIDE + 8, 3 * SIDE + 2 * 8)


def test_a_completion_is_made_as_asked(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    completed = Mock(wraps=complete)
    monkeypatch.setattr("drawnet.complete.complete", completed)
    command = ("complete", weights["WITH"], "--image", pictures / "a" / "0.png", "--out", tmp_path)
    options = ("--times", 2, "--rounds", 3, "--chains", 4, "--fill", "mean")
    assert drawnet(*command, *options).code == 0
    asked = completed.call_args.kwargs
    assert {name: asked[name] for name in ("n", "rounds", "chains", "fill")} == {
        "n": 2,
        "rounds": 3,
        "chains": 4,
        "fill": "mean",
    }


def test_a_picture_is_brought_to_the_height_and_width_of_an_image(tmp_path: Path) -> None:
    values = np.zeros((20, 50), np.uint8)
    values[:10, 10:40] = 255  # of its middle, 20 x 30, the upper half
    Image.fromarray(values).save(tmp_path / "wide.png")
    x = picture(tmp_path / "wide.png", (1, 2, 3))
    assert x.tolist() == [[[1, 1, 1], [0, 0, 0]]]


@pytest.mark.parametrize("mask", ["FILE", "left", "right", "bottom", "centre", "pixels:0.5"])
def test_every_mask_on_a_picture_of_ones_own(
    mask: str, drawnet: Callable[..., Answer], weights: dict[str, Path], tmp_path: Path
) -> None:
    photo, file = tmp_path / "photo.png", tmp_path / "mask.png"
    values = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(values).save(photo)
    white = np.zeros((3 * SIDE, 3 * SIDE), np.uint8)  # of another size
    white[3:12, 6:27] = 255
    Image.fromarray(white).save(file)
    answer = drawnet(
        "complete", weights["WITH"], "--image", photo, "--mask", file if mask == "FILE" else mask,
        "--times", 3, "--rounds", 2, "--scale", 1, "--out", tmp_path,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    with Image.open(tmp_path / "completed.png") as picture:
        original, covered, *completed = cells(np.asarray(picture), 5)[0]
    assert np.array_equal(original, np.repeat(values[..., None], 3, 2))
    hidden = (covered == (204, 121, 167)).all(2)
    if mask == "FILE":
        assert np.array_equal(hidden, white[1::3, 1::3] > 0)
    elif mask == "pixels:0.5":
        expected = hide_at_random(0.5, SIDE, SIDE, seeded(0))
        assert np.array_equal(hidden, ~expected.numpy())
    else:
        assert np.array_equal(hidden, ~hide(mask, SIDE, SIDE).numpy())  # type: ignore[arg-type]
    for each in completed:
        assert np.array_equal(each[~hidden], original[~hidden])
        assert (each[hidden] != original[hidden]).any()


def test_a_picture_is_completed_as_of_the_class_that_is_named(
    drawnet: Callable[..., Answer], weights: dict[str, Path], tmp_path: Path
) -> None:
    Image.new("L", (SIDE, SIDE), 70).save(tmp_path / "photo.png")
    command = ("complete", weights["CLASSES"], "--image", tmp_path / "photo.png", "--rounds", 1)
    stills = []
    for label in "aab":
        assert drawnet(*command, "--label", label, "--out", tmp_path).code == 0
        stills.append((tmp_path / "completed.png").read_bytes())
    assert stills[0] == stills[1] != stills[2]


def test_images_without_labels_are_completed_as_of_the_class_that_is_named(
    drawnet: Callable[..., Answer], weights: dict[str, Path], tmp_path: Path
) -> None:
    for number in range(10):
        Image.new("L", (SIDE, SIDE), 20 * number).save(tmp_path / f"{number}.png")
    command = ("complete", weights["CLASSES"], "--data", "folder", "--data-dir", tmp_path)
    options = ("--split", "train", "--count", 2, "--rounds", 1, "--out", tmp_path / "out")
    assert drawnet(*command, *options, "--label", "b").code == 0
    refused = drawnet(*command, *options)
    assert refused.code == 2
    assert "expected labels of 2 classes, got no labels" in refused.err


def test_what_a_classifier_takes_images_for_and_where_it_looks(
    drawnet: Callable[..., Answer], weights: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    command = ("classify", weights["CLASSIFIER"], "--data-dir", pictures, "--split", "train")
    options = ("--count", 5, "--columns", 1, "--format", "apng", "--out", tmp_path)
    answer = drawnet(*command, *options)
    assert answer.code == 0, answer.err
    *lines, still, moving = answer.out.splitlines()
    images = data.load("folder", "train", pictures, size=SIDE, channels=1)
    x, y = drawn_at_random(images, 5, seed=0).batch(torch.arange(5))
    assert y is not None
    model = GlimpseClassifier.from_pretrained(weights["CLASSIFIER"]).requires_grad_(False)
    seen = model(x)
    probability, chosen = seen.logits[-1].softmax(-1).max(-1)
    assert lines == [
        f"image {i + 1}: {'ab'[chosen[i]]} ({100 * probability[i]:.1f} %), labelled {'ab'[y[i]]}"
        for i in range(5)
    ]
    frames = animate_glimpses(x, seen, names=("a", "b"), columns=1)
    with Image.open(moving) as animation:
        assert animation.n_frames == len(frames) == 3
        for t, frame in enumerate(frames):
            animation.seek(t)
            assert np.array_equal(np.asarray(animation.convert("RGB")), np.asarray(frame))
    with Image.open(still) as last:
        assert np.array_equal(np.asarray(last), np.asarray(frames[-1]))


def test_a_negative_is_inverted(
    drawnet: Callable[..., Answer], weights: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    with Image.open(pictures / "a" / "0.png") as photo:
        ImageOps.invert(photo).save(tmp_path / "negative.png")
    command = ("classify", weights["CLASSIFIER"], "--out", tmp_path, "--format", "none", "--image")

    def shown(*image: str | Path) -> bytes:
        assert drawnet(*command, *image).code == 0
        return (tmp_path / "classified.png").read_bytes()

    expected = shown(pictures / "a" / "0.png")
    assert shown(tmp_path / "negative.png") != expected
    assert shown(tmp_path / "negative.png", "--invert") == expected


def test_a_picture_of_ones_own_is_classified(
    drawnet: Callable[..., Answer], weights: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    photo = pictures / "a" / "0.png"
    command = ("classify", weights["CLASSIFIER"], "--image", photo, "--out", tmp_path)
    answer = drawnet(*command)
    assert answer.code == 0, answer.err
    first, still, moving = answer.out.splitlines()
    assert re.fullmatch(r"image 1: [01] \(\d+\.\d %\)", first), "by number, without names"
    assert [Path(still).name, Path(moving).name] == ["classified.png", "classified.gif"]
    named = save_classifier(tmp_path / "named", classes=["black", "white"])
    answer = drawnet("classify", named, "--image", photo, "--out", tmp_path)
    assert re.match(r"image 1: (black|white) \(", answer.out)
    # Its classes are those that it has learned, whatever the images are called.
    command = ("classify", named, "--data-dir", pictures, "--split", "train", "--count", 1)
    answer = drawnet(*command, "--out", tmp_path)
    assert re.match(r"image 1: (black|white) \(.*\), labelled [ab]\n", answer.out)
    flat = tmp_path / "flat"
    flat.mkdir(parents=True)
    for number in range(3):
        shutil.copy(pictures / "a" / f"{2 * number}.png", flat)
    answer = drawnet(
        "classify", named, "--data-dir", tmp_path / "flat", *command[4:], "--out", tmp_path
    )
    assert re.match(r"image 1: (black|white) \(\d+\.\d %\)\n", answer.out), answer.err


def test_answers_that_are_no_numbers_are_none(
    drawnet: Callable[..., Answer], weights: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    model = GlimpseClassifier.from_pretrained(weights["CLASSIFIER"])
    with torch.no_grad():
        model.answer.bias[0] = torch.nan
    model.save_pretrained(tmp_path / "broken")
    answer = drawnet("classify", tmp_path / "broken", "--image", pictures / "a" / "0.png")
    assert answer.code == 2
    assert "gives answers that are not finite" in answer.err


@pytest.mark.parametrize(
    ("argv", "suffix"),
    [
        (["1", "WITH", "--count", "2", "--steps", "3"], "pdf"),
        (["10", "WITH", "--count", "2"], "png"),
        (["7", "WITHOUT", "--count", "2"], "png"),
        (["3"], "svg"),
        (["4", "--patch", "5"], "png"),
        (["5", "CLASSIFIER", "--data-dir", "DATA", "--count", "2"], "png"),
        (["6", "WITH", "--data-dir", "DATA", "--count", "6", "--columns", "3"], "pdf"),
        (["8", "WITH", "--count", "6", "--columns", "3"], "png"),
        (["nats", "WITH", "--data-dir", "DATA"], "svg"),
        (["1", "CLASSES", "--count", "2", "--steps", "3"], "png"),
        (["6", "CLASSES", "--data-dir", "DATA", "--count", "6", "--columns", "3"], "png"),
        (["8", "CLASSES", "--count", "6", "--columns", "3"], "png"),
        (["nats", "CLASSES", "--data-dir", "DATA"], "png"),
    ],
)
def test_every_figure(
    argv: list[str],
    suffix: str,
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
) -> None:
    file = tmp_path / "new" / f"figure.{suffix}"
    names = {**weights, "DATA": pictures}
    answer = drawnet("figure", *(names.get(a, a) for a in argv), "--dpi", 40, "--out", file)
    assert answer == Answer(0, f"{file}\n", "")
    content = file.read_bytes()
    assert content.startswith(BEGINS[suffix])
    assert b"CreationDate" not in content
    assert b"<dc:date>" not in content
    if suffix == "png":
        with Image.open(file) as page:
            assert page.width == 270, "6.75 inches"
    assert list(file.parent.iterdir()) == [file]


def test_files_are_named_by_what_was_asked_for(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert drawnet("figure", "10", weights["WITH"], "--count", 1, "--dpi", 20).code == 0
    assert [path.as_posix() for path in Path("out").iterdir()] == ["out/figure-10.png"]


def test_the_nearest_images_are_sought_in_the_training_set(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    caught: Callable[[str], list[Any]],
) -> None:
    given = caught("samples_and_nearest")
    command = ("figure", "9", weights["WITH"], "--data-dir", pictures, "--count", 4, "--seed", 3)
    assert drawnet(*command, "--columns", 2, "--out", tmp_path / "a.png").code == 0
    samples, training, options = given
    model = DRAW.from_pretrained(weights["WITH"]).requires_grad_(False)
    torch.testing.assert_close(samples, model.generate(4, generator=seeded(3)).mean)
    images = data.load("folder", "train", pictures, size=SIDE, channels=1)
    torch.testing.assert_close(training, images.pixels.to(training) / 255)
    assert options == {"columns": 2}

    given.clear()
    mirror = ("--data-options", "{mirror: true}", "--columns", 2, "--out", tmp_path / "b.png")
    assert drawnet(*command, *mirror).code == 0
    found = given[1].flatten(1)
    for image in images.pixels.to(found) / 255:
        for either in (image, image.flip(-1)):
            assert (found == either.flatten()).all(1).any(), "the network has learned both"


def test_a_photo_of_ones_own(
    drawnet: Callable[..., Answer], tmp_path: Path, caught: Callable[[str], list[Any]]
) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (500, 250), "red").save(photo)
    given = caught("zoom")
    out = ("--out", tmp_path / "figure.png")
    assert drawnet("figure", "4", "--image", photo, "--patch", 7, *out).code == 0
    assert drawnet("figure", "4", *out).code == 0
    mine, options, shown, _ = given
    torch.testing.assert_close(mine, torch.eye(3)[:, :1, None].expand(3, 120, 240))
    assert options == {"size": 7}
    expected = torch.from_numpy(np.array(lighthouse())).permute(2, 0, 1) / 255
    torch.testing.assert_close(shown, expected, check_dtype=False)


@pytest.mark.parametrize("network", ["WITH", "CLASSES"])
@pytest.mark.parametrize(
    ("walk", "rows", "columns"),
    [
        (["interpolate", "--count", "2", "--steps", "5"], 2, 5),
        (["redraw", "--count", "3", "--times", "4", "--keep", str(T)], 3, 5),
        (["redraw", "--count", "2", "--times", "2"], 2, 3),
    ],
)
def test_walks(
    walk: list[str],
    rows: int,
    columns: int,
    network: str,
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
) -> None:
    name, *options = walk
    command = ("explore", name, weights[network], "--data-dir", pictures, "--split", "train")
    answer = drawnet(*command, *options, "--dpi", 200, "--out", tmp_path / "a.png")
    assert answer == Answer(0, f"{tmp_path / 'a.png'}\n", "")
    with Image.open(tmp_path / "a.png") as page:
        assert page.height / page.width == pytest.approx(shape_of(rows, columns), abs=2e-3)


def test_what_is_kept_is_drawn_alike(
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    caught: Callable[[str], list[Any]],
) -> None:
    given = caught("samples")
    command = ("explore", "redraw", weights["WITH"], "--data-dir", pictures, "--split", "train")
    command += ("--count", 2, "--times", 3, "--out", tmp_path / "a.png")
    assert drawnet(*command, "--keep", T).code == 0
    assert drawnet(*command, "--keep", 0).code == 0
    assert drawnet(*command).code == 0
    assert drawnet(*command, "--keep", T // 4).code == 0
    kept, _, fresh, _, usual, _, quarter, options = given
    assert torch.equal(usual, quarter)
    assert options == {"columns": 4}
    (_, one, *others), (_, new, *more) = kept[:4], fresh[:4]
    for other in others:
        torch.testing.assert_close(other, one)
    for other in more:
        assert (other - new).abs().max() > 1e-3
    assert torch.equal(kept[::4], fresh[::4])  # the images


def test_pictures_and_their_nats_as_they_are_sent(
    drawnet: Callable[..., Answer], weights: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sent.svg"
    command = ("explore", "transmit", weights["WITH"], "--data-dir", pictures, "--split", "train")
    assert drawnet(*command, "--count", 2, "--steps", 3, "--out", file).code == 0
    # matplotlib tells each text as a comment before its outlines
    words = [line.strip(" <>!-") for line in file.read_text().splitlines() if "<!--" in line]
    assert [word for word in words if word.startswith("after")] == ["after 0", "after 2", "after 4"]
    costs = [float(word.removesuffix(" nats")) for word in words if word.endswith(" nats")]
    first, second = costs[:3], costs[3:]
    for row in (first, second):
        assert len(row) == 3
        assert row[0] == 0
        assert row == sorted(row)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate", "WITH", "--size", "8"], "--size must be at least 9"),
        (["generate", "WITHOUT", "--size", "90"], "writes without attention"),
        (["generate", "WITH", "--size", "90", "--scale", "2"], "not allowed with argument"),
        (["generate", "WITH", "--size", "4096"], "a picture of at most 32 megapixels, got 256"),
        (["generate", "WITH", "--size", "4096", "--format", "none"], "at most 32 megapixels"),
        (["generate", "WITH", "--size", "1024", "--glimpses", "100"], "megapixels in all its fra"),
        (["generate", "WITH", "--glimpses", "0"], "--glimpses: must be 1 to 10000, got 0"),
        (["generate", "CLASSES", "--label", "c"], "--label must be one of a, b, got 'c'"),
        (["generate", "CLASSES", "--label", "0,2"], "--label must be one of a, b, got '2'"),
        (["generate", "WITH", "--label", "0"], "draws without labels, got --label 0"),
        (["generate", "CLASSIFIER"], "GlimpseClassifier, which is for classify, evaluate and"),
        (["complete", "WITH", "--mask", "middle"], "--mask must be left, right, top, bottom, "),
        (["complete", "WITH", "--mask", "pixels"], "--mask pixels:SHARE needs a number, got pix"),
        (["complete", "WITH", "--mask", "pixels:2"], "share must be from 0 to 1, got 2.0"),
        (["complete", "WITH", "--mask", __file__], "expected a PNG, JPEG or WebP picture"),
        (["complete", "WITH", "--image", "no.png"], "no.png: expected a picture, got no such file"),
        (["complete", "WITH", "--image", "DATA"], "expected a picture, got no such file"),
        (["complete", "WITH", "--chains", "0"], "--chains: must be 1 to 64, got 0"),
        (["complete", "WITH", "--fill", "black"], "--fill: invalid choice: 'black'"),
        (["complete", "WITH", "--label", "a"], "draws without labels, got --label a"),
        (["complete", "CLASSES", "--image", "PICTURE"], "draws by class: name the --label of the"),
        (["complete", "WITH", "--count", "100", "--times", "64", "--scale", "20"], "megapixels"),
        (
            ["complete", "WITH", "--format=none", "--count=100", "--times=1", "--scale=64"],
            "a picture of at most 32 megapixels, got 95",
        ),
        (
            [
                "complete",
                "WITH",
                "--glimpses=60",
                "--count=100",
                "--times=64",
                "--chains=64",
                "--scale=1",
            ],
            "expected at most 133949 chains at once, count x times x chains, got 409600",
        ),
        (["complete", "CLASSIFIER"], "expected weights of a DRAW, got GlimpseClassifier"),
        (["classify", "WITH"], "expected weights of a GlimpseClassifier, got DRAW, which is for"),
        (["classify", "OWN"], "got Own, a custom network, which is for Python only"),
        (
            ["classify", "CLASSIFIER", "--image", "no.png"],
            "no.png: expected a picture, got no such",
        ),
        (["classify", "CLASSIFIER", "--invert"], "--invert is for the picture that --image names"),
        (
            ["complete", "WITH", "--image", "PICTURE", "--data", "digits"],
            "--image stands in place of a data set",
        ),
        (
            ["complete", "WITH", "--image", "PICTURE", "--data-dir", "DATA"],
            "--image stands in place of a data set, got --data-dir too",
        ),
        (
            ["classify", "CLASSIFIER", "--image", "PICTURE", "--count", "3"],
            "--image stands in place of a data set, got --count too",
        ),
        (["classify", "CLASSIFIER", "--image", "PICTURE", "--split", "valid"], "got --split too"),
        (["classify", "CLASSIFIER", "--data", "digits"], "digits has images of shape (1, 28, 28)"),
        (["classify", "CLASSIFIER", "--count", "100", "--scale", "64"], "a picture of at most"),
        (["figure"], "the following arguments are required: FIGURE"),
        (["figure", "2"], "invalid choice: '2'"),
        (["figure", "1"], "the following arguments are required: weights"),
        (["figure", "1", "WITHOUT"], "figure 1 needs weights that write with attention"),
        (["figure", "10", "WITHOUT"], "figure 10 needs weights that write with attention"),
        (["figure", "7", "WITH"], "figure 7 needs weights that write without attention"),
        (["figure", "5", "WITH"], "expected weights of a GlimpseClassifier, got DRAW"),
        (["figure", "8", "CLASSIFIER"], "expected weights of a DRAW, got GlimpseClassifier"),
        (["figure", "6", "WITH", "--count", "15"], "--count must fill rows of 10, got 15"),
        (["figure", "8", "WITH", "--out", "a.bmp"], "must end in .png, .pdf or .svg, got a.bmp"),
        (["figure", "8", "WITH", "--out", "/dev/null/a.png"], "cannot save /dev/null/a.png"),
        (
            ["figure", "8", "WITH", "--columns", "1", "--dpi", "1200"],
            "expected a figure of at most 128 megapixels",
        ),
        (["figure", "3", "--image", "nothing.png"], "nothing.png: expected a picture"),
        (["figure", "4", "--image", __file__], "expected a PNG, JPEG or WebP picture"),
        (["figure", "nats", "WITH", "--data", "digits"], "digits has images of shape (1, 28, 28)"),
        (["explore", "dance"], "invalid choice: 'dance'"),
        (
            ["explore", "redraw", "WITH", "--keep", "5", "--data-dir", "DATA", "--split", "train"],
            "keep must be from 0 to 4 glimpses, got 5",
        ),
        (["explore", "transmit", "WITH", "--steps", "1"], "--steps: must be 2 to 16, got 1"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_writes_nothing(
    argv: list[str],
    message: str,
    drawnet: Callable[..., Answer],
    weights: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {**weights, "DATA": pictures, "PICTURE": pictures / "a" / "0.png"}
    answer = drawnet(*(names.get(argument, argument) for argument in argv))
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith(f"drawnet {argv[0]}")
    assert answer.err.count("\n") == 1, "one line"
    assert answer.out == ""
    assert not list(tmp_path.iterdir())
