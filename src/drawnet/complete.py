r"""Complete images of which a part is hidden: what may be there, given what is known.

A network that knows p(x) knows of all that may be hidden in x, but how likely each is given the
known pixels it can only be asked a step at a time. A Markov chain does that (Rezende et al.,
"Stochastic Backpropagation and Approximate Inference in Deep Generative Models", 2014): fill the
hidden pixels with anything, infer the latents of the whole image, draw, put the hidden pixels of
the drawing in, and again,

    z ~ Q(Z | known, hidden)        hidden ~ D(X | c_T(z))

If Q were the posterior this would be Gibbs sampling from p(z, hidden | known). It is only near, and
a chain may stay for long with what it began with. So several chains run side by side. After each
round their latents are weighed by how well they explain what is known, and those to go on with are
drawn in proportion to their weights:

    w_k = D(known | c_T(z_k)) P(z_k) / Q(z_k | known, hidden_k)

Whatever hidden_k is, w_k averages to p(known) over Q. So the mean of the weights estimates it
without bias, its logarithm is a lower bound on log p(known) in expectation, as in Burda et al.
(2016), and latents drawn by weight come from p(z | known) in the limit of many chains, in any
round: importance sampling for missing data, as in Mattei and Frellsen, "MIWAE" (2019), with
proposals that begin where good ones ended, the population Monte Carlo of Cappé et al. (2004). With
one chain it is the Markov chain alone.
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
    """Images completed, and how.

    Attributes:
        images: ``(B, n, C, H, W)``: what is known as it was given, and the rest filled in.
        trace: Of the drawings that filled it in: drawing j of image i is number ``i * n + j``.
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
    """Fill in what is hidden of images, several times each.

    It begins with drawings from the prior, and runs ``n * chains`` chains an image at once.

    Args:
        model: The network.
        x: Images in [0, 1]. Of hidden pixels the values do not matter.
        known: Which pixels are known, of a shape that broadcasts to that of ``x``.
        y: The labels of the images, for a network of several classes.
        n: How many completions of each image, each by chains of its own.
        rounds: How often to infer, draw and fill in.
        chains: How many chains there are for each completion.
        fill: Whether to fill in a sample of the pixels or their mean; by default a sample, unless
            ``x`` has grey values, of which a network for black and white makes none.
        generator: Source of everything random, on the device of the model.
        progress: Called with "rounds", those done, and their number.

    Raises:
        ValueError: If a number is less than 1, or ``x`` or ``known`` has another type or shape.
    """
    for name, number in (("n", n), ("rounds", rounds), ("chains", chains)):
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if fill not in ("sample", "mean", None):
        raise ValueError(f"fill must be sample, mean or None, got {fill!r}")
    unseen = x.new_zeros(()).expand(x.shape)  # the values of hidden pixels do not matter
    check_images(unseen, model.config.image_shape, model.canvas.dtype)
    if y is not None and model.config.classes:
        check_labels(y, len(x), model.config.classes)
    known = _like(known, x)
    x = torch.where(known, x, 0)
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
        bounds.append(weights.view(len(x), -1).logsumexp(1) - math.log(n * chains))
        if number < rounds:
            chosen = _by_weight(weights.view(-1, chains), chains, generator)
            filling = _filling(drawn, fill, generator)[chosen]
            images = torch.where(many_known, many_x, filling)
        if progress is not None:
            progress("rounds", number, rounds)

    # One chain is left of those of each completion, and draws once more as it did, on record.
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
    return filling.clamp(0, 1)  # a likelihood of one's own may know no bounds


def _by_weight(
    log_weights: Float[Tensor, "groups chains"], count: int, generator: torch.Generator | None
) -> Tensor:
    """The numbers of so many chains of each group, drawn in proportion to their weights."""
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
    """Which pixels are known when a part of an image is hidden, to give to `complete`.

    Args:
        part: What is hidden: one half of the image, or its ``centre``, half as high and half as
            wide as the image.
        height: Of the image.
        width: Of the image.

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
    """Which pixels are known when a share of them is hidden, here and there.

    Args:
        share: From 0 to 1; rounded to a whole number of pixels.
        height: Of the image.
        width: Of the image.
        generator: Which pixels it is; on the CPU.

    Raises:
        ValueError: If the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    order = torch.randperm(height * width, generator=generator)
    return (order >= round(share * height * width)).view(height, width)
