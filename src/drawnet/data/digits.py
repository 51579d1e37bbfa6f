"""Digits drawn by the program itself, for a first training that needs no download.

A digit is a skeleton: a few pen strokes, smooth curves through points. To write it, the points are
shaken, and the curve is bent, slanted and turned, fitted into 20 pixels, centred on its mass (as
the digits of MNIST are), and inked. The ink at pixel (y, x) is the sum along the stroke

    ink(y, x) = sum_s w_s exp(-(y - y_s)^2 / 2 sigma^2) exp(-(x - x_s)^2 / 2 sigma^2).

As in DRAW's own write operation, this is one matrix product of the filters of the two axes. A pixel
is black where the ink is below one half, and white where it is above. Everything follows from a
hash of split and index, in double precision, so the images are the same on every machine.
"""

import math
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from drawnet.data.images import Images
from drawnet.data.store import Store
from drawnet.data.views import below, fixed

_COUNT = {"train": 20_000, "valid": 2_000, "test": 2_000}
_SIDE = 28

Stroke = list[tuple[float, float]]

# Ways to write each digit: strokes through points (x, y) of a unit box, x to the right, y down.
# fmt: off
_GLYPHS: tuple[tuple[list[Stroke], ...], ...] = (
    (  # 0
        [[(0.6, 0.02), (0.27, 0.1), (0.08, 0.5), (0.22, 0.88), (0.5, 0.99), (0.79, 0.88),
          (0.93, 0.48), (0.8, 0.12), (0.52, 0.0)]],
        [[(0.72, 0.1), (0.45, 0.0), (0.15, 0.22), (0.1, 0.65), (0.35, 0.98), (0.7, 0.9),
          (0.88, 0.5), (0.78, 0.15), (0.55, 0.06), (0.42, 0.1)]],
    ),
    (  # 1
        [[(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]],
        [[(0.3, 0.22), (0.52, 0.0)], [(0.52, 0.0), (0.5, 0.5), (0.5, 1.0)]],
        [[(0.3, 0.24), (0.52, 0.0)], [(0.52, 0.0), (0.5, 0.98)], [(0.22, 0.98), (0.8, 0.98)]],
    ),
    (  # 2
        [[(0.12, 0.24), (0.3, 0.04), (0.65, 0.03), (0.84, 0.26), (0.66, 0.55), (0.35, 0.8),
          (0.1, 0.97)], [(0.1, 0.97), (0.5, 0.95), (0.95, 0.96)]],
        [[(0.15, 0.2), (0.4, 0.01), (0.76, 0.08), (0.82, 0.34), (0.58, 0.68), (0.26, 0.97),
          (0.08, 0.88), (0.24, 0.74), (0.56, 0.9), (0.96, 0.9)]],
    ),
    (  # 3
        [[(0.12, 0.13), (0.42, 0.0), (0.78, 0.1), (0.76, 0.36), (0.36, 0.48)],
         [(0.36, 0.48), (0.78, 0.56), (0.88, 0.8), (0.58, 0.99), (0.25, 0.97), (0.06, 0.85)]],
        [[(0.1, 0.04), (0.82, 0.03)], [(0.82, 0.03), (0.42, 0.42)],
         [(0.42, 0.42), (0.8, 0.52), (0.87, 0.8), (0.52, 1.0), (0.1, 0.9)]],
    ),
    (  # 4
        [[(0.22, 0.0), (0.16, 0.28), (0.14, 0.54)], [(0.14, 0.54), (0.5, 0.54), (0.94, 0.5)],
         [(0.76, 0.05), (0.72, 0.5), (0.68, 1.0)]],
        [[(0.64, 0.0), (0.36, 0.32), (0.05, 0.64)], [(0.05, 0.64), (0.95, 0.62)],
         [(0.64, 0.0), (0.66, 0.5), (0.64, 1.0)]],
    ),
    (  # 5
        [[(0.86, 0.02), (0.26, 0.04)], [(0.26, 0.04), (0.18, 0.46)],
         [(0.18, 0.46), (0.5, 0.36), (0.82, 0.52), (0.84, 0.8), (0.5, 1.0), (0.08, 0.9)]],
        [[(0.24, 0.04), (0.2, 0.42)], [(0.2, 0.42), (0.55, 0.44), (0.78, 0.66), (0.6, 0.95),
          (0.3, 1.0), (0.08, 0.9)], [(0.24, 0.04), (0.6, 0.05), (0.9, 0.0)]],
    ),
    (  # 6
        [[(0.76, 0.02), (0.38, 0.26), (0.12, 0.66), (0.3, 0.96), (0.68, 0.95), (0.82, 0.7),
          (0.58, 0.52), (0.28, 0.6), (0.15, 0.78)]],
        [[(0.5, 0.0), (0.22, 0.34), (0.14, 0.74), (0.42, 1.0), (0.76, 0.88), (0.74, 0.62),
          (0.46, 0.54), (0.18, 0.72)]],
    ),
    (  # 7
        [[(0.06, 0.08), (0.5, 0.06), (0.9, 0.04)], [(0.9, 0.04), (0.58, 0.5), (0.4, 1.0)]],
        [[(0.08, 0.2), (0.12, 0.06), (0.5, 0.07), (0.9, 0.04)],
         [(0.9, 0.04), (0.62, 0.45), (0.46, 1.0)]],
        [[(0.06, 0.06), (0.9, 0.04)], [(0.9, 0.04), (0.6, 0.5), (0.42, 1.0)],
         [(0.32, 0.52), (0.86, 0.48)]],
    ),
    (  # 8
        [[(0.78, 0.16), (0.5, 0.0), (0.22, 0.16), (0.38, 0.42), (0.7, 0.62), (0.8, 0.84),
          (0.5, 1.0), (0.2, 0.84), (0.3, 0.62), (0.62, 0.42), (0.8, 0.24), (0.76, 0.12)]],
        [[(0.5, 0.46), (0.22, 0.26), (0.34, 0.04), (0.64, 0.03), (0.78, 0.24), (0.5, 0.46),
          (0.18, 0.72), (0.36, 0.98), (0.68, 0.97), (0.82, 0.72), (0.5, 0.46)]],
    ),
    (  # 9
        [[(0.82, 0.2), (0.55, 0.02), (0.22, 0.14), (0.16, 0.4), (0.44, 0.52), (0.76, 0.36),
          (0.82, 0.2)], [(0.82, 0.2), (0.78, 0.6), (0.7, 1.0)]],
        [[(0.82, 0.24), (0.58, 0.02), (0.24, 0.12), (0.18, 0.4), (0.48, 0.5), (0.8, 0.3),
          (0.82, 0.6), (0.64, 0.92), (0.24, 0.98)]],
    ),
)
# fmt: on

_SAMPLES = 84
"""How many short pieces the strokes of a digit are cut into, each shorter than a pixel."""

_STYLE, _POINTS = 13, 20
"""Random numbers for one digit: for its style, and two for each of at most 20 points."""


class _Skeleton(NamedTuple):
    """A way to write a digit: its points, and the pieces of its strokes, linear in the points."""

    points: Tensor  # (P, 2), x and y
    start: Tensor  # (S, P), where the pieces begin
    end: Tensor  # (S, P), and where they end


def digits(split: str, store: Store) -> Images:
    """20,000 / 2,000 / 2,000 black and white digits, drawn by the program."""
    if store.data_dir is not None:
        raise ValueError(
            f"digits are drawn by the program and need no data_dir, got {store.data_dir}: "
            "for a folder of pictures choose the data set folder, or the recipe pictures"
        )
    index = torch.arange(_COUNT[split])
    salt = list(_COUNT).index(split)
    pixels = torch.cat([write_digits(part, salt) for part in torch.split(index, 1000)])
    description = "digits, drawn by the program, black and white"
    return Images(pixels, index % 10, "digits", split, description, tuple("0123456789"))


def write_digits(index: Tensor, salt: int) -> Tensor:
    """(B, 1, 28, 28) uint8, 0 or 255: the digits at `index` (B,), each of class index % 10."""
    u = fixed(index, 1 + _STYLE + 2 * _POINTS, salt=salt).double()
    images = torch.empty(len(index), 1, _SIDE, _SIDE, dtype=torch.uint8)
    for digit, ways in enumerate(_skeletons()):
        way = below(u[:, 0], len(ways))
        for i, skeleton in enumerate(ways):
            chosen = (index % 10 == digit) & (way == i)
            images[chosen, 0] = _write(skeleton, u[chosen, 1:])
    return images


def _write(skeleton: _Skeleton, u: Tensor) -> Tensor:
    """(B, 28, 28) uint8 images of one skeleton in the B styles u (B, 13 + 40), each in [0, 1)."""
    style = (2 * u[:, :_STYLE] - 1)[:, :, None].unbind(1)  # 13 of (B, 1) in [-1, 1)
    slant, turn, narrow, extent, shift_x, shift_y, width, pressure = style[:8]
    bend_x, bend_y, phase_x, phase_y, phase = style[8:]

    count = len(skeleton.points)
    shake = 2 * u[:, _STYLE : _STYLE + 2 * count].reshape(-1, count, 2) - 1
    points = skeleton.points + 0.06 * shake
    x, y = (torch.cat([skeleton.start, skeleton.end]) @ points).unbind(2)  # (B, 2S) each

    x, y = (
        x + 0.05 * bend_x * torch.sin(2.4 * math.pi * y + math.pi * phase_x),
        y + 0.05 * bend_y * torch.sin(2.4 * math.pi * x + math.pi * phase_y),
    )
    x = (0.74 + 0.2 * narrow) * (x - 0.5) + (0.1 + 0.28 * slant) * (0.5 - y)
    angle = 0.14 * turn
    x, y = x * torch.cos(angle) - y * torch.sin(angle), x * torch.sin(angle) + y * torch.cos(angle)
    span = torch.maximum(x.amax(1) - x.amin(1), y.amax(1) - y.amin(1))[:, None]
    scale = (18 + 1.5 * extent) / span
    x, y = (scale * v for v in (x, y))

    (x0, x1), (y0, y1) = x.chunk(2, 1), y.chunk(2, 1)
    x, y, length = (x0 + x1) / 2, (y0 + y1) / 2, torch.hypot(x1 - x0, y1 - y0)
    mass = length / length.sum(1, keepdim=True)
    middle = (_SIDE - 1) / 2
    x = x - (mass * x).sum(1, keepdim=True) + middle + 0.7 * shift_x
    y = y - (mass * y).sum(1, keepdim=True) + middle + 0.7 * shift_y

    # A long straight stroke of unit weight has ink exp(-d^2 / 2 sigma^2) at distance d, hence one
    # half at d = sigma sqrt(2 ln 2), half the width of the pen. Pressure widens and narrows it.
    half_width = 1.2 + 0.4 * width
    sigma = half_width / math.sqrt(2 * math.log(2))
    along = torch.linspace(0, 1, x.shape[1], dtype=x.dtype)
    press = 1 + 0.22 * pressure * torch.sin(2 * math.pi * along + math.pi * phase)
    weight = press * length / (math.sqrt(2 * math.pi) * sigma)
    pixel = torch.arange(_SIDE, dtype=x.dtype)
    f_y, f_x = (
        torch.exp(-((pixel - v[:, :, None]) ** 2) / (2 * sigma[:, :, None] ** 2)) for v in (y, x)
    )
    ink = f_y.mT @ (weight[:, :, None] * f_x)
    return (ink > 0.5).to(torch.uint8) * 255


@cache
def _skeletons() -> tuple[tuple[_Skeleton, ...], ...]:
    return tuple(tuple(_skeleton(strokes) for strokes in ways) for ways in _GLYPHS)


def _skeleton(strokes: list[Stroke]) -> _Skeleton:
    """Cut strokes into `_SAMPLES` pieces. A point that two strokes share moves both of them."""
    points = list(dict.fromkeys(point for stroke in strokes for point in stroke))
    lengths = [sum(math.dist(*pair) for pair in pairwise(stroke)) for stroke in strokes]
    start, end = [], []
    for i, stroke in enumerate(strokes):
        done, now = (sum(lengths[:j]) / sum(lengths) for j in (i, i + 1))
        pieces = round(_SAMPLES * now) - round(_SAMPLES * done)
        own = torch.zeros(len(stroke), len(points), dtype=torch.float64)
        for row, point in enumerate(stroke):
            own[row, points.index(point)] = 1
        curve = _spline(len(stroke), pieces) @ own
        start.append(curve[:-1])
        end.append(curve[1:])
    return _Skeleton(torch.tensor(points, dtype=torch.float64), torch.cat(start), torch.cat(end))


def _spline(count: int, pieces: int) -> Tensor:
    """(pieces + 1, count): places along the Catmull-Rom curve through `count` points."""
    padded = torch.zeros(count + 2, count, dtype=torch.float64)
    padded[1:-1] = torch.eye(count)
    padded[0, 0], padded[0, 1] = 2.0, -1.0  # beyond its ends a stroke continues straight
    padded[-1, -1], padded[-1, -2] = 2.0, -1.0
    at = torch.linspace(0, count - 1, pieces + 1, dtype=torch.float64)
    first = at.long().clamp(max=count - 2)
    t = (at - first)[:, None]
    p0, p1, p2, p3 = (padded[first + k] for k in range(4))
    return 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
