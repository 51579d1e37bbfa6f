"""`drawnet generate`, `reconstruct`, `complete`, `classify`: a picture and an animation."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drawnet.cli.arguments import Plain, add_data, add_number, add_weights, path, verb_parser
from drawnet.cli.budget import afford_chains, afford_film, scale_for
from drawnet.cli.inputs import (
    described,
    drawer,
    generator_for,
    glimpse_classifier,
    images_for,
    images_to_draw,
    known_pixels,
    labels_in_turn,
    own_image,
    settle_image,
    some,
)
from drawnet.cli.outputs import tell

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from drawnet.data import Images
    from drawnet.model import DRAW, Trace

FORMATS = ("gif", "png", "apng", "webp", "none")


def generate(argv: Sequence[str]) -> None:
    """Draw new images: a picture of them all, and an animation of how they are drawn."""
    parser = verb_parser(generate)
    add_weights(parser)
    _add_pictures(
        parser, count=None, what="how many images to draw (default: 64, or 16 with --size)"
    )
    enlarging = parser.add_mutually_exclusive_group()
    _add_scale(enlarging)
    what = "longer side of an image in pixels, drawn with finer strokes; needs write attention"
    add_number(enlarging, "size", 1, 4096, None, what)
    what = "the class to draw, or several with commas, one per row; by default all in turn"
    parser.add_argument("--label", help=what)
    what = "also save each image on its own, as OUT/generated/0001.png and so on"
    parser.add_argument("--separate", action="store_true", help=what)
    asked = parser.parse_args(argv)
    model = drawer(asked)
    count = asked.count or (64 if asked.size is None else 16)
    y, columns = _labels(asked, model, count)
    enlarge = None if asked.size is None else _enlargement(asked, model)
    scale = scale_for(asked, model, count, enlarge=enlarge)
    if enlarge is not None:
        scale = 1  # it is drawn at its full size
    record = "all" if enlarge is not None else _record(asked)
    afford_film(asked, model, count, enlarge or 1.0)

    from drawnet import visualise

    trace = model.generate(count, y=y, generator=generator_for(asked, model), record=record)
    mean = trace.mean
    if enlarge is not None:
        if asked.format == "none":  # only the last canvas needs enlarging
            mean = trace.likelihood.mean(visualise.render(trace, enlarge))
        else:
            trace = visualise.refine(trace, enlarge)
            mean = trace.mean
    still = visualise.grid(mean, columns=columns, scale=scale)
    _save(asked, "generated", still, _film(asked, trace, columns=columns, scale=scale))
    if asked.separate:
        for old in (asked.out / "generated").glob("[0-9][0-9][0-9][0-9].png"):
            old.unlink()
        for number, image in enumerate(mean, 1):
            _save_png(
                visualise.grid(image[None], scale=1), asked.out / f"generated/{number:04}.png"
            )
        print(asked.out / "generated")


def reconstruct(argv: Sequence[str]) -> None:
    """Reconstruct images: each beside its copy, and an animation of how the copies are drawn."""
    parser = verb_parser(reconstruct)
    add_weights(parser)
    add_data(parser)
    _add_pictures(parser, count=16, what="how many images, or all if there are fewer")
    _add_scale(parser)
    asked = parser.parse_args(argv)
    model = drawer(asked)
    images = images_to_draw(asked, model)
    count = min(asked.count, len(images))
    scale = scale_for(asked, model, 2.2 * count)  # pairs, and the space between them
    afford_film(asked, model, count)

    import torch

    from drawnet import visualise

    x, y, generator = some(images, count, asked.seed, generator_for(asked, model))
    trace = model(x, y=y, generator=generator, record=_record(asked))
    pairs = torch.stack([x, trace.mean], dim=1).flatten(0, 1)
    columns = 2 * (asked.columns or pairs_in_a_row(count))
    still = visualise.grid(pairs, columns=columns, scale=scale)
    film = _film(asked, trace, x, columns=asked.columns, scale=scale)
    _save(asked, "reconstructed", still, film)


def complete(argv: Sequence[str]) -> None:
    """Complete images with a hidden part: several completions of each, and an animation."""
    parser = verb_parser(complete)
    add_weights(parser)
    add_data(parser)
    _add_image(parser)
    what = (
        "what to hide: left, right, top, bottom, centre, pixels:0.8 (that share of the pixels, at "
        "random), or a picture file, white where to hide"
    )
    parser.add_argument("--mask", default="left", help=what)
    add_number(parser, "count", 1, 100, 6, "how many images, one per row, or all if fewer")
    add_number(parser, "times", 1, 64, 6, "how many completions of each image")
    add_number(parser, "rounds", 1, 10_000, 24, "how often to look, draw and fill in")
    add_number(parser, "chains", 1, 64, 8, "tries for each completion; the likelier ones go on")
    what = "what to fill in; by default a sample, or the mean for greys with a bernoulli likelihood"
    parser.add_argument("--fill", choices=("sample", "mean"), help=what)
    parser.add_argument("--label", help="the class of all images, if the network draws by class")
    _add_scale(parser)
    _add_windows(parser)
    _add_animation(parser)
    asked = parser.parse_args(argv)
    model = drawer(asked)
    label = None if asked.label is None else _label(asked.label, asked, model.config.classes)
    settle_image(asked, parser)
    scale = scale_for(asked, model, asked.count * (asked.times + 2))  # what is known, what was
    afford_chains(asked.count * asked.times * asked.chains, model)
    generator = generator_for(asked, model)
    known = known_pixels(asked, model.config.image_shape).to(generator.device)

    import torch

    if asked.image is None:
        images = images_for(asked, model.config.image_shape)
        told = images.for_classes(model.config.classes if label is None else 0)
        x, y, _ = some(told, asked.count, asked.seed, generator)
    else:
        x, y = own_image(asked, model.config.image_shape).to(generator.device), None
        if model.config.classes and label is None:
            raise ValueError(f"{asked.weights} draws by class: name the --label of the --image")
    if label is not None:
        y = torch.full((len(x),), label)

    from drawnet import visualise
    from drawnet.complete import complete as completed

    done = completed(
        model,
        x,
        known,
        y=y,
        n=asked.times,
        rounds=asked.rounds,
        chains=asked.chains,
        fill=asked.fill,
        generator=generator,
        progress=tell,
    )
    many = x.repeat_interleave(asked.times, 0)
    drawn = torch.where(known, many, done.trace.mean).unflatten(0, (len(x), asked.times))
    hidden = visualise.cover(x, known)
    row = [each.expand_as(hidden) for each in (x, hidden, *drawn.unbind(1))]
    page = torch.stack(row, dim=1).flatten(0, 1)
    still = visualise.grid(page, columns=len(row), scale=scale)
    film = _film(asked, done.trace, many, known, columns=asked.times, scale=scale)
    _save(asked, "completed", still, film)


def classify(argv: Sequence[str]) -> None:
    """Classify images, and show where the network looked, glimpse by glimpse."""
    parser = verb_parser(classify)
    add_weights(parser)
    add_data(parser)
    _add_image(parser)
    add_number(parser, "count", 1, 100, 6, "how many images, or all if there are fewer")
    add_number(parser, "columns", 1, 1000, None, "images per row; by default about square")
    _add_scale(parser, most=2)
    _add_animation(parser, fps=2.0)
    asked = parser.parse_args(argv)
    model = glimpse_classifier(asked)
    settle_image(asked, parser)
    _, height, width = model.config.image_shape
    whole = 1.4 * (height + width) / width  # with what it sees beside it: square, and as high
    scale = scale_for(asked, model, whole * asked.count, most=2)

    import torch

    from drawnet import visualise

    images, y = None, None
    if asked.image is None:
        images = images_for(asked, model.config.image_shape)
        generator = torch.Generator(model.h.device).manual_seed(asked.seed)
        x, y, _ = some(images, asked.count, asked.seed, generator)
    else:
        x = own_image(asked, model.config.image_shape).to(model.h.device)
    names = _names(asked, model.config.classes, images)
    seen = model(x)
    if not seen.logits.isfinite().all():
        raise ValueError(f"{asked.weights} gives answers that are not finite")
    frames = visualise.animate_glimpses(x, seen, names=names, columns=asked.columns, scale=scale)
    for number, answer in enumerate(seen.logits[-1].softmax(-1)):
        likeliest = int(answer.argmax())
        truth = "" if y is None or images is None else f", labelled {images.classes[y[number]]}"
        share = f"{100 * answer[likeliest]:.1f} %"
        print(f"image {number + 1}: {names[likeliest]} ({share}){truth}")
    _save(asked, "classified", frames[-1], frames)


def _labels(
    asked: argparse.Namespace, model: "DRAW", count: int
) -> "tuple[torch.Tensor | None, int | None]":
    """The label of each image, and the number of images per row, which may depend on them."""
    import torch

    classes, columns = model.config.classes, asked.columns
    if asked.label is None:
        if classes and columns is None:
            columns = min(classes, count)
        return labels_in_turn(model, count), columns
    labels = [_label(name.strip(), asked, classes) for name in asked.label.split(",")]
    if columns is None and len(labels) > 1:
        columns = -(-count // len(labels))
    row = torch.arange(count) // (columns or count)
    return torch.tensor(labels)[row % len(labels)], columns


def _label(name: str, asked: argparse.Namespace, classes: int) -> int:
    """The number of a class that is given by name or by number."""
    if not classes:
        raise ValueError(f"{asked.weights} draws without labels, got --label {name}")
    names = _names(asked, classes)
    if name in names:
        return names.index(name)
    numbers = not any(known.isdecimal() for known in names)  # else it would be ambiguous
    if numbers and name.isdecimal() and int(name) < len(names):
        return int(name)
    known = ", ".join(names) if len(names) <= 20 else f"0 to {len(names) - 1}"
    raise ValueError(f"--label must be one of {known}, got {name!r}")


def _names(asked: argparse.Namespace, classes: int, images: "Images | None" = None) -> list[str]:
    """The names of a network's classes: those of its training images, or else numbers."""
    from drawnet.weights import class_names

    provenance = described(asked)["provenance"]
    if images is not None and images.name == provenance.get("data_name"):
        provenance = {"classes": list(images.classes), **provenance}
    return class_names(provenance, classes)


def pairs_in_a_row(count: int) -> int:
    """How many pairs per row make the page about square, with full rows if possible."""
    square = max((count / 2) ** 0.5, 1)
    full = next(k for k in range(1, count + 1) if count % k == 0 and k >= square)
    return full if full <= 2.5 * square else round(square)


def _add_pictures(parser: Plain, count: int | None, what: str) -> None:
    add_number(parser, "count", 1, 1000, count, what)
    add_number(parser, "columns", 1, 1000, None, "images per row; by default about square")
    _add_windows(parser)
    _add_animation(parser)


def _add_image(parser: Plain) -> None:
    what = (
        "your own PNG, JPEG or WebP instead of a data set, whose middle is cut out and scaled; "
        "digits must be white on black"
    )
    parser.add_argument("--image", type=path, metavar="FILE", help=what)
    what = "use the negative of --image: for digits in black on white"
    parser.add_argument("--invert", action="store_true", help=what)


def _add_windows(parser: Plain) -> None:
    what = "draw a frame around each window that is read or written through"
    parser.add_argument("--windows", action=argparse.BooleanOptionalAction, default=True, help=what)


def _add_animation(parser: Plain, fps: float = 10.0) -> None:
    add_number(parser, "fps", 0.1, 50.0, fps, "glimpses per second")
    parser.add_argument("--format", choices=FORMATS, default="gif", help="format of the animation")
    parser.add_argument("--out", type=path, default=Path("out"), help="folder to save in")


def _add_scale(parser: argparse._ActionsContainer, most: int = 4) -> None:
    what = f"how many times to enlarge images (default: {most}, or less if too large)"
    add_number(parser, "scale", 1, 64, None, what)


def _enlargement(asked: argparse.Namespace, model: "DRAW") -> float:
    """How many times larger an image of ``--size`` is than the network's own."""
    if model.config.write_size is None:
        raise ValueError(
            f"{asked.weights} writes without attention: "
            "only what is written through windows can be drawn at another --size"
        )
    side = max(model.config.image_shape[1:])
    if asked.size < side:
        raise ValueError(f"--size must be at least {side}, the network's own, got {asked.size}")
    return float(asked.size / side)


def _record(asked: argparse.Namespace) -> "Literal['all', 'last']":
    """What to keep of a chain: without an animation, the last canvas is enough."""
    return "last" if asked.format == "none" else "all"


def _film(
    asked: argparse.Namespace,
    trace: "Trace",
    x: "torch.Tensor | None" = None,
    known: "torch.Tensor | None" = None,
    *,
    columns: int | None,
    scale: int,
) -> "list[Image.Image]":
    from drawnet import visualise

    if asked.format == "none":
        return []
    return visualise.animate(
        trace, x, known=known, columns=columns, scale=scale, windows=asked.windows
    )


def _save(
    asked: argparse.Namespace, name: str, still: "Image.Image", frames: "list[Image.Image]"
) -> None:
    """Save a picture and, if wanted, an animation, and print where they are."""
    from drawnet import visualise

    picture = asked.out / f"{name}.png"
    _save_png(still, picture)
    print(picture)
    if asked.format != "none":
        moving = asked.out / f"{name}{'-moving' * (asked.format == 'png')}.{asked.format}"
        visualise.save_animation(frames, moving, fps=asked.fps)
        print(moving)


def _save_png(picture: "Image.Image", file: Path) -> None:
    from drawnet.disk import write_atomically

    content = io.BytesIO()
    picture.save(content, "PNG")
    write_atomically(file, content.getvalue())
