"""What the demo page computes: plain values in, pictures and words out.

Nothing here knows about the web. A value may be anything that a stranger sends, so each is checked
again against the bounds of its control, whatever the page allows.
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from drawnet import objective
from drawnet.classify import GlimpseClassifier
from drawnet.data.digits import write_digits
from drawnet.data.views import cluttered, fresh
from drawnet.demo import pictures
from drawnet.demo.controls import CLUTTER, COUNT, GLIMPSES, SEED
from drawnet.explore import likeliest_labels
from drawnet.model import DRAW
from drawnet.visualise import animate, animate_glimpses, plot_nats, refine

SCREEN = 480
"""About how many pixels wide and high a picture in a film is, or several together, unless they are
larger anyway."""
BUDGET = 2**26
"""The most numbers in the canvases of one film."""


@dataclass(frozen=True)
class Film:
    """Pictures of the same size to play, and a line of words for each."""

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
        seed: The seed of the latents; see `SEED`.
        count: How many samples; see `COUNT`.
        glimpses: Length of the chain; see `GLIMPSES`.
        windows: Whether to show where the network writes.
        crisp: Whether to draw the strokes on a canvas with the pixels of the screen.
        label: The class to draw, one of `classes`, if the network draws by class.

    Raises:
        ValueError: If a value is out of bounds.
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
    """How the network reads and writes a picture."""

    film: Film
    nats: Image.Image
    words: str


@torch.no_grad()
def copy(
    model: DRAW,
    url: object,
    digit: object,
    seed: object,
    glimpses: object,
    *,
    classes: Sequence[str] = (),
) -> Copy:
    """Let the network read and write a picture, and report what that costs.

    A network that draws by class is given the class for which the picture costs least.

    Args:
        model: The network.
        url: The picture, as a ``data:`` URL.
        digit: Whether it is ink on paper; see `pictures.to_shape`.
        seed: The seed of the latents; see `SEED`.
        glimpses: Length of the chain; see `GLIMPSES`.
        classes: The names of the classes, to show instead of their numbers.

    Raises:
        ValueError: If a value is out of bounds, or the picture cannot be used.
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
        number = int(y.item())
        words += f" It costs least as class {classes[number] if classes else number}."
    if not trace.likelihood.is_code_length(x):
        words += " The picture is not all black and white, so these nats are not a code length."
    return Copy(
        Film(frames, ["before the first glimpse", *notes]),
        pictures.from_figure(plot_nats(trace, x)),
        words,
    )


class Search(NamedTuple):
    """How a classifier looks for a digit in clutter."""

    film: Film
    words: str


@torch.no_grad()
def search(model: GlimpseClassifier, url: object, clutter: object, seed: object) -> Search:
    """Hide a digit somewhere in a large picture, and show where a classifier looks for it.

    The distractors are pieces of digits that drawnet draws itself.

    Args:
        model: The classifier, for which `searches` is true.
        url: The digit, as a ``data:`` URL.
        clutter: How many pieces; see `CLUTTER`.
        seed: The seed of all places; see `SEED`.

    Raises:
        ValueError: If a value is out of bounds, or there is no digit.
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
    """Whether a classifier is for digits in square grey pictures with room for a digit."""
    channels, height, width = model.config.image_shape
    return channels == 1 and 28 <= height == width and model.config.classes == 10


def classes(model: DRAW) -> list[str]:
    """The choices of class for a network that draws by class."""
    return [EACH, *map(str, range(model.config.classes))]


def choose_labels(model: DRAW, label: object, count: int) -> torch.Tensor:
    """The labels for `count` drawings of the chosen class; with `EACH`, all classes in turn.

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
    """The scale at which `across` images side by side fill the screen."""
    return min(max(SCREEN // (across * max(model.config.image_shape[1:])), 1), 16)


def afford(model: DRAW, images: int) -> None:
    """Raise a `ValueError` if a film would take too much memory.

    Args:
        model: The network.
        images: How many canvases would be kept.
    """
    most = BUDGET // model.canvas.numel()
    if images > most:
        raise ValueError("that is too much to draw at once: choose fewer images or glimpses")


def _count(length: int) -> list[str]:
    return [f"glimpse {t} of {length}" for t in range(1, length + 1)]
