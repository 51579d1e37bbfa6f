"""Walk through the latents: from one image to another, and from a few latents to many drawings.

A drawing is determined by a chain of standard normal numbers, one vector per glimpse: z_t itself if
the prior is N(0, I), or (z_t - prior mean) / prior sigma if it is learned. `noise_of` finds the
chain that redraws a given image, and `DRAW.generate` draws any chain. So to change a drawing,
change its chain: mix it with another (`interpolate`) or keep only its beginning (`redraw`,
`transmit`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cosine_similarity

from drawnet.model import DRAW, Trace
from drawnet.objective import elbo, kl


def noise_of(trace: Trace) -> Float[Tensor, "glimpses batch z"]:
    """The standard normal numbers behind a trace: ``model.generate(B, noise=...)`` redraws it."""
    if trace.prior_mu is None or trace.prior_log_sigma is None:
        return trace.z
    return (trace.z - trace.prior_mu) * torch.exp(-trace.prior_log_sigma)


@torch.no_grad()
def interpolate(
    model: DRAW,
    start: Float[Tensor, "channels height width"],
    end: Float[Tensor, "channels height width"],
    *,
    steps: int = 11,
    y: Int64[Tensor, "2"] | None = None,
) -> Trace:
    """Drawings on the way from one image to another.

    The chain of each image comes from the means of Q. The chains between them lie on the great
    circle from one to the other: this is spherical interpolation, or slerp. A straight line would
    pass through chains of smaller norm than the prior gives, and these make dull drawings.

    Args:
        model: The model that draws.
        start: An image, in [0, 1].
        end: Another image.
        steps: How many drawings, >= 2; the first is of ``start``, the last of ``end``.
        y: The labels of the two images, for a network with classes. Each drawing has the label of
            the nearer image.

    Returns:
        The trace of a batch of ``steps`` drawings.

    Raises:
        ValueError: If ``steps`` is less than 2, or the images or labels do not suit the network.
    """
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    if start.shape != end.shape:
        shapes = f"{tuple(start.shape)} and {tuple(end.shape)}"
        raise ValueError(f"start and end must have the same shape, got {shapes}")
    config = model.config
    pair = torch.stack([start, end])
    trace = model(pair, y=y, noise=pair.new_zeros(config.glimpses, 2, config.z_size))
    mean = noise_of(trace)
    one, other = mean[:, :1], mean[:, 1:]
    cosine = cosine_similarity(one.flatten(), other.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    share = torch.linspace(0, 1, steps, dtype=mean.dtype, device=mean.device)[:, None]
    between = torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * other
    labels = None if trace.y is None else trace.y[(share[:, 0] > 0.5).long()]
    return model.generate(steps, y=labels, noise=between / torch.sin(angle))


@torch.no_grad()
def redraw(
    model: DRAW, trace: Trace, keep: int, *, n: int = 1, generator: torch.Generator | None = None
) -> Trace:
    """Drawings that begin like those of a trace and end differently.

    Args:
        model: The model that made the trace.
        trace: What it drew, with T glimpses.
        keep: How many glimpses to keep, from 0 to T. The latents of the others are sampled afresh
            from the prior.
        n: How many drawings to make of each, >= 1.
        generator: Source of the fresh latents.

    Returns:
        The trace of B * n drawings: drawing j of image i is number ``i * n + j``.

    Raises:
        ValueError: If ``keep`` or ``n`` is out of its range.
    """
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    chain = noise_of(trace).repeat_interleave(n, dim=1)
    _check_keep(keep, len(chain))
    y = None if trace.y is None else trace.y.repeat_interleave(n)
    return model.generate(chain.shape[1], y=y, noise=_begin(chain, _fresh(chain, generator), keep))


class Transmission(NamedTuple):
    """Pictures drawn from the first latents of images, and what it costs to send these.

    Attributes:
        keep: How many glimpses were sent, K numbers.
        pictures: ``(K, B, C, H, W)``, in [0, 1].
        nats: ``(K, B)``: the sum of the KL of the glimpses sent.
    """

    keep: tuple[int, ...]
    pictures: Tensor
    nats: Tensor


@torch.no_grad()
def transmit(
    model: DRAW, trace: Trace, keep: Sequence[int], *, generator: torch.Generator | None = None
) -> Transmission:
    """Progressive compression: what images look like when only their first latents are sent.

    The receiver samples the other latents from the prior, once for all numbers of glimpses, so that
    from one number to the next a picture changes only because of what was sent. The cost of sending
    z_1 to z_k is the sum of their KL divergences, which bits-back coding attains.

    Args:
        model: The model that made the trace.
        trace: What the model made of the images, ``model(x)``, with T glimpses. (In the trace of
            drawings from the prior, latents cost nothing.)
        keep: The numbers of glimpses to send, at least one, each from 0 to T.
        generator: Source of the other latents.

    Raises:
        ValueError: If ``keep`` is empty, or a number in it is out of its range.
    """
    chain = noise_of(trace)
    if len(keep) == 0:
        raise ValueError("keep must name at least one number of glimpses, got none")
    for number in keep:
        _check_keep(number, len(chain))
    fresh = _fresh(chain, generator)
    chains = torch.cat([_begin(chain, fresh, number) for number in keep], dim=1)
    y = None if trace.y is None else trace.y.repeat(len(keep))
    drawn = model.generate(chains.shape[1], y=y, noise=chains, record="last")
    cost = kl(trace)
    nats = torch.stack([cost[:number].sum(0) for number in keep])
    return Transmission(tuple(keep), drawn.mean.unflatten(0, (len(keep), -1)), nats)


@torch.no_grad()
def likeliest_labels(
    model: DRAW,
    x: Float[Tensor, "batch channels height width"],
    *,
    generator: torch.Generator | None = None,
    glimpses: int | None = None,
) -> Int64[Tensor, " batch"]:
    """The label under which each image has the highest bound on log p(x | y).

    So a network that draws by class can also classify, if all classes are equally frequent. The
    noise is the same for all labels.

    Args:
        model: A network with classes.
        x: Images with values in [0, 1].
        generator: Source of the noise.
        glimpses: Length of the chain; by default ``config.glimpses``.

    Raises:
        ValueError: If the network has no classes, or the images do not suit it.
    """
    config = model.config
    if config.classes == 0:
        raise ValueError("model must draw by class, got one without classes")
    length = config.glimpses if glimpses is None else glimpses
    shape = (length, len(x), config.z_size)
    like = model.canvas
    noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    bounds = [
        elbo(x, model(x, y=torch.full((len(x),), label), noise=noise, record="last"))
        for label in range(config.classes)
    ]
    return torch.stack(bounds).argmax(0)


def _begin(chain: Tensor, fresh: Tensor, keep: int) -> Tensor:
    return torch.cat([chain[:keep], fresh[keep:]])


def _fresh(chain: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(chain.shape, generator=generator, dtype=chain.dtype, device=chain.device)


def _check_keep(keep: int, glimpses: int) -> None:
    if not 0 <= keep <= glimpses:
        raise ValueError(f"keep must be from 0 to {glimpses} glimpses, got {keep}")
