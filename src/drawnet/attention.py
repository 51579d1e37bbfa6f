"""The selective attention of DRAW: a grid of Gaussian filters that reads from and writes to images.

An N x N grid of two-dimensional Gaussian filters lies on an image of ``height`` x ``width`` pixels.
Five numbers place it: the centre (g_x, g_y), the stride delta between neighbouring filters, the
width sigma of each filter, and the intensity gamma. A small stride reads a small part of the image
in detail; a large one reads all of it coarsely. The result is differentiable in all five numbers.
So unlike a crop, the grid can be learned by gradient descent; and unlike bilinear sampling, its
gradient reaches beyond the four nearest pixels.

A two-dimensional Gaussian is separable, so the grid is two small matrices, the *filter banks* F_x
(N x width) and F_y (N x height), and reading and writing are matrix products:

    read(x)  = gamma F_y x F_x^T                                                       (27)
    write(w) = 1/gamma F_y^T w F_x                                                     (29)

Equation numbers are those of Gregor et al., "DRAW: A Recurrent Neural Network For Image
Generation", ICML 2015. Everything here is a pure function of tensors, with no weights and no state,
for use in any model. Coordinates are pixels, counted from 0, y before x as in tensors. The paper
counts from 1; `window` is the one place that converts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LOG_LIMIT = 15.0
"""`window` keeps log sigma^2, log delta~ and log gamma within +-15, so that exp stays finite in
single precision and bfloat16. In float16, which ends at e^11, images and patches may overflow."""

CENTRE_LIMIT = 1e6
"""`window` keeps g~ within +-1e6, so that the squares of distances stay finite."""

MIN_SIGMA = 1e-3
"""Filters are never narrower than this, in pixels: far below it 1 / sigma^2 overflows."""


class Window(NamedTuple):
    """Where a grid of filters lies on each image of a batch.

    Attributes:
        g_y: Vertical centre of the grid, in pixels from 0. It may lie outside the image.
        g_x: Horizontal centre of the grid, in pixels from 0.
        delta: Stride between the centres of neighbouring filters, in pixels, > 0.
        sigma: Standard deviation of every filter, in pixels, > 0.
        gamma: Intensity, > 0: `read` multiplies by it and `write` divides by it.

    Each is a tensor of shape ``(B,)``, one window per image; in a `drawnet.Trace`, ``(T, B)``.
    """

    g_y: Tensor
    g_x: Tensor
    delta: Tensor
    sigma: Tensor
    gamma: Tensor

    def at(self, t: int) -> "Window":
        """The windows of glimpse t of a trace, counted from 0."""
        return Window(*(number[t] for number in self))

    def to(self, target: torch.device | str | torch.dtype) -> "Window":
        """The windows on another device or of another type."""
        return Window(*(number.to(target) for number in self))


def window(params: Float[Tensor, "*batch 5"], size: int, height: int, width: int) -> Window:
    """Decode the five numbers that a network emits into a window, equations (21) to (24).

        g_x   = (width  + 1) / 2 (g~_X + 1)        g_y = (height + 1) / 2 (g~_Y + 1)
        delta = (max(height, width) - 1) / (N - 1) delta~

    counted from pixel 1 as in the paper; the centres returned count from pixel 0. Five zeros give
    the grid whose outermost filters sit on the first and the last pixel of the longer side. With
    ``size=1`` there is no stride, and delta is what it would be for ``size=2``.

    Args:
        params: (g~_X, g~_Y, log sigma^2, log delta~, log gamma), in the paper's order. Any finite
            values are allowed: the centre is clamped to +-`CENTRE_LIMIT`, the three logarithms to
            +-`LOG_LIMIT`.
        size: N, the number of filters along each side, >= 1.
        height: Height of the image in pixels, the paper's B.
        width: Width of the image in pixels, the paper's A.

    Returns:
        The window, in single precision if ``params`` has less: half precision cannot tell
        neighbouring pixels of a large image apart.

    Raises:
        ValueError: If there are not five numbers, or ``size`` is less than 1.
    """
    if params.shape[-1:] != (5,):
        raise ValueError(f"params must be (..., 5), got {tuple(params.shape)}")
    _check_size(size)
    (params,) = _single(params)
    # The numbers keep a dimension until the end: torch's forward-mode derivative of a float times a
    # tensor without dimensions has another type.
    x, y = params[..., :2].clamp(-CENTRE_LIMIT, CENTRE_LIMIT).split(1, -1)
    log_sigma2, log_delta, log_gamma = params[..., 2:].clamp(-LOG_LIMIT, LOG_LIMIT).split(1, -1)
    numbers = (
        (height + 1) / 2 * (y + 1) - 1,
        (width + 1) / 2 * (x + 1) - 1,
        (max(height, width) - 1) / max(size - 1, 1) * log_delta.exp(),
        (log_sigma2 / 2).exp(),
        log_gamma.exp(),
    )
    return Window(*(number.squeeze(-1) for number in numbers))


def params(window: Window, size: int, height: int, width: int) -> Float[Tensor, "*batch 5"]:
    """The five numbers that give a window: the inverse of `window`.

    Use them as the bias of a network's last layer to make this window its first one.

    Args:
        window: Where the grid lies, in pixels from 0; delta, sigma and gamma must be > 0.
        size: N, as for `window`.
        height: As for `window`.
        width: As for `window`.

    Returns:
        (g~_X, g~_Y, log sigma^2, log delta~, log gamma), the logarithms within +-`LOG_LIMIT`.

    Raises:
        ValueError: If ``size`` is less than 1.
    """
    _check_size(size)
    numbers = (
        2 * (window.g_x + 1) / (width + 1) - 1,
        2 * (window.g_y + 1) / (height + 1) - 1,
        2 * window.sigma.log(),
        (window.delta * max(size - 1, 1) / (max(height, width, 2) - 1)).log(),
        window.gamma.log(),
    )
    x, y, *logs = torch.broadcast_tensors(*numbers)
    return torch.stack([x, y, *(log.clamp(-LOG_LIMIT, LOG_LIMIT) for log in logs)], dim=-1)


def middle(delta: float, height: int, width: int, gamma: float = 1.0) -> Window:
    """A window in the middle of an image, with filters half as wide as their stride.

    The filters also see what lies between their centres, so this is a good window to start with.

    Args:
        delta: Stride, in pixels, > 0.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        gamma: Intensity, > 0.

    Returns:
        Five tensors without dimensions, on torch's default device; `Window.to` moves them.
    """
    return Window(*torch.tensor([(height - 1) / 2, (width - 1) / 2, delta, delta / 2, gamma]))


def filterbank(
    centre: Float[Tensor, " *batch"],
    delta: Float[Tensor, " *batch"],
    sigma: Float[Tensor, " *batch"],
    size: int,
    length: int,
) -> Float[Tensor, "*batch {size} {length}"]:
    """A bank of Gaussian filters along one axis of the image, equations (19), (20), (25), (26).

        mu^i    = centre + (i - (N - 1) / 2) delta            i = 0 .. N - 1
        F[i, a] = exp(-(a - mu^i)^2 / 2 sigma^2) / Z^i        sum_a F[i, a] = 1

    The quotient is computed as a softmax over the pixels a, which gives the same number and is
    never 0 / 0: however far off the image a filter lies, its row is finite and sums to 1.

    Args:
        centre: Centre of the grid along this axis, in pixels from 0.
        delta: Stride, in pixels.
        sigma: Standard deviation, in pixels, raised to `MIN_SIGMA` if it is less.
        size: N, the number of filters.
        length: Number of pixels along this axis.

    Returns:
        The filters, in single precision if the arguments have less, as in `window`.

    Raises:
        ValueError: If ``size`` is less than 1.
    """
    _check_size(size)
    centre, delta, sigma = _single(centre, delta, sigma)
    steps = torch.arange(size, dtype=centre.dtype, device=centre.device) - (size - 1) / 2
    pixels = torch.arange(length, dtype=centre.dtype, device=centre.device)
    mu = centre[..., None] + steps * delta[..., None]
    distance = (pixels - mu[..., None]) / sigma.clamp(min=MIN_SIGMA)[..., None, None]
    return torch.softmax(-distance.square() / 2, dim=-1)


def filterbanks(window: Window, size: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """F_y ``(..., size, height)`` and F_x ``(..., size, width)`` of windows ``(...)``."""
    return (
        filterbank(window.g_y, window.delta, window.sigma, size, height),
        filterbank(window.g_x, window.delta, window.sigma, size, width),
    )


def read(
    x: Float[Tensor, "*batch channels height width"], window: Window, size: int
) -> Float[Tensor, "*batch channels {size} {size}"]:
    """The glimpse of an image through a window, gamma F_y x F_x^T: equation (27).

    Args:
        x: Images. The same filters serve every channel.
        window: One window per image. Images and windows broadcast: windows of shape ``(K, B)`` are
            K glimpses of each of B images.
        size: N, the side of the glimpse.

    Raises:
        ValueError: If the images are not floating point, or have no channels.
    """
    _check_floating("x", x)
    if x.dim() < 3:
        raise ValueError(f"x must be (..., channels, height, width), got {tuple(x.shape)}")
    f_y, f_x = (f.to(x.dtype) for f in filterbanks(window, size, x.shape[-2], x.shape[-1]))
    columns = x.flatten(-3, -2) @ f_x.mT  # (..., C * height, N): one product for all channels
    glimpse: Tensor = f_y[..., None, :, :] @ columns.unflatten(-2, x.shape[-3:-1])
    return glimpse * window.gamma.to(x.dtype)[..., None, None, None]


def write(
    patch: Float[Tensor, "*batch channels size size"], window: Window, height: int, width: int
) -> Float[Tensor, "*batch channels {height} {width}"]:
    """The image that a patch makes through a window, 1/gamma F_y^T w F_x: equation (29).

    Args:
        patch: w, what to write: N x N values per channel.
        window: One window per patch. Patches and windows broadcast, as in `read`.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Raises:
        ValueError: If the patch is not floating point, or not square.
    """
    _check_floating("patch", patch)
    if patch.dim() < 3 or patch.shape[-1] != patch.shape[-2]:
        raise ValueError(f"patch must be (..., channels, N, N), got {tuple(patch.shape)}")
    f_y, f_x = (f.to(patch.dtype) for f in filterbanks(window, patch.shape[-1], height, width))
    strokes = (patch / window.gamma.to(patch.dtype)[..., None, None, None]) @ f_x[..., None, :, :]
    image: Tensor = f_y.mT[..., None, :, :] @ strokes
    return image


def _check_floating(name: str, values: Tensor) -> None:
    """Refuse integers: filters, which are below 1, would become zeros as integers."""
    if not values.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {values.dtype}")


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size must be >= 1, got {size}")


def _single(*numbers: Tensor) -> list[Tensor]:
    """The numbers, in single precision where they have less."""
    return [each.float() if each.dtype.itemsize < 4 else each for each in numbers]
