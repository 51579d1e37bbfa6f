"""What is random about a batch: views of stored images, vectorised on the device of the set.

All randomness enters as uniform numbers, one row for each image of the batch, from one of two
sources. `fresh` asks the generator and differs at every use; `fixed` is a function of the image's
index and is therefore always the same, on every machine. Images are composed as integers, so that
the order in which a device adds them cannot affect the result.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
from torch import Generator, Tensor, nn

from drawnet.data.images import Batch, View, plain, unit

Chances: TypeAlias = Callable[[Tensor, int, Generator | None], Tensor]
"""(index (B,), columns, generator) -> (B, columns) uniform in [0, 1), float32."""


def fresh(index: Tensor, columns: int, generator: Generator | None) -> Tensor:
    """New numbers from the generator, drawn on its device."""
    device = index.device if generator is None else generator.device
    shape = (len(index), columns)
    chances = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
    return chances.to(index.device)


def fixed(
    index: Tensor, columns: int, generator: Generator | None = None, *, salt: int = 0
) -> Tensor:
    """A hash of (salt, index, column): the same numbers at every use, on every machine."""
    rows = _mix(_mix(index + 1) ^ _mix(salt + 0x5EED))
    cells = _mix(torch.arange(columns, device=index.device) + 0x10001)
    return (_mix(rows[:, None] ^ cells) >> 8).to(torch.float32) / 2**24


_Integers = TypeVar("_Integers", int, Tensor)


def _mix(x: _Integers) -> _Integers:
    """A bijection of 32-bit numbers held in int64, which its multiplications never overflow."""
    x = x ^ (x >> 16)
    x = (x * 0x21F0AAAD) & 0xFFFFFFFF
    x = x ^ (x >> 15)
    x = (x * 0x735A2D97) & 0xFFFFFFFF
    return x ^ (x >> 15)


def below(chances: Tensor, count: int) -> Tensor:
    """Map uniform numbers in [0, 1) to uniform integers 0 .. count - 1, int64."""
    return (chances * count).long()


def binarized(
    pixels: Tensor, labels: Tensor | None, index: Tensor, generator: Generator | None
) -> Batch:
    """Every pixel is 1 with its intensity as the probability, drawn afresh at each use."""
    grey = pixels[index]
    chances = fresh(index, grey[0].numel(), generator).view(grey.shape)
    x = (chances * 255 < grey).to(torch.get_default_dtype())
    return x, _pick(labels, index)


def shown(binarize: bool) -> tuple[View, str]:
    """The view of grey images, and the words for it in their description."""
    if binarize:
        return binarized, "binarized afresh at each use (dynamic)"
    return plain, "grey"


def mirrored(
    pixels: Tensor, labels: Tensor | None, index: Tensor, generator: Generator | None, *, view: View
) -> Batch:
    """Another view, with left and right exchanged in half of its images, afresh at each use."""
    x, y = view(pixels, labels, index, generator)
    half = fresh(index, 1, generator)[:, :, None, None] < 0.5
    return torch.where(half, x.flip(-1), x), y


def random_crop(
    pixels: Tensor, labels: Tensor | None, index: Tensor, generator: Generator | None, *, size: int
) -> Batch:
    """A `size` x `size` piece of each image, at a place drawn afresh at each use."""
    height, width = pixels.shape[2:]
    chances = fresh(index, 2, generator)
    top, left = below(chances[:, 0], height - size + 1), below(chances[:, 1], width - size + 1)
    return unit(_cut(pixels, index, top, left, size)), _pick(labels, index)


def centre_crop(
    pixels: Tensor, labels: Tensor | None, index: Tensor, generator: Generator | None, *, size: int
) -> Batch:
    """The `size` x `size` middle of each image. Nothing random."""
    top, left = (pixels.shape[2] - size) // 2, (pixels.shape[3] - size) // 2
    crop = pixels[index, :, top : top + size, left : left + size]
    return unit(crop), _pick(labels, index)


def cluttered(
    pixels: Tensor,
    labels: Tensor | None,
    index: Tensor,
    generator: Generator | None,
    *,
    size: int,
    distractors: int,
    piece: int,
    warp: float = 0.0,
    elastic: float = 0.0,
    chances: Chances,
) -> Batch:
    """Each image at a random place on a black `size` x `size` canvas strewn with pieces of others.

    This is the cluttered MNIST of Mnih et al. (2014): `distractors` images are drawn with
    replacement from the whole set (the target itself may be among them), a `piece` x `piece` crop
    of each is added at a random place, and the sum is clipped; the digit is then added on top and
    the sum clipped again. With `warp` or `elastic` the digit is `warped` first. Grey images only.
    """
    count, _, height, width = pixels.shape
    bends = WARP_CHANCES if warp or elastic else 0
    u = chances(index, 2 + 5 * distractors + bends, generator)
    place, clutter, bend = u.split([2, 5 * distractors, bends], dim=1)
    canvas = torch.zeros(len(index), size, size, dtype=torch.int32, device=pixels.device)

    source, from_y, from_x, to_y, to_x = clutter.reshape(len(index), 5, distractors).unbind(1)
    pieces = _cut(
        pixels,
        below(source, count),
        below(from_y, height - piece + 1),
        below(from_x, width - piece + 1),
        piece,
    )[:, :, 0]
    top, left = below(to_y, size - piece + 1), below(to_x, size - piece + 1)
    canvas = paste(canvas, pieces, top, left)

    images = warped(pixels[index], bend, warp, elastic) if bends else pixels[index]
    top, left = below(place[:, :1], size - height + 1), below(place[:, 1:], size - width + 1)
    canvas = paste(canvas, images, top, left)
    return unit(canvas[:, None]), _pick(labels, index)


LATTICE = 5
"""How many points, both across and down, carry the displacements that bend an image."""
WARP_CHANCES = 4 + 2 * LATTICE**2
"""How many uniform numbers decide how an image is `warped`."""


def warped(pixels: Tensor, chances: Tensor, warp: float, elastic: float) -> Tensor:
    """Each image turned, sheared and scaled about its middle, then bent, and rounded.

    With p counted from the middle, what is now at p was at (I + M) p + d(p) before. Each of the
    four numbers of M is uniform within +-`warp`. The displacements d are those of Simard et al.
    (2003), except for how they are made smooth: they are uniform within +-`elastic` pixels, down
    and across, at the points of a `LATTICE` that spans the image, and bicubic in between.
    Intensities are bilinear between pixels, and 0 beyond the border.

    Args:
        pixels: (B, C, H, W) bytes.
        chances: (B, WARP_CHANCES) uniform in [0, 1).
        warp, elastic: 0 and 0 leave an image as it is.

    Returns:
        (B, C, H, W) int32.
    """
    shape = list(pixels.shape)
    linear, points = (2 * chances - 1).split([4, 2 * LATTICE**2], dim=1)
    maps = torch.eye(2, dtype=chances.dtype, device=chances.device) + warp * linear.view(-1, 2, 2)
    maps = nn.functional.pad(maps, (0, 1))  # no shift
    grid = nn.functional.affine_grid(maps, shape, align_corners=False)
    field = nn.functional.interpolate(
        elastic * points.reshape(-1, 2, LATTICE, LATTICE), shape[2:], mode="bicubic"
    )
    across, down = field.unbind(1)
    grid = grid + torch.stack([across * (2 / shape[3]), down * (2 / shape[2])], dim=3)
    seen = nn.functional.grid_sample(pixels.to(grid.dtype), grid, align_corners=False)
    return seen.round().int()


def two_images(
    pixels: Tensor,
    labels: Tensor | None,
    index: Tensor,
    generator: Generator | None,
    *,
    size: int,
    chances: Chances,
) -> Batch:
    """Each image and another, drawn from the whole set, at random places on a black canvas.

    Intensities are added and clipped to at most 1. No labels. Grey images only.
    """
    count, _, height, width = pixels.shape
    u = chances(index, 5, generator)
    both = torch.stack([index, below(u[:, 0], count)], 1)
    canvas = torch.zeros(len(index), size, size, dtype=torch.int32, device=pixels.device)
    top, left = below(u[:, 1:3], size - height + 1), below(u[:, 3:5], size - width + 1)
    canvas = paste(canvas, pixels[both, 0], top, left)
    return unit(canvas[:, None]), None


def paste(canvas: Tensor, patches: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Add K patches to each canvas in place, then clip to at most 255.

    Args:
        canvas: (B, H, W) integers, contiguous.
        patches: (B, K, h, w) integers.
        top, left: (B, K) int64, where the upper left corners go.
    """
    height, width = patches.shape[2:]
    rows = top[:, :, None, None] + torch.arange(height, device=canvas.device)[:, None]
    columns = left[:, :, None, None] + torch.arange(width, device=canvas.device)
    cells = (rows * canvas.shape[2] + columns).flatten(1)
    canvas.view(len(canvas), -1).scatter_add_(1, cells, patches.flatten(1).to(canvas.dtype))
    return canvas.clamp_(max=255)


def _cut(pixels: Tensor, index: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """The (..., C, size, size) pieces of the images at `index` with corners at top, left (...)."""
    steps = torch.arange(size, device=pixels.device)
    rows = top[..., None, None] + steps[:, None]
    columns = left[..., None, None] + steps
    return pixels[index[..., None, None], :, rows, columns].movedim(-1, -3)


def _pick(labels: Tensor | None, index: Tensor) -> Tensor | None:
    return None if labels is None else labels[index]
