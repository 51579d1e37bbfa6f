"""`drawnet explore`: pictures of what the latents of a drawing decide."""

import argparse
from collections.abc import Callable, Sequence
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
    verb_parser,
)
from drawnet.cli.inputs import drawer, generator_for, images_to_draw, some
from drawnet.cli.outputs import save_figure

if TYPE_CHECKING:
    import torch

    from drawnet.model import DRAW


def explore(argv: Sequence[str]) -> None:
    """Walk through the latents: draw between two images, or from the first latents of an image."""
    parser = verb_parser(explore)
    walks = kinds_of(parser, "walk")
    walk = _add(
        walks, "interpolate", "drawings from one image to another, a pair per row", interpolate
    )
    add_number(walk, "steps", 2, 64, 11, "drawings per row")
    walk = _add(
        walks, "redraw", "images, and drawings that begin like them and end differently", redraw
    )
    add_number(walk, "keep", 0, 10_000, None, "first glimpses to keep; by default a quarter")
    add_number(walk, "times", 1, 64, 8, "drawings of each image")
    walk = _add(
        walks, "transmit", "what is seen after some of the glimpses, and its cost in nats", transmit
    )
    add_number(walk, "steps", 2, 16, 7, "columns, from no glimpses to all of them")
    asked = parser.parse_args(argv)
    asked.out = asked.out or Path("out", f"{asked.walk}.png")
    asked.draw(asked)


def interpolate(asked: argparse.Namespace) -> None:
    """Drawings between pairs of images, with a row for each pair."""
    model, x, y, _ = _start(asked, 2 * asked.count)
    if len(x) < 2:
        raise ValueError(f"expected at least two images to walk between, got {len(x)}")

    import torch

    from drawnet import explore as walks
    from drawnet import figures

    rows = [
        walks.interpolate(
            model, x[i], x[i + 1], steps=asked.steps, y=None if y is None else y[i : i + 2]
        ).mean
        for i in range(0, len(x) - 1, 2)  # an odd one is left over
    ]
    save_figure(figures.samples(torch.cat(rows), columns=asked.steps), asked.out, asked.dpi)


def redraw(asked: argparse.Namespace) -> None:
    """Images, and beside each the drawings that keep its first latents."""
    model, x, y, generator = _start(asked, asked.count)
    keep = model.config.glimpses // 4 if asked.keep is None else asked.keep

    import torch

    from drawnet import explore as walks
    from drawnet import figures

    trace = model(x, y=y, generator=generator)
    drawn = walks.redraw(model, trace, keep, n=asked.times, generator=generator).mean
    rows = torch.cat([x[:, None], drawn.unflatten(0, (-1, asked.times))], dim=1)
    save_figure(figures.samples(rows.flatten(0, 1), columns=1 + asked.times), asked.out, asked.dpi)


def transmit(asked: argparse.Namespace) -> None:
    """What is seen of images after some of the glimpses, and what those cost in nats."""
    model, x, y, generator = _start(asked, asked.count)
    glimpses, steps = model.config.glimpses, asked.steps

    from drawnet import explore as walks
    from drawnet import visualise

    keep = sorted({round(step * glimpses / (steps - 1)) for step in range(steps)})
    sent = walks.transmit(model, model(x, y=y, generator=generator), keep, generator=generator)
    save_figure(visualise.plot_transmission(sent), asked.out, asked.dpi)


def _add(walks: Parsers, name: str, what: str, draw: Callable[[argparse.Namespace], None]) -> Plain:
    walk = add_kind(walks, name, what, draw)
    add_weights(walk)
    add_data(walk)
    add_number(walk, "count", 1, 100, 6, "rows; fewer if there are too few images")
    add_figure_file(walk, f"out/{name}.png")
    return walk


def _start(
    asked: argparse.Namespace, count: int
) -> "tuple[DRAW, torch.Tensor, torch.Tensor | None, torch.Generator]":
    """The network, images to start from, their labels, and a generator for everything else."""
    model = drawer(asked)
    images = images_to_draw(asked, model)
    return model, *some(images, count, asked.seed, generator_for(asked, model))
