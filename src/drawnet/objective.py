r"""How good a trace is: likelihoods, KL divergences and bounds, in nats per image.

A DRAW network is trained by the variational bound on the log-likelihood of an image x,

    log p(x) >= E_Q[ log D(x | c_T) - sum_t KL(Q(Z_t | h_enc_t) || P(Z_t)) ] = elbo = -(L^x + L^z)

Its negative is equation (12) of the paper: the nats that it takes to send the latents and then the
image. An `elbo` or a `log_likelihood` is better when it is higher.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from drawnet.likelihood import Bernoulli, Likelihood
from drawnet.model import Trace


def log_likelihood(
    x: Float[Tensor, "batch channels height width"],
    canvas: Float[Tensor, "batch planes height width"],
    likelihood: Likelihood = Bernoulli(),
    known: Bool[Tensor, "batch channels height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """log D(x | c_T), the -L^x of equation (9), in nats per image.

    Given the canvas, every pixel of every channel is independent of the others. By default it is a
    Bernoulli variable with the canvas as its logit. For values between 0 and 1 this is the paper's
    cross-entropy of intensities, which is not a code length.

    Args:
        x: Images with values in [0, 1].
        canvas: What was drawn, such as ``trace.canvas[-1]``.
        likelihood: The distribution of an image given a canvas, such as ``trace.likelihood``.
        known: Which pixels to count; all by default.

    Raises:
        ValueError: If the canvas does not have the shape that the images need.
    """
    batch, channels, height, width = x.shape
    expected = (batch, likelihood.planes * channels, height, width)
    if canvas.shape != expected:
        raise ValueError(f"canvas must be {expected}, got {tuple(canvas.shape)}")
    each = likelihood.log_prob(x, canvas)
    if known is not None:
        each = torch.where(known, each, 0)
    return each.flatten(1).sum(1)


def kl(trace: Trace) -> Float[Tensor, "glimpses batch"]:
    """KL(Q(Z_t | h_enc_t) || P(Z_t)), the terms of equation (10), in nats per image and glimpse.

    For P = N(0, I) it is 1/2 sum_k (mu_k^2 + sigma_k^2 - log sigma_k^2 - 1) over the dimensions k
    of z. So the constant of equation (11) is T |z| / 2, not T / 2.
    """
    mu, log_sigma = trace.mu, trace.log_sigma
    if trace.prior_mu is not None and trace.prior_log_sigma is not None:
        mu = (mu - trace.prior_mu) * torch.exp(-trace.prior_log_sigma)
        log_sigma = log_sigma - trace.prior_log_sigma
    return (mu.square() + torch.exp(2 * log_sigma) - 2 * log_sigma - 1).sum(-1) / 2


def elbo(x: Float[Tensor, "batch channels height width"], trace: Trace) -> Float[Tensor, " batch"]:
    """The variational bound on log p(x) with one sample of the latents, -(L^x + L^z) of (12)."""
    return log_likelihood(x, trace.canvas[-1], trace.likelihood) - kl(trace).sum(0)


def training_loss(
    x: Float[Tensor, "batch channels height width"],
    trace: Trace,
    *,
    kl_weight: float = 1.0,
    free_bits: float = 0.0,
    over_processes: Callable[[Tensor], Tensor] = lambda means: means,
) -> Float[Tensor, ""]:
    """What a training minimises: the mean of -elbo, equation (12), by default.

        L^x + beta sum_t max(lambda, KL_t)    with both averaged over the batch

    The two options are for latents that stay unused for long. A warm-up lets beta rise from 0 to 1,
    so that latents are free at first. With lambda > 0 the first lambda nats of each glimpse stay
    free: a KL below that is not pushed any lower (the free bits of Kingma et al., 2016, with one
    group of latents for each glimpse).

    Args:
        x: Images with values in [0, 1].
        trace: What the network did with them.
        kl_weight: beta.
        free_bits: lambda, in nats.
        over_processes: Averages numbers, in place or not, over the processes that share a batch.
            Called only if lambda > 0.
    """
    each = kl(trace).mean(1)
    if free_bits > 0:
        free = over_processes(each.detach().clone()) < free_bits
        each = torch.where(free, free_bits, each)
    log_d = log_likelihood(x, trace.canvas[-1], trace.likelihood)
    return kl_weight * each.sum() - log_d.mean()


def log_weight(
    x: Float[Tensor, "batch channels height width"],
    trace: Trace,
    known: Bool[Tensor, "batch channels height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """log p(x, z) / q(z | x) at the latents of the trace, whose exponential averages to p(x).

    Args:
        x: Images with values in [0, 1].
        trace: What the network made of them, or of other images with the same known pixels.
        known: Which pixels of ``x`` to count; all by default. The x in the formula is then only
            what is known.
    """
    log_q = log_normal(trace.z, trace.mu, trace.log_sigma)
    if trace.prior_mu is not None and trace.prior_log_sigma is not None:
        log_p = log_normal(trace.z, trace.prior_mu, trace.prior_log_sigma)
    else:
        log_p = log_normal(trace.z, torch.zeros_like(trace.z), torch.zeros_like(trace.z))
    log_d = log_likelihood(x, trace.canvas[-1], trace.likelihood, known)
    return log_d + (log_p - log_q).sum((0, -1))


def log_normal(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(z; mu, sigma^2), elementwise."""
    standard = (z - mu) * torch.exp(-log_sigma)
    return -standard.square() / 2 - log_sigma - math.log(2 * math.pi) / 2


def bits_per_dimension(nats: float, image_shape: tuple[int, int, int]) -> float:
    """Nats per image as bits per number of an image ``(C, H, W)``: nats / (C H W log 2)."""
    return nats / (math.prod(image_shape) * math.log(2))


CHAINS = 1024
"""How many chains an importance-weighted bound runs at a time."""


def importance_weighted_bound(
    model: Callable[..., Trace],
    x: Float[Tensor, "batch channels height width"],
    samples: int,
    generator: torch.Generator | None = None,
    chunk: int = CHAINS,
    y: Int64[Tensor, " batch"] | None = None,
) -> Float[Tensor, " batch"]:
    """The importance-weighted bound on log p(x) with K samples (Burda et al., 2016).

        log 1/K sum_k p(x, z_k) / q(z_k | x)    with z_k ~ q

    For K = 1 it is the variational bound, with the KL sampled too. Its expectation rises with K
    towards log p(x). To evaluate, call this under `torch.no_grad`: otherwise all K chains are kept
    for the backward pass of an importance-weighted autoencoder.

    Args:
        model: The network, or any function that is called like it, with images, ``generator`` and
            ``record`` (and ``y``, if given), and returns a `Trace`.
        x: Images with values in [0, 1].
        samples: K, >= 1.
        generator: Source of the noise, on the device of ``x``.
        chunk: How many chains to run at a time, >= 1, to limit the memory under `torch.no_grad`;
            but at least one for each image.
        y: The labels of the images, for a network with classes. The bound is then on log p(x | y).

    Raises:
        ValueError: If ``samples`` or ``chunk`` is less than 1, or there are no images.
    """
    for name, number in (("samples", samples), ("chunk", chunk)):
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if len(x) == 0:
        raise ValueError("x must hold at least one image, got none")
    total = x.new_full((len(x),), -math.inf)
    at_once = max(chunk // len(x), 1)
    done = 0
    while done < samples:
        k = min(at_once, samples - done)
        repeated = x.repeat(k, 1, 1, 1)
        labels = {} if y is None else {"y": y.repeat(k)}
        trace = model(repeated, generator=generator, record="last", **labels)
        log_weights = log_weight(repeated, trace).view(k, len(x))
        total = torch.logaddexp(total, log_weights.logsumexp(0))
        done += k
    return total - math.log(samples)
