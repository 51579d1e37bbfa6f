"""Animations of a network that draws or looks, glimpse by glimpse, with its windows."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from drawnet import objective
from drawnet.classify import Glimpses
from drawnet.disk import write_atomically
from drawnet.model import Trace
from drawnet.visualise import paint

_FORMATS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP"}
_LONGEST = {"GIF": 65_535, "WEBP": 16_383}
"""The longest side of a picture in these formats, in pixels."""


def animate(
    trace: Trace,
    x: Float[Tensor, "batch channels height width"] | None = None,
    *,
    known: Bool[Tensor, "..."] | None = None,
    columns: int | None = None,
    scale: int = 4,
    gap: int = 8,
    windows: bool = True,
    kl: bool = True,
) -> list[Image.Image]:
    """Draw one picture of the canvas at the start, and one after every glimpse.

    Each image of the batch has a cell, and the cells lie side by side in rows. A cell shows the
    canvas with a rectangle on it: the window that the glimpse wrote through (vermillion). If images
    `x` are given, each stands above its canvas with the window that was read through (blue). Below
    the canvas are bars for the nats that each glimpse cost, all on one scale. If only a part of `x`
    is `known`, image and canvas share one picture: the known part as it is, and the canvas, tinted,
    where the image is hidden.

    A rectangle runs through the centres of the outermost filters, and its border is as wide as
    their sigma, so a thick border is a soft brush.

    Args:
        trace: What the model did, with T glimpses.
        x: The images that were reconstructed, in [0, 1]; None if the drawings were generated.
        known: If a hidden part of `x` was completed, which of its pixels are known; of a shape
            that broadcasts to that of `x`.
        columns: Number of cells per row; by default the picture is about square.
        scale: Every pixel of an image becomes a square of this side.
        gap: Pixels of white between two images, not enlarged.
        windows: Whether to draw the rectangles. There are none without attention.
        kl: Whether to draw the bars. There are none without `x`, or with `known`.

    Returns:
        T + 1 pictures of the same size; T if the trace has no start.
    """
    paint.check_complete(trace)
    glimpses, batch = trace.canvas.shape[:2]
    if x is not None and x.shape != trace.mean.shape:
        raise ValueError(f"x must be {tuple(trace.mean.shape)}, got {tuple(x.shape)}")
    if x is None and known is not None:
        raise ValueError("known must come with x, got no x")
    whole = x is not None and known is None
    above = [paint.to_pictures(x, scale)] if x is not None and whole else []
    nats = np.zeros((batch, glimpses))
    if whole and kl:
        nats = paint.to_array(objective.kl(trace)).T
        nats /= max(nats.max(), 1e-9)

    canvases = list(trace.canvas)
    if trace.start is not None:
        canvases.insert(0, trace.start.expand_as(canvases[0]))
    frames = []
    for t, painted in enumerate(canvases, start=glimpses - len(canvases)):
        mean = trace.likelihood.mean(painted)
        if x is not None and known is not None:
            mean = paint.cover(torch.where(known.to(x.device), x, mean), known, paint.TINT)
        canvas = paint.to_pictures(mean, scale)
        inputs = [picture.copy() for picture in above]
        if windows and t >= 0:
            if x is not None and trace.read_window is not None and trace.read_size is not None:
                seen = paint.outline(trace.read_window.at(t), trace.read_size)
                paint.paint_outline((inputs or [canvas])[0], seen, paint.READ_COLOUR, scale)
            if trace.write_window is not None and trace.patch is not None:
                written = paint.outline(trace.write_window.at(t), trace.patch.shape[-1])
                paint.paint_outline(canvas, written, paint.WRITE_COLOUR, scale)
        below = []
        if whole and kl:
            height, width = canvas.shape[1:3]
            so_far = np.where(np.arange(glimpses) <= t, nats, 0.0)
            below = [paint.bars(so_far, -(-height // 6), width, t)]
        cells = paint.stack([*inputs, canvas, *below], gap // 4)
        frames.append(paint.to_image(paint.mosaic(cells, columns, gap)))
    return frames


def animate_glimpses(
    x: Float[Tensor, "batch channels height width"],
    seen: Glimpses,
    *,
    names: Sequence[str] = (),
    columns: int | None = None,
    scale: int = 2,
    gap: int = 8,
) -> list[Image.Image]:
    """Draw one picture per glimpse of a classifier: where it looks, what it sees and answers.

    Each image of the batch has a cell. It shows the image with the window that is read through
    (blue), and beside it what is seen there, scaled so that the brightest point is white. Below
    both there is a bar for each class, as high as its probability; the likeliest stands out.

    Args:
        x: The images, in [0, 1].
        seen: What the classifier saw of them and answered, in T glimpses.
        names: The names of the classes, written below the bars where there is room; by default
            their numbers.
        columns: Number of cells per row; by default the picture is about square.
        scale: Every pixel of an image becomes a square of this side.
        gap: Pixels of white between two images, not enlarged.

    Returns:
        T pictures of the same size.
    """
    glimpses, batch, classes = seen.logits.shape
    if len(x) != batch:
        raise ValueError(f"x must be the {batch} images that were seen, got {len(x)}")
    names = names or [str(number) for number in range(classes)]
    if len(names) != classes:
        raise ValueError(f"names must be {classes}, got {len(names)}")
    probability = paint.to_array(seen.logits.softmax(-1))
    images = paint.to_pictures(x, scale)
    height, width = images.shape[1:3]
    size = seen.patches.shape[-1]
    magnified = np.arange(height) * size // height
    line = paint.words(names, max(height // 10, 8), width + gap // 4 + height)
    frames = []
    for t in range(glimpses):
        pictures = images.copy()
        at_t = paint.outline(seen.window.at(t), size)
        paint.paint_outline(pictures, at_t, paint.READ_COLOUR, scale)
        light = seen.patches[t].amax((1, 2, 3), keepdim=True).clamp(min=1e-9)
        patches = paint.to_pictures(seen.patches[t] / light, 1)[:, magnified][:, :, magnified]
        both = paint.stack([pictures, patches], gap // 4, axis=2)
        chosen = probability[t].argmax(1)
        answer = paint.bars(probability[t], height // 4, both.shape[2], chosen)
        cells = paint.stack([both, answer, line.repeat(batch, 0)], gap // 4)
        frames.append(paint.to_image(paint.mosaic(cells, columns, gap)))
    return frames


def save_animation(
    frames: Sequence[Image.Image],
    path: str | Path,
    *,
    fps: float = 10.0,
    loop: int = 0,
    hold: float = 1.5,
) -> None:
    """Save frames as an animated GIF, APNG or WebP, depending on the suffix of `path`.

    APNG and WebP keep every colour. A GIF has 256, chosen once for all frames so that nothing
    flickers.

    Args:
        frames: RGB pictures of the same size.
        path: A file name that ends in ``.gif``, ``.apng``, ``.png`` or ``.webp``. An existing file
            is replaced only when the new one is complete.
        fps: Frames per second, > 0. Browsers slow down a GIF of more than 50.
        loop: How many times it plays; 0 means for ever.
        hold: How many seconds the last frame stays.

    Raises:
        ValueError: If there is no frame, or a number or the suffix is not one of those above, or
            the frames are too large for a GIF (65,535 pixels a side) or WebP (16,383).
        OSError: If the file cannot be written.
    """
    path = Path(path)
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"path must end in .gif, .apng, .png or .webp, got {path.name!r}")
    if not frames:
        raise ValueError("frames must hold at least one picture, got none")
    if form in _LONGEST and max(frames[0].size) > _LONGEST[form]:
        width, height = frames[0].size
        raise ValueError(
            f"a side of a {form} must be at most {_LONGEST[form]} pixels, got {width} x {height}: "
            "save an APNG instead"
        )
    if fps <= 0 or loop < 0 or hold < 0:
        raise ValueError(f"fps must be > 0, loop and hold >= 0, got {fps}, {loop} and {hold}")
    duration = [round(1000 / fps)] * (len(frames) - 1) + [round(1000 * max(hold, 1 / fps))]
    times: int | None = loop
    if form == "GIF":
        frames = _with_one_palette(frames)
        # A GIF counts the repetitions after the first play; without a count it plays once.
        times = None if loop == 1 else max(loop - 1, 0)
    file = io.BytesIO()
    first, *others = frames
    first.save(
        file, form, save_all=True, append_images=others, duration=duration, loop=times,
        lossless=True,  # for WebP
    )  # fmt: skip
    write_atomically(path, file.getvalue())


def _with_one_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames in one palette of the 256 colours that suit all of them best."""
    counted: Counter[int] = Counter()
    for frame in frames:
        red, green, blue = np.asarray(frame.convert("RGB"), np.int64).reshape(-1, 3).T
        codes, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
        counted.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
    # The commonest colours stay as they are. The others are grouped, each weighted by the square
    # root of its count, because thin borders matter as well as wide areas of paper.
    exact = [code for code, _ in counted.most_common(64)]
    rest = {code: counted[code] for code in counted.keys() - set(exact)}
    palette = Image.new("P", (1, 1))
    colours = _unpack(np.array(exact))
    if rest:
        codes = np.repeat(list(rest), np.ceil(np.sqrt(list(rest.values()))).astype(int))
        grouped = Image.fromarray(_unpack(codes)[None]).quantize(256 - len(exact))
        merged = np.unique(np.asarray(grouped.convert("RGB"))[0], axis=0)
        colours = np.concatenate([colours, merged])
    palette.putpalette(colours.tobytes())
    return [
        frame.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    ]


def _unpack(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
