"""`drawnet figure`: figures of the paper and learning curves, from weights, runs or a photo."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from drawnet.cli.arguments import (
    Parsers,
    Plain,
    add_data,
    add_figure_file,
    add_kind,
    add_number,
    add_weights,
    kinds_of,
    path,
    verb_parser,
)
from drawnet.cli.budget import afford_canvases
from drawnet.cli.inputs import (
    data_for,
    drawer,
    generator_for,
    glimpse_classifier,
    images_for,
    images_to_draw,
    labels_in_turn,
    opened,
    some,
)
from drawnet.cli.outputs import save_figure

if TYPE_CHECKING:
    import torch

PHOTO = 240
"""The longer side of a photo in a figure, in pixels; next to it, a 12 x 12 patch looks coarse."""


def figure(argv: Sequence[str]) -> None:
    """Draw a figure of the paper, or learning curves, as PNG, PDF or SVG."""
    parser = verb_parser(figure)
    kinds = kinds_of(parser, "figure")

    what = "drawings growing stroke by stroke, with the windows that write them"
    for name in ("1", "10"):
        _add_strip(_add(kinds, name, what, partial(strip, attention=True)), rows=10, steps=11)

    what = "the attention grid on a picture, and what three windows see"
    _add_photo(_add(kinds, "3", what, attention_grid))

    what = "a patch read from a picture, and the picture that the transposed filters write back"
    _add_photo(_add(kinds, "4", what, zoom))

    what = "where a classifier looks, glimpse by glimpse, and what it sees"
    each = _add(kinds, "5", what, looks)
    add_weights(each)
    add_data(each)
    add_number(each, "count", 1, 100, 6, "how many images, one per row, or all if fewer")

    what = "samples, and beside the last of each row the nearest training image"
    for name in ("6", "9", "12"):
        each = _add(kinds, name, what, nearest)
        _add_samples(each)
        add_data(each, split=False)

    what = "drawings growing sharper as a whole, without attention"
    each = _add(kinds, "7", what, partial(strip, attention=False))
    _add_strip(each, rows=13, steps=16)

    _add_samples(_add(kinds, "8", "samples", samples))

    what = "what each glimpse costs and gains, in nats"
    each = _add(kinds, "nats", what, nats)
    add_weights(each)
    add_data(each)
    add_number(
        each,
        "count",
        1,
        10_000,
        500,
        "images to average over, or fewer if there are fewer or memory is short",
    )

    what = "learning curves: loss or error on training and validation images"
    each = _add(kinds, "curves", what, curves)
    each.add_argument("runs", nargs="+", type=path, metavar="RUN", help="run folders")

    asked = parser.parse_args(argv)
    asked.out = asked.out or Path("out", f"figure-{asked.figure}.png")
    asked.draw(asked)


def strip(asked: argparse.Namespace, *, attention: bool) -> None:
    """Figures 1, 7 and 10."""
    model = drawer(asked)
    if (model.config.write_size is not None) != attention:
        needs, has = ("with", "without") if attention else ("without", "with")
        raise ValueError(
            f"figure {asked.figure} needs weights that write {needs} attention; "
            f"{asked.weights} writes {has} it"
        )

    from drawnet import visualise

    y = labels_in_turn(model, asked.count)
    trace = model.generate(asked.count, y=y, generator=generator_for(asked, model))
    save_figure(visualise.strip(trace, steps=asked.steps), asked.out, asked.dpi)


def attention_grid(asked: argparse.Namespace) -> None:
    """Figure 3."""
    photo = _photo(asked)

    from drawnet import figures

    save_figure(figures.attention_grid(photo, size=asked.patch), asked.out, asked.dpi)


def zoom(asked: argparse.Namespace) -> None:
    """Figure 4."""
    photo = _photo(asked)

    from drawnet import figures

    save_figure(figures.zoom(photo, size=asked.patch), asked.out, asked.dpi)


def looks(asked: argparse.Namespace) -> None:
    """Figure 5."""
    model = glimpse_classifier(asked)
    images = images_for(asked, model.config.image_shape)

    import torch

    from drawnet import figures

    generator = torch.Generator(model.h.device).manual_seed(asked.seed)
    x, *_ = some(images, asked.count, asked.seed, generator)
    seen = model(x)
    save_figure(figures.glimpses(x, seen.window, seen.patches), asked.out, asked.dpi)


def nearest(asked: argparse.Namespace) -> None:
    """Figures 6, 9 and 12."""
    if asked.count % asked.columns:
        raise ValueError(f"--count must fill rows of {asked.columns}, got {asked.count}")
    model = drawer(asked)
    training = images_for(asked, model.config.image_shape, "train")

    import torch

    from drawnet import figures

    generator = generator_for(asked, model)
    y = labels_in_turn(model, asked.count)
    drawn = model.generate(asked.count, y=y, generator=generator, record="last").mean
    _, options = data_for(asked, model.config.image_shape)

    def parts() -> "Iterator[torch.Tensor]":
        for index in torch.arange(len(training)).split(2000):
            x, _ = training.batch(index, generator)
            yield x
            if options.get("mirror"):  # it has learned both
                yield x.flip(-1)

    page = figures.samples_and_nearest(drawn, parts(), columns=asked.columns)
    save_figure(page, asked.out, asked.dpi)


def samples(asked: argparse.Namespace) -> None:
    """Figure 8."""
    model = drawer(asked)

    from drawnet import figures

    y = labels_in_turn(model, asked.count)
    generator = generator_for(asked, model)
    drawn = model.generate(asked.count, y=y, generator=generator, record="last").mean
    save_figure(figures.samples(drawn, columns=asked.columns), asked.out, asked.dpi)


def nats(asked: argparse.Namespace) -> None:
    """The KL and the reconstruction, glimpse by glimpse."""
    model = drawer(asked)
    images = images_to_draw(asked, model)

    from drawnet import visualise

    count = min(asked.count, afford_canvases(model))
    x, y, generator = some(images, count, asked.seed, generator_for(asked, model))
    save_figure(visualise.plot_nats(model(x, y=y, generator=generator), x), asked.out, asked.dpi)


def curves(asked: argparse.Namespace) -> None:
    """Learning curves."""
    from drawnet import visualise

    read = [visualise.read_curve(run) for run in asked.runs]
    if len({curve.name for curve in read}) < len(read):
        read = [curve._replace(name=str(run)) for curve, run in zip(read, asked.runs, strict=True)]
    page = visualise.plot_curves(read)
    save_figure(page, asked.out, asked.dpi)


def _add(
    kinds: Parsers,
    name: str,
    what: str,
    draw: Callable[[argparse.Namespace], None],
) -> Plain:
    each = add_kind(kinds, name, what, draw)
    add_figure_file(each, f"out/figure-{name}.png")
    return each


def _add_strip(parser: Plain, rows: int, steps: int) -> None:
    add_weights(parser)
    add_number(parser, "count", 1, 100, rows, "drawings, one per row")
    add_number(parser, "steps", 1, 32, steps, "canvases per row")


def _add_photo(parser: Plain) -> None:
    what = "a PNG, JPEG or WebP; by default a picture that drawnet paints itself"
    parser.add_argument("--image", type=path, metavar="PHOTO", help=what)
    add_number(parser, "patch", 1, 128, 12, "N, the side of the patch")


def _add_samples(parser: Plain) -> None:
    add_weights(parser)
    add_number(parser, "count", 1, 1000, 100, "samples")
    add_number(parser, "columns", 1, 100, 10, "samples per row")


def _photo(asked: argparse.Namespace) -> "torch.Tensor":
    """The picture asked for, ``(3, H, W)`` in [0, 1]."""
    from drawnet.data.lighthouse import lighthouse
    from drawnet.data.pictures import to_tensor

    photo = lighthouse() if asked.image is None else opened(asked.image, channels=3)
    photo.thumbnail((PHOTO, PHOTO))
    return to_tensor(photo)
