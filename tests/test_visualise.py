"""Images, windows and bars lie at the display pixels where they belong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from drawnet.attention import Window
from drawnet.classify import Glimpses
from drawnet.model import DRAW, DRAWConfig, Trace
from drawnet.objective import kl
from drawnet.visualise import animate, animate_glimpses, cover, grid, paint, save_animation

T, B, Z, READ, WRITE = 4, 5, 6, 2, 3
C, H, W = 1, 9, 13


def windows(*shape: int, **numbers: float) -> Window:
    placed = {"g_y": 3.0, "g_x": 7.0, "delta": 2.0, "sigma": 1.0, "gamma": 1.0} | numbers
    return Window(**{name: torch.full(shape, number) for name, number in placed.items()})


@pytest.fixture
def trace() -> Trace:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Trace(
        canvas=normal(T, B, C, H, W),
        z=normal(T, B, Z),
        mu=normal(T, B, Z),
        log_sigma=normal(T, B, Z),
        prior_mu=None,
        prior_log_sigma=None,
        read_window=windows(T, B, g_y=4.0, delta=4.0),
        write_window=windows(T, B),
        start=normal(C, H, W),
        patch=normal(T, B, C, WRITE, WRITE),
        read_size=READ,
    )


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, C, H, W, generator=torch.Generator().manual_seed(1))


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).double() / 255


# grid


@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_becomes_a_square_in_the_cell_of_its_image(channels: int) -> None:
    images = torch.rand(7, channels, 2, 3)
    scale, gap, columns = 4, 5, 3
    page = pixels(grid(images, columns=columns, scale=scale, gap=gap))
    assert page.shape == (3 * 2 * scale + 2 * gap, 3 * 3 * scale + 2 * gap, 3)
    for i, image in enumerate(images):
        top, left = i // columns * (2 * scale + gap), i % columns * (3 * scale + gap)
        cell = page[top : top + 2 * scale, left : left + 3 * scale].permute(2, 0, 1)
        square = torch.ones(scale, scale)
        expected = torch.kron(image.expand(3, -1, -1).contiguous(), square[None])
        assert (cell - expected).abs().max() <= 0.5 / 255 + 1e-12
        page[top : top + 2 * scale, left : left + 3 * scale] = 1
    assert (page == 1).all(), "between and after the images the page is white"


def test_the_page_is_about_square_by_default() -> None:
    assert grid(torch.zeros(16, 1, 7, 7), scale=1, gap=0).size == (28, 28)
    assert grid(torch.zeros(8, 1, 10, 20), scale=1, gap=0).size == (40, 40)
    assert grid(torch.zeros(1, 1, 10, 100), scale=1, gap=0).size == (100, 10)
    assert grid(torch.zeros(2, 1, 10, 10), scale=1, gap=0, columns=9).size == (20, 10)


def test_a_page_of_nothing() -> None:
    with pytest.raises(ValueError, match="expected at least one image, got none"):
        grid(torch.rand(0, 1, 4, 4))


def test_grid_clips_values_and_refuses_other_shapes() -> None:
    page = pixels(grid(torch.tensor([-3.0, 4.0]).view(1, 1, 1, 2), scale=1))
    assert page[0, :, 0].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"1 or 3.*got \(5, 2, 9, 13\)"):
        grid(torch.zeros(5, 2, 9, 13))
    with pytest.raises(ValueError, match="scale must be >= 1, got 0"):
        grid(torch.zeros(5, 1, 9, 13), scale=0)


# windows


def painted(window: Window, size: int, scale: int, height: int = H, width: int = W) -> Tensor:
    """The share of each display pixel of a black picture that a red outline covers."""
    pictures = np.zeros((len(window.g_y), height * scale, width * scale, 3))
    paint.paint_outline(pictures, paint.outline(window, size), (1.0, 0.0, 0.0), scale)
    assert not pictures[..., 1:].any()
    return torch.from_numpy(pictures[..., 0])


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_window_of_known_numbers_is_drawn_at_the_right_pixels(scale: int) -> None:
    # Filters at rows 1, 3, 5 and columns 5, 7, 9; sigma 1: the border is these very pixels wide.
    ring = torch.zeros(H, W)
    ring[1:6, 5:10] = 1
    ring[2:5, 6:9] = 0
    expected = torch.kron(ring, torch.ones(scale, scale)) > 0
    assert torch.equal(painted(windows(1), 3, scale)[0] > 0, expected)


@pytest.mark.parametrize("scale", [1, 3, 4])
def test_the_middle_of_the_border_runs_through_the_outermost_filters(scale: int) -> None:
    # N = 2 and delta = 4 put the filters 2 pixels from the centre.
    solid = painted(windows(1, g_y=3.5, g_x=6.5, delta=4.0), 2, scale)[0]
    rows, columns = solid.sum(1), solid.sum(0)
    middle = torch.arange(H * scale) + 0.5, torch.arange(W * scale) + 0.5
    centre_y = (rows * middle[0]).sum() / rows.sum() / scale - 0.5
    centre_x = (columns * middle[1]).sum() / columns.sum() / scale - 0.5
    assert centre_y == pytest.approx(3.5)
    assert centre_x == pytest.approx(6.5)
    # The strongest display row above the centre holds the filter centre at image row 1.5.
    top = rows[: int(4 * scale)].argmax() / scale - 0.5
    assert top - 1e-9 <= 1.5 <= top + 1 / scale + 1e-9


def test_the_border_is_as_wide_as_sigma() -> None:
    scale = 10
    for sigma in (0.5, 1.3, 2.7):
        drawn = painted(windows(1, g_y=4.0, g_x=6.0, delta=3.1, sigma=sigma), 3, scale, 15, 15)[0]
        through_the_centre = drawn[45, :65]  # from the left edge to the middle of the window
        shares = (through_the_centre / paint.BAND_OPACITY).clamp(max=1)
        assert shares.sum() / scale == pytest.approx(sigma, abs=0.06)


def test_edges_between_pixels_are_shared() -> None:
    # sigma 0.3 at scale 10: borders three display pixels wide, first on whole ones, then between.
    whole = painted(windows(1, sigma=0.3, g_x=7.05), 3, scale=10)[0, 35]
    moved = painted(windows(1, sigma=0.3, g_x=7.10), 3, scale=10)[0, 35]
    assert (whole > 1e-9).nonzero().flatten().tolist() == [54, 55, 56, 94, 95, 96]
    torch.testing.assert_close(moved, (whole + whole.roll(1)) / 2)


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    inside = painted(windows(1, g_y=8.0, g_x=12.0), 3, 4, height=20, width=20)[0]
    cut = painted(windows(1, g_y=8.0, g_x=12.0), 3, 4)[0]
    assert torch.equal(cut, inside[: H * 4, : W * 4])
    assert cut.any()
    assert not painted(windows(1, g_y=-40.0), 3, 4).any()
    assert not painted(windows(1, delta=100.0), 3, 4).any()


def test_a_single_filter_is_a_dot_as_wide_as_sigma() -> None:
    dot = painted(windows(1, sigma=3.0), 1, 1)[0] > 0
    assert dot.nonzero().tolist() == [[y, x] for y in (2, 3, 4) for x in (6, 7, 8)]


def test_the_thinnest_border_still_shows() -> None:
    for scale in (1, 4):
        across = painted(windows(1, sigma=1e-3), 3, scale)[0, 3 * scale]
        assert across.sum() == pytest.approx(2), "one display pixel on the left, one on the right"


def test_each_picture_has_its_own_window() -> None:
    both = Window(*(torch.cat(pair) for pair in zip(windows(1), windows(1, g_x=4.0), strict=True)))
    drawn = painted(both, 3, 2)
    assert torch.equal(drawn[0], painted(windows(1), 3, 2)[0])
    assert torch.equal(drawn[1], drawn[0].roll(-6, 1))


def seen_without(cones: str, colour: tuple[float, ...]) -> Tensor:
    """A colour as a person without one kind of cones sees it (Machado et al., 2009)."""
    machado = {
        "long": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "medium": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "short": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    light = torch.tensor(colour) ** 2.2
    return (torch.tensor(machado[cones]) @ light).clamp(0, 1) ** (1 / 2.2)


@pytest.mark.parametrize("cones", ["long", "medium", "short"])
def test_colour_blind_people_can_tell_the_colours_apart(cones: str) -> None:
    for colours in (
        (paint.READ_COLOUR, paint.WRITE_COLOUR, paint.KL_COLOUR),
        (paint.READ_COLOUR, paint.WRITE_COLOUR, paint.HIDDEN_COLOUR),
    ):
        one, two, three = (seen_without(cones, colour) for colour in colours)
        assert min((one - two).norm(), (one - three).norm(), (two - three).norm()) > 0.2


# animate


def test_frames_show_the_canvas_from_its_start_to_its_end(trace: Trace) -> None:
    frames = animate(trace, windows=False, columns=2, scale=3, gap=1)
    assert len(frames) == T + 1
    canvases = [trace.start.expand(B, C, H, W), *trace.canvas]
    for frame, canvas in zip(frames, canvases, strict=True):
        expected = grid(torch.sigmoid(canvas), columns=2, scale=3, gap=1)
        assert torch.equal(pixels(frame), pixels(expected))


def test_frames_of_intensities_show_their_means(x: Tensor) -> None:
    torch.manual_seed(0)
    model = DRAW(DRAWConfig((C, H, W), T, 7, 8, Z, READ, WRITE, likelihood="logistic"))
    trace = model(x)
    assert trace.start is not None
    frames = animate(trace, x, windows=False, kl=False, columns=B, scale=2, gap=4)
    canvases = [trace.start.expand(B, 2 * C, H, W), *trace.canvas]
    for frame, canvas in zip(frames, canvases, strict=True):
        means = (canvas[:, :C].clamp(-1, 1) + 1) / 2
        painted_below = pixels(frame)[2 * H + 1 :]
        assert torch.equal(painted_below, pixels(grid(means, columns=B, scale=2, gap=4)))
    with pytest.raises(ValueError, match=r"x must be \(5, 1, 9, 13\), got \(5, 2, 9, 13\)"):
        animate(trace, torch.cat([x, x], dim=1))


def test_a_trace_without_its_start_begins_after_the_first_glimpse(trace: Trace, x: Tensor) -> None:
    told, untold = animate(trace, x), animate(replace(trace, start=None), x)
    assert len(untold) == T
    for frame, same in zip(told[1:], untold, strict=True):
        assert torch.equal(pixels(frame), pixels(same))


def test_a_trace_of_the_last_canvas_only_cannot_be_animated(trace: Trace) -> None:
    with pytest.raises(ValueError, match="record='all'"):
        animate(replace(trace, canvas=trace.canvas[-1:]))


def marks(frame: Image.Image, plain: Image.Image) -> Tensor:
    return (pixels(frame) != pixels(plain)).any(-1)


def test_the_read_window_is_on_the_image_and_the_write_window_on_the_canvas(
    trace: Trace, x: Tensor
) -> None:
    scale, gap = 4, 8
    options = {"columns": 1, "scale": scale, "gap": gap}
    frames = animate(trace, x, **options)
    plain = animate(trace, x, windows=False, **options)
    assert not marks(frames[0], plain[0]).any(), "nothing is read or written before glimpse 1"
    cells = marks(frames[2], plain[2])
    pitch = (len(cells) + gap) // B
    read = painted(windows(1, g_y=4.0, delta=4.0), READ, scale)[0] > 0
    write = painted(windows(1), WRITE, scale)[0] > 0
    for i in range(B):
        marked = cells[i * pitch : (i + 1) * pitch - gap]
        image, canvas = marked[: H * scale], marked[H * scale + gap // 4 :][: H * scale]
        assert torch.equal(image, read)
        assert torch.equal(canvas, write)
        assert not marked[2 * H * scale + gap // 4 :].any(), "no window on the bars"


def test_windows_have_their_colours(trace: Trace) -> None:
    dark = replace(trace, canvas=torch.full((T, B, C, H, W), -40.0))
    frame = pixels(animate(dark, torch.zeros(B, C, H, W), columns=1, scale=4, kl=False)[1])
    read, write = frame[: 4 * H], frame[4 * H + 2 : 8 * H + 2]
    for picture, colour in ((read, paint.READ_COLOUR), (write, paint.WRITE_COLOUR)):
        marked = picture[picture.any(-1)]
        hue = marked / marked.sum(-1, keepdim=True)
        expected = torch.tensor(colour) / sum(colour)
        torch.testing.assert_close(hue.mean(0), expected, atol=0.01, rtol=0)


def test_without_attention_there_are_no_windows(trace: Trace, x: Tensor) -> None:
    blind = replace(trace, read_window=None, write_window=None, patch=None, read_size=None)
    for frame, plain in zip(animate(blind, x), animate(trace, x, windows=False), strict=True):
        assert torch.equal(pixels(frame), pixels(plain))


def test_bars_are_as_high_as_the_nats_of_their_glimpse(trace: Trace, x: Tensor) -> None:
    scale, gap = 12, 8
    height, width = 18, W * scale  # a sixth of the height of the image
    frame = pixels(animate(trace, x, columns=1, scale=scale, gap=gap)[3])
    strip = frame[2 * (H * scale + gap // 4) :][:height]
    nats = kl(trace)[:, 0] / kl(trace).max()
    paper = strip[0, -1]
    for t in range(T):
        column = strip[:, t * width // T + width // (2 * T)]
        colour = paint.WRITE_COLOUR if t == 2 else paint.KL_COLOUR
        share = (column - paper)[:, 1] / (torch.tensor(colour) - paper)[1]
        expected = nats[t].item() * height if t <= 2 else 0.0
        assert share.sum().item() == pytest.approx(expected, abs=0.1)
        assert torch.equal(share, share.sort().values), "bars stand on the ground"


def test_what_is_hidden_is_covered() -> None:
    images = torch.rand(B, 3, H, W)
    known = torch.rand(B, 3, H, W) < 0.5
    covered = cover(images, known)
    colour = torch.tensor(paint.HIDDEN_COLOUR)[:, None, None].expand_as(images)
    assert torch.equal(covered, torch.where(known, images, colour))
    half = cover(images, known, 0.5)
    torch.testing.assert_close(half, (images + covered) / 2)
    grey = cover(images[:, :1], known[0, :1])
    assert torch.equal(grey, cover(images[:, :1].expand(-1, 3, -1, -1), known[0, :1]))


def test_what_is_known_stays_and_the_rest_is_drawn_under_a_tint(trace: Trace, x: Tensor) -> None:
    known = torch.arange(W) < W // 2
    options = {"columns": 2, "scale": 3, "gap": 4}
    plain = animate(trace, x, known=known, windows=False, **options)
    canvases = [trace.start.expand(B, C, H, W), *trace.canvas]
    for frame, canvas in zip(plain, canvases, strict=True):
        pasted = torch.where(known, x, torch.sigmoid(canvas))
        expected = grid(cover(pasted, known, paint.TINT), **options)
        assert torch.equal(pixels(frame), pixels(expected))

    # Both windows are on the one picture.
    cell = marks(animate(trace, x, known=known, **options)[2], plain[2])[: 3 * H, : 3 * W]
    read = painted(windows(1, g_y=4.0, delta=4.0), READ, 3)[0] > 0
    write = painted(windows(1), WRITE, 3)[0] > 0
    assert torch.equal(cell, read | write)
    with pytest.raises(ValueError, match="known must come with x, got no x"):
        animate(trace, known=known)


def test_x_must_fit_the_trace(trace: Trace, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"x must be \(5, 1, 9, 13\), got \(4, 1, 9, 13\)"):
        animate(trace, x[:-1])


# save_animation


@pytest.mark.parametrize("suffix", [".gif", ".png", ".apng", ".webp", ".GIF"])
def test_a_saved_animation_plays_as_asked(
    tmp_path: Path, trace: Trace, x: Tensor, suffix: str
) -> None:
    frames = animate(trace, x, columns=2)
    path = tmp_path / f"drawing{suffix}"
    save_animation(frames, path, fps=8, hold=2.0)
    with Image.open(path) as saved:
        assert saved.n_frames == T + 1
        assert saved.info["loop"] == 0
        for t, frame in enumerate(frames):
            saved.seek(t)
            difference = (pixels(saved.convert("RGB")) - pixels(frame)).abs()
            assert difference.max() <= (0.2 if suffix.lower() == ".gif" else 0)
            assert difference.mean() <= 0.015
            if suffix != ".webp":  # Pillow tells the time of a WebP frame only when it is loaded
                assert saved.info["duration"] == (2000 if t == T else pytest.approx(125, abs=5))


def test_a_gif_keeps_the_common_colours_exactly(tmp_path: Path, trace: Trace) -> None:
    frames = animate(trace, scale=8)
    save_animation(frames, tmp_path / "drawing.gif")
    with Image.open(tmp_path / "drawing.gif") as saved:
        for t, frame in enumerate(frames):
            saved.seek(t)
            page = pixels(frame)
            white = (page == 1).all(-1)
            assert white.any()
            assert (pixels(saved.convert("RGB"))[white] == 1).all()


def test_the_last_frame_stays_no_shorter_than_the_others(tmp_path: Path, trace: Trace) -> None:
    path = tmp_path / "drawing.png"
    save_animation(animate(trace), path, fps=8, hold=0)
    with Image.open(path) as saved:
        saved.seek(T)
        assert saved.info["duration"] == 125


@pytest.mark.parametrize(("suffix", "repeats"), [(".gif", 2), (".png", 3), (".webp", 3)])
def test_a_saved_animation_can_stop(
    tmp_path: Path, trace: Trace, suffix: str, repeats: int
) -> None:
    path = tmp_path / f"drawing{suffix}"
    save_animation(animate(trace), path, loop=3)
    with Image.open(path) as saved:
        assert saved.info["loop"] == repeats, "a GIF counts the times after the first"
    if suffix == ".gif":
        save_animation(animate(trace), path, loop=1)
        with Image.open(path) as saved:
            assert "loop" not in saved.info


def test_save_animation_refuses_what_it_cannot_save(tmp_path: Path, trace: Trace) -> None:
    frames = animate(trace)
    with pytest.raises(ValueError, match=r"\.gif, \.apng, \.png or \.webp, got 'drawing\.mp4'"):
        save_animation(frames, tmp_path / "drawing.mp4")
    with pytest.raises(ValueError, match="at least one picture"):
        save_animation([], tmp_path / "drawing.gif")
    with pytest.raises(ValueError, match="fps must be > 0"):
        save_animation(frames, tmp_path / "drawing.gif", fps=0)
    for form, most in (("gif", 65_535), ("webp", 16_383)):
        long = Image.new("RGB", (2, most + 1))
        with pytest.raises(ValueError, match=f"must be at most {most} pixels, got 2 x {most + 1}"):
            save_animation([long], tmp_path / f"drawing.{form}")
    assert not list(tmp_path.iterdir())


# animate_glimpses


def looks(channels: int = C) -> tuple[Tensor, Glimpses]:
    """Images, and two glimpses of them with answers (1, 4, 2) / 7 and (3, 1, 1) / 5."""
    generator = torch.Generator().manual_seed(4)
    answers = torch.tensor([[1.0, 4.0, 2.0], [3.0, 1.0, 1.0]]).log()
    return torch.rand(B, channels, H, W, generator=generator), Glimpses(
        logits=answers[:, None].expand(2, B, 3),
        window=windows(2, B, g_y=4.0, delta=4.0),
        patches=torch.rand(2, B, channels, READ, READ, generator=generator) / 7,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_look_shows_the_window_what_is_seen_and_the_answers(channels: int) -> None:
    scale, gap = 8, 12
    high, wide, between = H * scale, W * scale, gap // 4
    x, seen = looks(channels)
    frames = animate_glimpses(x, seen, columns=1, scale=scale, gap=gap)
    shares = ([1 / 7, 4 / 7, 2 / 7], [3 / 5, 1 / 5, 1 / 5])
    for frame, patches, share in zip(frames, seen.patches, shares, strict=True):
        page = pixels(frame)
        pitch = (len(page) + gap) // B
        for i in range(B):
            cell = page[i * pitch : (i + 1) * pitch - gap]
            plain = pixels(grid(x[i : i + 1], scale=scale))
            marked = (cell[:high, :wide] != plain).any(-1)
            assert torch.equal(marked, painted(windows(1, g_y=4.0, delta=4.0), READ, scale)[0] > 0)
            brightest = grid(patches[i : i + 1] / patches[i].max(), scale=high // READ)
            assert torch.equal(cell[:high, wide + between :], pixels(brightest))
            answers = cell[high + between :][: high // 4]
            for k in range(3):
                column = answers[:, answers.shape[1] * (2 * k + 1) // 6]
                likeliest = share[k] == max(share)
                colour = torch.tensor(paint.WRITE_COLOUR if likeliest else paint.KL_COLOUR)
                filled = ((column - 0.93) / (colour - 0.93)).mean(0)
                torch.testing.assert_close(filled, torch.full((3,), share[k]), atol=0.02, rtol=0)


def test_names_stand_below_the_bars_or_their_numbers_where_they_are_too_long() -> None:
    def ink(names: tuple[str, ...]) -> list[bool]:
        """Whether there is any below each of three bars."""
        return [
            bool((third < 0.5).any()) for third in np.split(paint.words(names, 20, 90)[0], 3, 1)
        ]

    assert ink(("a", "", "b\n")) == [True, False, True]
    long, number = ("", "a name that is long", ""), ("", "1", "")
    assert np.array_equal(paint.words(long, 20, 90), paint.words(number, 20, 90))
    assert ink(("a", "b", "c") * 30) == [False] * 3, "where nothing fits, nothing is written"


def test_what_cannot_be_followed_is_refused() -> None:
    x, seen = looks()
    with pytest.raises(ValueError, match="x must be the 5 images that were seen, got 4"):
        animate_glimpses(x[:-1], seen)
    with pytest.raises(ValueError, match="names must be 3, got 2"):
        animate_glimpses(x, seen, names=("a", "b"))
