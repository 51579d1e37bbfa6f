r"""Complete images of which a part is hidden: what may be there, given what is known.

A network that models p(x) also determines the distribution of the hidden pixels given the known
ones, but cannot draw from it directly. A Markov chain approaches it step by step (Rezende et al.,
"Stochastic Backpropagation and Approximate Inference in Deep Generative Models", 2014): fill the
hidden pixels with anything, infer the latents of the whole image, draw, take the hidden pixels from
the drawing, and repeat,

    z ~ Q(Z | known, hidden)        hidden ~ D(X | c_T(z))

If Q were the posterior, this would be Gibbs sampling from p(z, hidden | known). Q only comes close,
and a chain may stay near its start for long. So several chains run side by side. After each round
their latents are weighted by how well they explain what is known, and the chains that go on are
drawn in proportion to their weights:

    w_k = D(known | c_T(z_k)) P(z_k) / Q(z_k | known, hidden_k)

Whatever hidden_k is, the average of w_k over Q is p(known). So the mean of the weights is an
unbiased estimate of p(known), and its logarithm is a lower bound on log p(known) in expectation, as
in Burda et al. (2016). In the limit of many chains, latents drawn by weight come from p(z | known),
in any round. This is importance sampling for missing data, as in Mattei and Frellsen, "MIWAE"
(2019), with proposals that begin where good ones ended, as in the population Monte Carlo of Cappé
et al. (2004). With one chain, it is the Markov chain alone.
"""

import math
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from drawnet.checks import check_images, check_labels
from drawnet.model import DRAW, Trace
from drawnet.objective import log_weight
from drawnet.progress import Progress

Part: TypeAlias = Literal["left", "right", "top", "bottom", "centre"]
PARTS: tuple[Part, ...] = get_args(Part)


class Completion(NamedTuple):
    """Completed images, and how they were drawn.

    Attributes:
        images: ``(B, n, C, H, W)``: the known pixels as given, and the rest filled in.
        trace: The drawings that filled them in. Drawing j of image i is number ``i * n + j``.
        bound: A lower bound on log p(known) in expectation, after each round, in nats per image,
            ``(rounds, B)``: the logarithm of the mean weight of all chains of an image.
    """

    images: Tensor
    trace: Trace
    bound: Tensor


@torch.no_grad()
def complete(
    model: DRAW,
    x: Float[Tensor, "batch channels height width"],
    known: Bool[Tensor, "..."],
    *,
    y: Int64[Tensor, " batch"] | None = None,
    n: int = 1,
    rounds: int = 24,
    chains: int = 8,
    fill: Literal["sample", "mean"] | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Completion:
    """Fill in the hidden pixels of images, several times each.

    The chains start from drawings from the prior, ``n * chains`` per image, and run at once.

    Args:
        model: The network.
        x: Images in [0, 1]. The values of hidden pixels do not matter.
        known: Which pixels are known; must broadcast to the shape of ``x``.
        y: The labels of the images, for a network with classes.
        n: How many completions to make of each image, each with its own chains.
        rounds: How many times to infer, draw and fill in.
        chains: How many chains to run for each completion.
        fill: Whether to fill in a sample of the pixels or their mean. By default a sample, unless
            ``x`` has grey values and the network is for black and white, which samples no grey.
        generator: Source of everything random, on the device of the model.
        progress: Called with "rounds", the number done, and the total.

    Raises:
        ValueError: If a number is less than 1, ``fill`` is none of these, ``x`` or ``known`` has
            the wrong type or shape, known pixels have values outside [0, 1] or NaN (checked on a
            CPU only), or the labels do not suit the network.
    """
    for name, number in (("n", n), ("rounds", rounds), ("chains", chains)):
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if fill not in ("sample", "mean", None):
        raise ValueError(f"fill must be sample, mean or None, got {fill!r}")
    shape, dtype = model.config.image_shape, model.canvas.dtype
    check_images(torch.zeros_like(x) if isinstance(x, Tensor) else x, shape, dtype)
    if y is not None and model.config.classes:
        check_labels(y, len(x), model.config.classes)
    known = _like(known, x)
    x = torch.where(known, x, 0)  # the values of hidden pixels do not matter
    check_images(x, shape, dtype, nan=False)
    many_x, many_known = (each.repeat_interleave(n * chains, 0) for each in (x, known))
    many_y = None if y is None else y.repeat_interleave(n * chains)

    drawn = model.generate(len(many_x), y=many_y, generator=generator, record="last")
    if fill is None:
        fill = "sample" if drawn.likelihood.is_code_length(x) else "mean"
    bounds = []
    images = torch.where(many_known, many_x, _filling(drawn, fill, generator))
    for number in range(1, rounds + 1):
        size = (model.config.glimpses, len(images), model.config.z_size)
        noise = torch.randn(size, generator=generator, dtype=x.dtype, device=x.device)
        drawn = model(images, y=many_y, noise=noise, record="last")
        weights = log_weight(many_x, drawn, many_known)
        bounds.append(weights.view(len(x), n * chains).logsumexp(1) - math.log(n * chains))
        if number < rounds:
            chosen = _by_weight(weights.view(-1, chains), chains, generator)
            filling = _filling(drawn, fill, generator)[chosen]
            images = torch.where(many_known, many_x, filling)
        if progress is not None:
            progress("rounds", number, rounds)

    # One chain of each completion is kept, and repeats its last drawing, this time fully recorded.
    chosen = _by_weight(weights.view(-1, chains), 1, generator)
    chosen_y = None if y is None else y.repeat_interleave(n)
    drawn = model(images[chosen], y=chosen_y, noise=noise[:, chosen])
    filling = _filling(drawn, fill, generator).unflatten(0, (len(x), n))
    return Completion(torch.where(known[:, None], x[:, None], filling), drawn, torch.stack(bounds))


def _filling(
    drawn: Trace, fill: Literal["sample", "mean"], generator: torch.Generator | None
) -> Tensor:
    canvas, likelihood = drawn.canvas[-1], drawn.likelihood
    filling = drawn.mean if fill == "mean" else likelihood.sample(canvas, generator)
    return filling.clamp(0, 1)  # a likelihood of your own may leave the range


def _by_weight(
    log_weights: Float[Tensor, "groups chains"], count: int, generator: torch.Generator | None
) -> Tensor:
    """The indices of ``count`` chains of each group, drawn in proportion to their weights."""
    chosen = torch.multinomial(log_weights.softmax(1), count, replacement=True, generator=generator)
    first = torch.arange(len(log_weights), device=chosen.device) * log_weights.shape[1]
    return (first[:, None] + chosen).flatten()


def _like(known: Tensor, x: Tensor) -> Tensor:
    if known.dtype != torch.bool:
        raise ValueError(f"known must be of type torch.bool, got {known.dtype}")
    try:
        return known.to(x.device).expand(x.shape)
    except RuntimeError as error:
        shapes = f"{tuple(x.shape)}, got {tuple(known.shape)}"
        raise ValueError(f"known must have a shape that broadcasts to {shapes}") from error


def hide(part: Part, height: int, width: int) -> Bool[Tensor, "{height} {width}"]:
    """The mask of known pixels when one part of an image is hidden, for `complete`.

    Args:
        part: What to hide: one half of the image, or its ``centre``, half as high and half as wide
            as the image.
        height: Height of the image.
        width: Width of the image.

    Raises:
        ValueError: If the part is none of these.
    """
    rows, columns = slice(None), slice(None)
    match part:
        case "left":
            columns = slice(width // 2)
        case "right":
            columns = slice(width - width // 2, width)
        case "top":
            rows = slice(height // 2)
        case "bottom":
            rows = slice(height - height // 2, height)
        case "centre":
            rows = slice(height // 4, height - height // 4)
            columns = slice(width // 4, width - width // 4)
        case _:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    known = torch.ones(height, width, dtype=torch.bool)
    known[rows, columns] = False
    return known


def hide_at_random(
    share: float, height: int, width: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "{height} {width}"]:
    """The mask of known pixels when a random share of all pixels is hidden, for `complete`.

    Args:
        share: What share to hide, from 0 to 1; rounded to a whole number of pixels.
        height: Height of the image.
        width: Width of the image.
        generator: Decides which pixels are hidden; on the CPU.

    Raises:
        ValueError: If the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    order = torch.randperm(height * width, generator=generator)
    return (order >= round(share * height * width)).view(height, width)
