"""How large the pictures of a command may be: what fits into memory."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drawnet.classify import GlimpseClassifier
    from drawnet.model import DRAW

PICTURE = 2**25
"""The most pixels in a picture; while it is painted, each takes about 72 bytes."""
FIGURE = 2**27
"""The most pixels in the PNG of a figure; each takes four bytes or more."""
FILM = 2**28
"""The most pixels in all frames of an animation together; each is kept in three bytes."""
CANVASES = 2**29
"""The most values in the canvases of all glimpses together; each takes four bytes, twice."""
CHAINS = 2**26
"""The most latents and canvas values in all chains of a completion; about eight times as many
numbers are kept in memory."""


def scale_for(
    asked: argparse.Namespace,
    model: "DRAW | GlimpseClassifier",
    images: float,
    most: int = 4,
    enlarge: float | None = None,
) -> int:
    """The scale that was asked for, or else the largest up to `most` at which everything fits.

    Args:
        asked: The command line.
        model: The network.
        images: The space that a frame has, in images.
        most: The default scale.
        enlarge: The scale, if images are not scaled but drawn larger.

    Raises:
        ValueError: If the pictures are likely to need more memory than there is.
    """
    _, height, width = model.config.image_shape
    frames = 1 if asked.format == "none" else model.config.glimpses + 1
    given = enlarge or asked.scale
    for scale in (given,) if given else range(most, 0, -1):
        pixels = images * (height * scale) * (width * scale)
        if pixels <= PICTURE and pixels * frames <= FILM:
            return int(scale)
    instead = "draw fewer images or smaller ones"
    if pixels > PICTURE:
        raise ValueError(
            f"expected a picture of at most {PICTURE >> 20} megapixels, got {pixels / 2**20:.0f}: "
            f"{instead}"
        )
    raise ValueError(
        f"expected an animation of at most {FILM >> 20} megapixels in all its frames, got "
        f"{pixels * frames / 2**20:.0f}: {instead}, or fewer glimpses, or no animation, by "
        "--format none"
    )


def afford_canvases(model: "DRAW", enlarge: float = 1.0) -> int:
    """For how many images the canvases after every glimpse fit into memory; at least 1."""
    each = (model.config.glimpses + 1) * model.canvas.numel() * enlarge**2
    return max(int(CANVASES / each), 1)


def afford_film(
    asked: argparse.Namespace, model: "DRAW", images: int, enlarge: float = 1.0
) -> None:
    """Raise a `ValueError` if the canvases of an animation are likely to need too much memory."""
    most = afford_canvases(model, enlarge)
    if asked.format != "none" and images > most:
        raise ValueError(
            f"expected at most {most} images with all their canvases, got {images}: draw fewer or "
            "smaller ones, or no animation, by --format none"
        )


def afford_chains(chains: int, model: "DRAW") -> None:
    """Raise a `ValueError` if the chains are likely to need more memory than there is."""
    most = CHAINS // (model.config.glimpses * model.config.z_size + model.canvas.numel())
    if chains > most:
        raise ValueError(
            f"expected at most {most} chains at once, count x times x chains, got {chains}"
        )
