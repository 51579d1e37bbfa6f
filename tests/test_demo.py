"""What the demo page computes, without the page."""

import base64
import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw
from tiny import CONFIG, seeded, tiny_model

from drawnet import DRAW, DRAWConfig, attention, data, demo, objective
from drawnet.classify import GlimpseClassifier
from drawnet.config import ClassifierConfig
from drawnet.data.lighthouse import lighthouse
from drawnet.demo import answers, by_hand, controls, pictures
from drawnet.demo.controls import Control
from drawnet.explore import likeliest_labels
from drawnet.visualise import animate, refine, render

H, W, T, N = 26, 22, 5, 4
LOOK = [c.start for c in (controls.CENTRE_X, controls.CENTRE_Y, controls.WIDTH)] + [-0.9, 0.0, 7]
PHOTO = pictures.to_url(pictures.thumbnail(lighthouse(), 60))


def digits_model(**changes: Any) -> DRAW:
    return tiny_model(image_shape=(1, H, W), glimpses=T, **changes)


def drawn(*strokes: list[tuple[int, int]], width: int = 20) -> Image.Image:
    picture = Image.new("RGB", (280, 280))
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, "white", width)
    return picture


ONE = drawn([(140, 60), (150, 210)])


def url(picture: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    picture.save(file, kind)
    return wrap(file.getvalue(), kind.lower())


def wrap(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


# Pictures


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_comes_through_its_url(kind: str) -> None:
    picture = pictures.from_url(url(lighthouse(), kind))
    assert (picture.mode, picture.size) == ("RGB", (240, 180))
    difference = ImageChops.difference(picture, lighthouse())
    assert np.asarray(difference).mean() < (0.01 if kind == "PNG" else 6)


def test_a_url_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    back = pictures.from_url(pictures.to_url(Image.fromarray(pixels)))
    np.testing.assert_array_equal(np.asarray(back), pixels)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (None, "no picture yet"),
        ("", "no picture yet"),
        (7, "must be a data: URL, got 7"),
        ("/etc/passwd", "must be one of png, jpeg, webp"),
        ("http://127.0.0.1/a.png", "must be one of"),
        ("data:image/svg+xml;base64,AAAA", "must be one of"),
        ("data:image/png;base64,A*AA", "damaged"),
        (wrap(b"GIF89a" + bytes(20)), "expected a PNG, JPEG or WebP"),
        (url(ONE)[:-60], "damaged|expected a PNG"),
        (wrap(bytes(pictures.MAX_BYTES + 3)), "at most 5 MB"),
        (url(Image.new("1", (2500, 1601))), "at most 4 megapixels, got 2500 x 1601"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_line(sent: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        pictures.from_url(sent)
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("CMYK", (40, 30), (0, 200, 100, 10)),
        Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50),
        Image.new("RGBA", (40, 30), (255, 0, 0, 40)),
        ImageChops.invert(Image.new("L", (1, 10_000))),
        Image.new("P", (10_000, 1)),
    ],
    ids=["cmyk", "16 bit", "transparent", "1x10000", "10000x1"],
)
def test_odd_pictures_are_converted(picture: Image.Image) -> None:
    sent = url(picture, "JPEG" if picture.mode == "CMYK" else "PNG")
    x = pictures.to_shape(pictures.from_url(sent), (3, H, W), digit=False)
    assert x.shape == (1, 3, H, W)
    assert 0 <= x.min() <= x.max() <= 1
    assert "numbers" in by_hand.look(sent, *LOOK).words


# Centring


def test_digits_of_mnist_stay_where_they_are(data_dir: Path) -> None:
    x, _ = data.load("mnist", "test", data_dir=data_dir).batch(torch.arange(50), None)
    for digit in x[:, 0].numpy():
        large = Image.fromarray((digit * 255).astype(np.uint8)).resize((280, 280))
        centred = pictures.centre(pictures.ink(large.convert("RGB")), 28, 28)
        assert centre_of_mass(centred) == pytest.approx(centre_of_mass(digit), abs=1.1)
        assert np.abs(centred - digit).mean() < 0.1  # it is 0.15 to 0.25 between two digits


def centre_of_mass(image: np.ndarray) -> tuple[float, float]:
    return tuple(
        image.sum(1 - axis) @ np.arange(image.shape[axis]) / image.sum() for axis in (0, 1)
    )


def test_place_size_and_colour_of_the_ink_do_not_matter() -> None:
    strokes = [(40, 60), (120, 60), (80, 160)]
    small = drawn([(x // 2 + 130, y // 2 + 9) for x, y in strokes], width=10)
    here, there = drawn(strokes), ImageChops.invert(small)
    one, other = (pictures.to_shape(picture, (1, H, W), digit=True) for picture in (here, there))
    assert one.unique().tolist() == [0, 1]
    assert (one != other).double().mean() < 0.03
    rows, columns = np.nonzero(one[0, 0].numpy())
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(W * 20 / 28, abs=1)
    assert centre_of_mass(one[0, 0].numpy()) == pytest.approx((H / 2, W / 2), abs=0.6)


def test_a_hairline_is_ink() -> None:
    hair = drawn([(20, 30), (250, 270)], width=1)
    assert pictures.to_shape(hair, (1, H, W), digit=True).sum() > 10


def test_empty_paper_is_refused() -> None:
    for paper in (0, 128, 255):
        with pytest.raises(ValueError, match="empty"):
            pictures.to_shape(Image.new("RGB", (50, 40), (paper,) * 3), (1, H, W), digit=True)


def test_a_picture_taken_as_it_is_keeps_its_middle() -> None:
    picture = Image.new("RGB", (3 * W, H))
    picture.paste((10, 200, 30), (W, 0, 2 * W, H))
    x = pictures.to_shape(picture, (3, H, W), digit=False)
    torch.testing.assert_close(x[0, :, 5, 7], torch.tensor([10, 200, 30], dtype=x.dtype) / 255)
    assert x.std((2, 3)).max() < 1e-6


# Watch it draw


def test_a_film_has_a_frame_for_every_glimpse() -> None:
    film = answers.draw(digits_model(), 3, 5, 4, True, False)
    assert len(film.frames) == len(film.notes) == 4 + 1
    assert film.notes[-1] == "glimpse 4 of 4"
    assert len({frame.size for frame in film.frames}) == 1
    assert max(film.frames[0].size) <= answers.SCREEN + 3 * 8


def test_the_seed_decides_the_film() -> None:
    model = digits_model()
    one, same, other = (answers.draw(model, seed, 2, 3, True, False) for seed in (1, 1, 2))
    assert one.frames[-1] == same.frames[-1]
    assert one.frames[-1] != other.frames[-1]


def test_windows_can_be_hidden() -> None:
    model = digits_model()
    shown, hidden = (answers.draw(model, 0, 9, 4, windows, False) for windows in (True, False))
    assert shown.frames[-1] != hidden.frames[-1]
    assert np.asarray(hidden.frames[-1]).std(2).max() == 0  # nothing but grey


@torch.no_grad()
def test_crisp_strokes_are_those_of_the_rendering() -> None:
    trace = tiny_model().generate(2, generator=seeded(5))
    fine = refine(trace, 3)
    torch.testing.assert_close(fine.canvas[-1], render(trace, 3))
    same = refine(trace, 1)
    torch.testing.assert_close(same.canvas, trace.canvas)
    film = answers.draw(tiny_model(), 5, 2, 4, False, True)
    plain = answers.draw(tiny_model(), 5, 2, 4, False, False)
    assert film.frames[-1].size == plain.frames[-1].size
    assert film.frames[-1] != plain.frames[-1]


def test_without_attention_there_are_no_crisp_strokes() -> None:
    with pytest.raises(ValueError, match="write attention"):
        answers.draw(digits_model(write_size=None), 0, 1, 2, True, True)


@pytest.mark.parametrize("value", [0, 26, -1, 1.5, math.nan, math.inf, "9", None, True, [], 10**30])
def test_values_out_of_bounds_are_refused_in_a_line(value: object) -> None:
    with pytest.raises(ValueError, match="count must be a whole number from 1 to 25, got") as error:
        answers.draw(digits_model(), 0, value, 3, True, False)
    assert len(str(error.value)) < 120
    assert controls.COUNT.check(9.0) == 9


def test_every_control_starts_within_its_bounds() -> None:
    all_of_them = [value for value in vars(controls).values() if isinstance(value, Control)]
    assert len(all_of_them) == 10
    for control in all_of_them:
        assert control.check(control.start) == control.start
        for beyond in (control.low - control.step, control.high + control.step, "1"):
            with pytest.raises(ValueError, match=control.name):
                control.check(beyond)


def test_what_would_fill_the_memory_is_refused() -> None:
    large = DRAWConfig((3, 900, 800), 2, 7, 8, 5)
    with torch.device("meta"):
        model = DRAW(large)
    with pytest.raises(ValueError, match="too much"):
        answers.draw(model, 0, 25, 128, True, False)


# Draw a digit


@pytest.mark.parametrize("digit", [True, False])
def test_the_nats_are_those_of_the_objective(digit: bool) -> None:
    model = digits_model()
    copy = answers.copy(model, url(ONE), digit, 3, 6)
    x = pictures.to_shape(ONE, (1, H, W), digit).double()
    with torch.no_grad():
        trace = model(x, generator=seeded(3), glimpses=6)
    assert copy.words.startswith(f"**{-objective.elbo(x, trace).item():.1f} nats** in all")
    cost = objective.kl(trace)[:, 0]
    assert len(copy.film.frames) == len(copy.film.notes) == 7
    assert copy.film.notes[6] == f"glimpse 6 of 6: {cost[5]:.1f} nats, {cost.sum():.1f} so far"
    assert copy.nats.width > 600


def test_grey_pictures_have_no_code_length_but_by_intensities() -> None:
    black_and_white = answers.copy(digits_model(), url(ONE), True, 3, 2)
    assert "not a code length" not in black_and_white.words
    colours = answers.copy(tiny_model(), PHOTO, False, 3, 2)
    assert colours.words.endswith("not all black and white, so these nats are not a code length.")
    levels = answers.copy(tiny_model(likelihood="logistic"), PHOTO, False, 3, 2)
    assert "not a code length" not in levels.words
    crisp = answers.draw(digits_model(likelihood="logistic"), 0, 2, 2, True, True)
    assert len(crisp.frames) == 3


def test_a_network_of_several_classes_shows_each_and_finds_out_what_it_copies() -> None:
    model = digits_model(classes=3)
    film = answers.draw(model, 5, 4, 2, False, False)
    drawn = model.generate(4, y=torch.tensor([0, 1, 2, 0]), generator=seeded(5), glimpses=2)
    frames = animate(drawn, scale=answers.fit(model, 2), windows=False)
    assert film.frames[-1] == frames[-1]

    copy = answers.copy(model, url(ONE), True, 3, 2)
    x = pictures.to_shape(ONE, (1, H, W), True).double()
    label = likeliest_labels(model, x, generator=seeded(3))
    assert copy.words.endswith(f"It costs least as class {label.item()}.")
    nats = -objective.elbo(x, model(x, y=label, generator=seeded(3), glimpses=2)).item()
    assert copy.words.startswith(f"**{nats:.1f} nats** in all")
    named = answers.copy(model, url(ONE), True, 3, 2, classes=["red", "blue", "green"])
    assert named.words.endswith(f"as class {['red', 'blue', 'green'][label.item()]}.")


def test_a_class_is_drawn_alone() -> None:
    model = digits_model(classes=3)
    film = answers.draw(model, 5, 4, 2, False, False, "2")
    drawn = model.generate(4, y=torch.full((4,), 2), generator=seeded(5), glimpses=2)
    frames = animate(drawn, scale=answers.fit(model, 2), windows=False)
    assert film.frames[-1] == frames[-1]
    for other in ("3", "-1", 2, None, [], "x" * 10**6):
        with pytest.raises(ValueError, match="class must be one of each in turn, 0, 1, 2, got"):
            answers.draw(model, 5, 4, 2, False, False, other)


def test_a_network_of_colours_copies_a_photo() -> None:
    copy = answers.copy(tiny_model(), PHOTO, False, 0, 2)
    assert np.asarray(copy.film.frames[0]).std(2).max() > 20


def test_there_must_be_something_to_copy() -> None:
    with pytest.raises(ValueError, match="no picture yet"):
        answers.copy(digits_model(), "", True, 0, 3)


# Find it in clutter


def finder(side: int = 40) -> GlimpseClassifier:
    config = ClassifierConfig((1, side, side), glimpses=3, hidden_size=6, read_size=4)
    torch.manual_seed(1)
    return GlimpseClassifier(config)


def test_the_shipped_classifier_finds_digits() -> None:
    model = GlimpseClassifier.from_pretrained("cluttered-8")
    found = 0
    for index in range(10):
        url = pictures.to_url(pictures.digit(index))
        search = answers.search(model, url, 8, index)
        found += search.words.startswith(f"Its answer is **{index} (")
        assert len(search.film.frames) == len(search.film.notes) == 8
        assert search.words.endswith("144 numbers in each of 8 glimpses; the picture has 10,000.")
        note = search.film.notes[-1]
        assert note.startswith("glimpse 8 of 8: ")
        assert f"**{note.removeprefix('glimpse 8 of 8: ')}**" in search.words
    assert found >= 9


def test_the_seed_decides_the_place_and_the_clutter_is_counted() -> None:
    model, sent = finder(), pictures.to_url(ONE)
    one, same, other = (answers.search(model, sent, 3, seed).film for seed in (1, 1, 2))
    assert one.frames == same.frames
    assert one.frames != other.frames
    light = [np.asarray(answers.search(model, sent, k, 4).film.frames[0])[:, :480] for k in (0, 9)]
    assert light[0].mean() < light[1].mean()
    with pytest.raises(ValueError, match="pieces of clutter must be a whole number from 0 to 32"):
        answers.search(model, sent, 33, 0)
    with pytest.raises(ValueError, match="the picture is empty"):
        answers.search(model, pictures.to_url(Image.new("RGB", (50, 50))), 3, 0)


def test_which_classifiers_search(tmp_path: Path) -> None:
    finder().save_pretrained(tmp_path / "run")
    models, classifiers, _ = demo.load([tmp_path / "run"])
    assert list(classifiers) == ["run", "cluttered-8", "cluttered-4"]
    assert "mnist" in models
    finder(side=20).save_pretrained(tmp_path / "small")
    with pytest.raises(
        ValueError, match=r"of at least 28 x 28 can be shown, not of 10 classes in \(1, 20, 20\)"
    ):
        demo.load([tmp_path / "small"])


# The attention by hand


def test_the_words_tell_the_window() -> None:
    values = [0.31, -0.12, 1.7, -0.6, 0.4, 5]
    words = by_hand.look(PHOTO, *values).words
    window = attention.window(torch.tensor([values[:5]]), 5, 45, 60)
    g_y, g_x, delta, sigma, gamma = (number.item() for number in window)
    assert f"**{delta:.1f} pixels** apart around ({g_x:.1f}, {g_y:.1f})" in words
    assert f"**{sigma:.1f} pixels** wide" in words
    assert f"multiplied by {gamma:.2f}: **25 numbers** per colour for the photo's 2,700" in words


@pytest.mark.parametrize("moved", range(6))
def test_every_slider_changes_the_picture(moved: int) -> None:
    before = by_hand.look(PHOTO, *LOOK).picture
    values = list(LOOK)
    values[moved] += 1 if moved == 5 else 0.4
    assert by_hand.look(PHOTO, *values).picture != before


@pytest.mark.parametrize("end", ["low", "high"])
def test_the_ends_of_the_sliders_can_be_drawn(end: str) -> None:
    moved = (
        controls.CENTRE_X, controls.CENTRE_Y, controls.WIDTH, controls.STRIDE, controls.INTENSITY,
        controls.SIZE,
    )  # fmt: skip
    looked = by_hand.look(PHOTO, *(getattr(control, end) for control in moved))
    assert looked.picture.width > 800


def test_bad_numbers_and_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="log stride must be a number from -4 to 1, got nan"):
        by_hand.look(PHOTO, 0, 0, 0, math.nan, 0, 5)
    with pytest.raises(ValueError, match="no picture yet"):
        by_hand.look(None, *LOOK)


# What there is to show


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("drawnet.weights.SHIPPED", tmp_path / "none")


@pytest.mark.usefixtures("nothing_shipped")
def test_without_weights_there_is_one_clear_message() -> None:
    with pytest.raises(ValueError, match="no weights to show: train some"):
        demo.launch()
    with pytest.raises(ValueError, match="port must be from 0 to 65535, got 65536"):
        demo.launch(port=65_536)


def test_weights_are_named_after_their_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("drawnet.weights.SHIPPED", tmp_path / "shipped")
    for folder in ("a/run/weights", "b/run/weights", "shipped/mnist"):
        tiny_model().save_pretrained(tmp_path / folder)
    (tmp_path / "shipped/reader").mkdir()
    description = (tmp_path / "shipped/mnist/config.json").read_text()
    other = description.replace('"DRAW"', '"Classifier"')
    (tmp_path / "shipped/reader/config.json").write_text(other)

    models, classifiers, _ = demo.load([tmp_path / "a/run", tmp_path / "b/run/weights"])
    assert classifiers == {}
    assert list(models) == ["run", str(tmp_path / "b/run/weights"), "mnist"]
    assert all(model.config == CONFIG for model in models.values())


def test_weights_of_ones_own_stand_before_shipped_ones_of_the_same_name(tmp_path: Path) -> None:
    drawer, reader = tmp_path / "mnist", tmp_path / "cluttered-8"
    tiny_model().save_pretrained(drawer)
    finder().save_pretrained(reader)
    models, classifiers, _ = demo.load([drawer, reader])
    assert list(models)[:2] == [str(drawer), "mnist"]
    assert models[str(drawer)].config == CONFIG
    assert list(classifiers) == [str(reader), "cluttered-8", "cluttered-4"]
    assert classifiers[str(reader)].config == finder().config
    assert next(iter(demo.load(["mnist"])[0])) == "mnist"


@pytest.mark.usefixtures("nothing_shipped")
def test_no_weights_take_the_place_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("old/run", "run", "new/run"):
        tiny_model().save_pretrained(folder)
    models = demo.load(["old/run", "run", "new/run"]).models
    assert list(models) == ["run", str(tmp_path / "run"), "new/run"]


def test_shipped_weights_have_their_name_beside_a_folder_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    assert list(demo.load(["mnist"]).models) == list(demo.load([]).models)


@pytest.mark.usefixtures("nothing_shipped")
def test_classes_have_the_names_of_the_training(tmp_path: Path) -> None:
    tiny_model(classes=2).save_pretrained(tmp_path / "named", classes=["red", "blue"])
    tiny_model(classes=2).save_pretrained(tmp_path / "bare")
    tiny_model().save_pretrained(tmp_path / "none")
    classes = demo.load([tmp_path / name for name in ("named", "bare", "none")]).classes
    assert classes == {"named": ["red", "blue"], "bare": ["0", "1"], "none": []}


@pytest.mark.usefixtures("nothing_shipped")
def test_images_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    tiny_model(image_shape=(2, 9, 8)).save_pretrained(tmp_path / "two")
    with pytest.raises(ValueError, match="only images of 1 or 3 channels can be shown, not of 2"):
        demo.load([tmp_path / "two"])


@pytest.mark.usefixtures("nothing_shipped")
def test_without_the_extra_the_message_tells_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny_model().save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "gradio", None)
    for module in ("page", "server"):
        monkeypatch.delitem(sys.modules, f"drawnet.demo.{module}", raising=False)
    with pytest.raises(ValueError, match="pip install gradio"):
        demo.launch([tmp_path])
