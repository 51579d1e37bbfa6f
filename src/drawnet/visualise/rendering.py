"""Draw the same drawing at any size.

With attention, a canvas is its start plus a sum of separable Gaussian patches, each with a place
and a width in pixels. Enlarged, they are the strokes of the same drawing on a finer canvas. Its
pixels are s times smaller, so the centres, the strides and the sigmas are s times larger:

    g -> s (g + 1/2) - 1/2      delta -> s delta      sigma -> s sigma      gamma -> gamma / s^2

The rows of a filter bank sum to one over s times as many pixels in each direction, so a patch must
be written s^2 times as strongly to be as bright. The network is not run again. A filter narrower
than a pixel fills a whole pixel of the model's canvas; on a finer canvas it is a small dot.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from drawnet.attention import Window, write
from drawnet.model import Trace
from drawnet.visualise.paint import check_complete


def render(trace: Trace, scale: float) -> Float[Tensor, "batch planes tall wide"]:
    """The last canvas of every image, at `scale` times its size.

    At scale 1 it is the canvas of the model, if each of its steps adds a stroke to the canvas and
    changes nothing else there; a network of your own may do otherwise. The learned start has no
    strokes, so it is enlarged by bilinear interpolation.

    Args:
        trace: What a model with write attention did, generated or reconstructed.
        scale: How many times as high and as wide to draw, > 0. Heights and widths are rounded.

    Returns:
        A canvas; ``trace.likelihood.mean`` of it is the picture. Strokes add up in every plane of
        a canvas, so each plane is enlarged on its own.
    """
    return deque(_canvases(trace, scale), maxlen=1).pop()


def refine(trace: Trace, scale: float) -> Trace:
    """The same drawing at `scale` times its size, for every glimpse; `render` draws only the last.

    Args:
        trace: As for `render`.
        scale: As for `render`.

    Returns:
        The trace with the canvases and the windows of the larger drawing. It is meant for pictures:
        the model itself did not produce it.
    """
    start, *canvases = _canvases(trace, scale)
    assert trace.write_window is not None
    read = trace.read_window
    return replace(
        trace,
        canvas=torch.stack(canvases),
        start=start[0],
        write_window=enlarge(trace.write_window, scale),
        read_window=None if read is None else enlarge(read, scale),
    )


def _canvases(trace: Trace, scale: float) -> Iterator[Tensor]:
    """The enlarged canvas before the first glimpse and after each, ``(B, P C, tall, wide)``."""
    check_complete(trace)
    if trace.patch is None or trace.write_window is None or trace.start is None:
        raise ValueError("only a drawing made with write attention can be drawn at another size")
    if not scale > 0:
        raise ValueError(f"scale must be > 0, got {scale}")
    height, width = (max(round(side * scale), 1) for side in trace.start.shape[1:])
    start = interpolate(trace.start[None], (height, width), mode="bilinear", antialias=True)
    canvas = start.expand(trace.canvas.shape[1], -1, -1, -1)
    yield canvas
    for t, patch in enumerate(trace.patch):
        window = enlarge(trace.write_window.at(t), scale)
        canvas = canvas + write(patch, window, height, width)
        yield canvas


def enlarge(window: Window, scale: float) -> Window:
    """The window at the same place of an image that is enlarged `scale` times."""
    return Window(
        g_y=scale * (window.g_y + 0.5) - 0.5,
        g_x=scale * (window.g_x + 0.5) - 0.5,
        delta=scale * window.delta,
        sigma=scale * window.sigma,
        gamma=window.gamma / scale**2,
    )
