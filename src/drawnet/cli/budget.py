"""How large the pictures of a command may be: what fits into memory."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drawnet.classify import GlimpseClassifier
    from drawnet.model import DRAW

BUDGET = 2**28
"""The most pixels in all frames of an animation together; each takes three bytes."""
CHAINS = 2**26
"""The most latents and canvas values in all chains of a completion; about eight times as many
numbers are kept in memory."""


def scale_for(
    asked: argparse.Namespace, model: "DRAW | GlimpseClassifier", images: float, most: int = 4
) -> int:
    """The scale that was asked for, or else the largest up to `most` at which everything fits.

    Args:
        asked: The command line.
        model: The network.
        images: The space that a frame has, in images.
        most: The default scale.

    Raises:
        ValueError: If the pictures would not fit into memory.
    """
    scale = int(asked.scale or most)
    while asked.scale is None and scale > 1 and _pixels(asked, model, images, scale) > BUDGET:
        scale -= 1
    afford_pictures(asked, model, images, scale)
    return scale


def afford_pictures(
    asked: argparse.Namespace, model: "DRAW | GlimpseClassifier", images: float, scale: float
) -> None:
    """Raise a `ValueError` if the pictures are likely to need more memory than there is."""
    pixels, frames = _pixels(asked, model, images, scale), _frames(asked, model)
    if pixels <= BUDGET:
        return
    what, where, instead = "a picture of at most", "", "draw fewer images or smaller ones"
    if frames > 1:
        what, where = "an animation of at most", " in all its frames"
        instead += ", or fewer glimpses"
        if pixels / frames <= BUDGET:
            instead += ", or no animation, by --format none"
    raise ValueError(
        f"expected {what} {BUDGET >> 20} megapixels{where}, got {pixels / 2**20:.0f}: {instead}"
    )


def afford_chains(chains: int, model: "DRAW") -> None:
    """Raise a `ValueError` if the chains are likely to need more memory than there is."""
    most = CHAINS // (model.config.glimpses * model.config.z_size + model.canvas.numel())
    if chains > most:
        raise ValueError(
            f"expected at most {most} chains at once, count x times x chains, got {chains}"
        )


def _pixels(
    asked: argparse.Namespace, model: "DRAW | GlimpseClassifier", images: float, scale: float
) -> float:
    """The number of pixels in all frames together."""
    _, height, width = model.config.image_shape
    return _frames(asked, model) * images * (height * scale) * (width * scale)


def _frames(asked: argparse.Namespace, model: "DRAW | GlimpseClassifier") -> int:
    return 1 if asked.format == "none" else model.config.glimpses + 1
