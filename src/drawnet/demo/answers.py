"""What the demo page computes: plain values in, pictures and words out.

Nothing here knows of the web. A value may be anything that a stranger sends, so each is checked
again against the bounds of its control, whatever the page allowed.
"""

import math
import reprlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from drawnet import attention, objective
from drawnet.attention import Window
from drawnet.classify import GlimpseClassifier
from drawnet.data.digits import write_digits
from drawnet.data.views import cluttered, fresh
from drawnet.demo import pictures
from drawnet.explore import likeliest_labels
from drawnet.model import DRAW
from drawnet.visualise import animate, animate_glimpses, paint, plot_nats, refine
from drawnet.visualise.plots import TEXT, draw_outline

SCREEN = 480
"""A picture in a film is about as many pixels high, or several together, where they are not larger
themselves."""
PHOTO = 240
"""The longer side of a photo that is looked at, in pixels."""
BUDGET = 2**26
"""At most so many numbers in the canvases of one film."""


class Control(NamedTuple):
    """A number that may be chosen on the page: a whole one where its step is."""

    name: str
    low: float
    high: float
    start: float
    step: float

    def check(self, value: object) -> float:
        """The value as a number within the bounds.

        Raises:
            ValueError: If it is not.
        """
        whole = isinstance(self.step, int)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if (
            number is None
            or not self.low <= number <= self.high  # nor is NaN
            or (whole and number != round(number))
        ):
            kind = "a whole number" if whole else "a number"
            raise ValueError(
                f"{self.name} must be {kind} from {self.low:g} to {self.high:g}, "
                f"got {reprlib.repr(value)}"
            )
        return round(number) if whole else float(number)


SEED = Control("seed", 0, 999_999, 0, 1)
COUNT = Control("count", 1, 25, 9, 1)
GLIMPSES = Control("glimpses", 1, 128, 64, 1)
CENTRE_X = Control("horizontal centre", -1.5, 1.5, 0.54, 0.01)
CENTRE_Y = Control("vertical centre", -1.5, 1.5, -0.3, 0.01)
STRIDE = Control("log stride", -4.0, 1.0, -0.85, 0.01)
WIDTH = Control("log variance", -4.0, 8.0, 2.8, 0.01)
INTENSITY = Control("log intensity", -3.0, 3.0, 0.0, 0.01)
SIZE = Control("N", 1, 32, 12, 1)
CLUTTER = Control("pieces of clutter", 0, 32, 8, 1)


@dataclass(frozen=True)
class Film:
    """Pictures of one size to be played, and a line of words for each."""

    frames: list[Image.Image]
    notes: list[str]


EACH = "each in turn"
"""Stands for all classes of a network."""


@torch.no_grad()
def draw(
    model: DRAW,
    seed: object,
    count: object,
    glimpses: object,
    windows: object,
    crisp: object,
    label: object = EACH,
) -> Film:
    """Samples, drawn glimpse by glimpse.

    Args:
        model: The network.
        seed: Of the latents; see `SEED`.
        count: How many samples; see `COUNT`.
        glimpses: Length of the chain; see `GLIMPSES`.
        windows: Whether to show where is written.
        crisp: Whether to draw the strokes on a canvas with the pixels of the screen.
        label: Of which class, one of `classes`, if the network knows classes.

    Raises:
        ValueError: If a value is out of its bounds.
    """
    number, length = int(COUNT.check(count)), int(GLIMPSES.check(glimpses))
    scale = fit(model, math.ceil(math.sqrt(number)))
    afford(model, number * length * (scale**2 if crisp else 1))
    generator = torch.Generator().manual_seed(int(SEED.check(seed)))
    y = choose_labels(model, label, number) if model.config.classes else None
    trace = model.generate(number, y=y, generator=generator, glimpses=length)
    if crisp:
        trace, scale = refine(trace, scale), 1
    frames = animate(trace, scale=scale, windows=bool(windows))
    return Film(frames, ["before the first glimpse", *_count(length)])


class Copy(NamedTuple):
    """A picture, as the network reads and writes it."""

    film: Film
    nats: Image.Image
    words: str


@torch.no_grad()
def copy(model: DRAW, url: object, digit: object, seed: object, glimpses: object) -> Copy:
    """A picture read and written by the network, and what that costs.

    A network of several classes is told the one by which the picture costs least.

    Args:
        model: The network.
        url: The picture, as a ``data:`` URL.
        digit: Whether it is ink on paper; see `pictures.to_shape`.
        seed: Of the latents; see `SEED`.
        glimpses: Length of the chain; see `GLIMPSES`.

    Raises:
        ValueError: If a value is out of its bounds, or the picture cannot be used.
    """
    length = int(GLIMPSES.check(glimpses))
    afford(model, length)
    generator, other = (torch.Generator().manual_seed(int(SEED.check(seed))) for _ in range(2))
    picture = pictures.from_url(url)
    x = pictures.to_shape(picture, model.config.image_shape, bool(digit)).to(model.canvas)
    y = None
    if model.config.classes:
        y = likeliest_labels(model, x, generator=other, glimpses=length)
    trace = model(x, y=y, generator=generator, glimpses=length)

    cost = objective.kl(trace)[:, 0].tolist()
    rest = -objective.log_likelihood(x, trace.canvas[-1], trace.likelihood).item()
    spent = np.cumsum(cost).tolist()
    notes = [
        f"{count}: {nats:.1f} nats, {so_far:.1f} so far"
        for count, nats, so_far in zip(_count(length), cost, spent, strict=True)
    ]
    frames = animate(trace, x, scale=fit(model, 2))
    words = (
        f"**{spent[-1] + rest:.1f} nats** in all: {spent[-1]:.1f} for the latents of "
        f"{length} glimpses, and {rest:.1f} for the picture given the last canvas."
    )
    if y is not None:
        words += f" It costs least as one of class {y.item()}."
    if not trace.likelihood.is_code_length(x):
        words += " The picture is not all black and white, so they are no code length."
    return Copy(
        Film(frames, ["before the first glimpse", *notes]), to_picture(plot_nats(trace, x)), words
    )


class Search(NamedTuple):
    """A digit hidden in clutter, and how it is looked for."""

    film: Film
    words: str


@torch.no_grad()
def search(model: GlimpseClassifier, url: object, clutter: object, seed: object) -> Search:
    """A digit hidden somewhere in a large picture, and where a classifier looks for it.

    The distractors are pieces of digits that the program writes.

    Args:
        model: The classifier, one that `searches`.
        url: The digit, as a ``data:`` URL.
        clutter: How many pieces; see `CLUTTER`.
        seed: Of all places; see `SEED`.

    Raises:
        ValueError: If a value is out of its bounds, or there is no digit.
    """
    pieces = int(CLUTTER.check(clutter))
    generator = torch.Generator().manual_seed(int(SEED.check(seed)))
    ink = torch.from_numpy(pictures.centre(pictures.ink(pictures.from_url(url)), 28, 28))
    own = (255 * ink).round().to(torch.uint8).view(1, 1, 28, 28)
    x, _ = cluttered(
        torch.cat([own, write_digits(torch.arange(500), salt=0)]),
        None,
        torch.tensor([0]),
        generator,
        size=model.config.image_shape[1],
        distractors=pieces,
        piece=8,
        chances=fresh,
    )
    seen = model(x.to(model.h))
    shares, likeliest = seen.logits[:, 0].softmax(-1).max(-1)
    beliefs = [
        f"{answer} ({100 * share:.1f} %)"
        for answer, share in zip(likeliest.tolist(), shares.tolist(), strict=True)
    ]
    length = len(beliefs)
    notes = [f"{count}: {belief}" for count, belief in zip(_count(length), beliefs, strict=True)]
    frames = animate_glimpses(x, seen, scale=max(SCREEN // model.config.image_shape[1], 1))
    numbers = seen.patches[0, 0].numel()
    words = (
        f"Its answer is **{beliefs[-1]}**. It has seen {numbers} numbers in each of {length} "
        f"glimpses; the picture has {x.numel():,}."
    )
    return Search(Film(frames, notes), words)


def searches(model: GlimpseClassifier) -> bool:
    """Whether a classifier is of digits in square grey pictures that have room for one."""
    channels, height, width = model.config.image_shape
    return channels == 1 and 28 <= height == width and model.config.classes == 10


class Look(NamedTuple):
    """What a window shows of a photo."""

    picture: Image.Image
    words: str


@torch.no_grad()
def look(
    url: object,
    centre_x: object,
    centre_y: object,
    variance: object,
    stride: object,
    intensity: object,
    size: object,
) -> Look:
    """A photo with the grid of filters on it, what they see, and what that gives when written back.

    The five numbers are those of equation (21), as a network emits them.

    Args:
        url: The photo, as a ``data:`` URL.
        centre_x: g~_X; see `CENTRE_X`.
        centre_y: g~_Y; see `CENTRE_Y`.
        variance: log sigma^2; see `WIDTH`.
        stride: log delta~; see `STRIDE`.
        intensity: log gamma; see `INTENSITY`.
        size: N; see `SIZE`.

    Raises:
        ValueError: If a value is out of its bounds, or the photo cannot be used.
    """
    controls = (CENTRE_X, CENTRE_Y, WIDTH, STRIDE, INTENSITY)
    values = (centre_x, centre_y, variance, stride, intensity)
    params = [control.check(value) for control, value in zip(controls, values, strict=True)]
    number = int(SIZE.check(size))
    photo = pictures.thumbnail(pictures.from_url(url), PHOTO)
    width, height = photo.size
    x = torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]
    window = attention.window(torch.tensor([params]), number, height, width)
    g_y, g_x, delta, sigma, gamma = (float(value) for value in window)
    words = (
        f"The {number} × {number} filters sit **{delta:.1f} pixels** apart around "
        f"({g_x:.1f}, {g_y:.1f}), each **{sigma:.1f} pixels** wide (σ), and what they see is "
        f"multiplied by {gamma:.2f}: **{number**2} numbers** a colour for the photo's "
        f"{width * height:,}."
    )
    return Look(to_picture(_lay_out(x, window, number)), words)


def classes(model: DRAW) -> list[str]:
    """What there is to choose from for a network that knows classes."""
    return [EACH, *map(str, range(model.config.classes))]


def choose_labels(model: DRAW, label: object, count: int) -> torch.Tensor:
    """So many labels of the class that was chosen, `EACH` for all classes in turn.

    Raises:
        ValueError: If there is no such class.
    """
    if label == EACH:
        return torch.arange(count) % model.config.classes
    if label not in classes(model):
        raise ValueError(
            f"class must be one of {', '.join(classes(model))}, got {reprlib.repr(label)}"
        )
    return torch.full((count,), int(str(label)))


def fit(model: DRAW, across: int) -> int:
    """The scale at which so many images side by side fill the screen."""
    return min(max(SCREEN // (across * max(model.config.image_shape[1:])), 1), 16)


def afford(model: DRAW, images: int) -> None:
    """Refuse what would take too much memory.

    Args:
        model: The network.
        images: How many canvases would be kept.
    """
    most = BUDGET // model.canvas.numel()
    if images > most:
        raise ValueError("that is too much to draw at once: choose fewer images or glimpses")


def to_picture(figure: Figure) -> Image.Image:
    """A figure as a picture."""
    figure.set_dpi(140)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels).convert("RGB")


def _count(length: int) -> list[str]:
    return [f"glimpse {t} of {length}" for t in range(1, length + 1)]


def _lay_out(x: torch.Tensor, window: Window, size: int) -> Figure:
    """The photo with its grid, the filters along two of its sides, the patch, and the way back."""
    height, width = x.shape[2:]
    patch = attention.read(x, window, size)
    # Written delta^2 times as strongly as it was read, the patch is about as bright as the photo.
    strong = window._replace(gamma=window.gamma / window.delta**2)
    back = attention.write(patch, strong, height, width)

    unit = 3.2 / max(height, width)  # inches a pixel of the photo
    wide, tall, square = unit * width, unit * height, min(unit * height, 2.4)
    margin, bank, head = 0.2, 0.6, 0.3
    figure = Figure(figsize=(2 * wide + square + bank + 4 * margin, tall + bank + head))

    def place(left: float, top: float, across: float, down: float) -> Axes:
        total_x, total_y = figure.get_size_inches()
        low = total_y - head - top - down
        axes = figure.add_axes((left / total_x, low / total_y, across / total_x, down / total_y))
        axes.set_axis_off()
        return axes

    photo = place(margin, 0, wide, tall)
    _show(photo, x, "the photo, and where the filters are")
    steps = (np.arange(size) - (size - 1) / 2) * float(window.delta)
    columns, rows = np.meshgrid(float(window.g_x) + steps, float(window.g_y) + steps)
    photo.plot(columns, rows, ".", color="white", markersize=4.5)
    photo.plot(columns, rows, ".", color=paint.WRITE_COLOUR, markersize=2.5)

    f_y, f_x = (f[0].mT.numpy() for f in attention.filterbanks(window, size, height, width))
    line: dict[str, Any] = {"color": paint.WRITE_COLOUR, "linewidth": 0.9}
    along, beside = place(margin, tall, wide, bank), place(margin + wide, 0, bank, tall)
    along.plot(np.arange(width), f_x, **line)
    along.set(xlim=(-0.5, width - 0.5), ylim=(_peak(f_x), 0))
    along.text(0.005, 0.05, "$F_X$", transform=along.transAxes, **TEXT)
    beside.plot(f_y, np.arange(height), **line)
    beside.set(ylim=(height - 0.5, -0.5), xlim=(0, _peak(f_y)))
    beside.set_title("$F_Y$", **TEXT)

    left = 2 * margin + wide + bank
    _show(place(left, 0, square, square), patch, f"what is read: {size} × {size}")
    back_axes = place(left + square + margin, 0, wide, tall)
    _show(back_axes, back, "written back through the same window")
    for axes in (photo, back_axes):
        draw_outline(axes, paint.outline(window, size), 0, paint.WRITE_COLOUR, clip=(height, width))
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return figure


def _peak(filters: NDArray[np.float32]) -> float:
    """How high to draw filters, ``(pixels, N)``: one whose centre is off the photo may be cut."""
    return float(np.median(filters.max(0))) * 1.3


def _show(axes: Axes, image: torch.Tensor, title: str) -> None:
    height, width = image.shape[2:]
    axes.imshow(
        paint.to_pictures(image, 1)[0],
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="none",
        aspect="auto",
    )
    axes.set_title(title, **TEXT)
