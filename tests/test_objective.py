"""The bounds, against `torch.distributions` and against models whose likelihood is known."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from oracle import log_normal as papers_log_normal
from tiny import B, C, H, T, W, Z, images, noise, seeded, tiny_model
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from drawnet import Trace
from drawnet import likelihood as likelihoods
from drawnet.objective import (
    elbo,
    importance_weighted_bound,
    kl,
    log_likelihood,
    log_weight,
    training_loss,
)


def some_trace(prior: bool) -> Trace:
    names = ["mu", "log_sigma"] + ["prior_mu", "prior_log_sigma"] * prior
    draws = torch.randn(len(names) + 1, T, B, Z, generator=seeded(4)).unbind()
    canvas = 3 * torch.randn(T, B, C, H, W, generator=seeded(5))
    return Trace(canvas, draws[0], **dict(zip(names, draws[1:], strict=True)))


def distributions(trace: Trace) -> tuple[Normal, Normal]:
    """Q and P."""
    q = Normal(trace.mu, trace.log_sigma.exp())
    if trace.prior_mu is None or trace.prior_log_sigma is None:
        return q, Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale))
    return q, Normal(trace.prior_mu, trace.prior_log_sigma.exp())


@pytest.mark.parametrize("prior", [False, True])
def test_kl(prior: bool) -> None:
    trace = some_trace(prior)
    assert kl(trace).shape == (T, B)
    torch.testing.assert_close(kl(trace), kl_divergence(*distributions(trace)).sum(-1))


def test_kl_of_the_prior_from_itself_is_zero() -> None:
    trace = some_trace(prior=True)
    same = replace(trace, mu=trace.prior_mu, log_sigma=trace.prior_log_sigma)
    torch.testing.assert_close(kl(same), torch.zeros(T, B), rtol=0, atol=1e-14)
    zeros = torch.zeros(T, B, Z)
    assert torch.equal(kl(Trace(trace.canvas, zeros, zeros, zeros)), torch.zeros(T, B))


def test_log_likelihood() -> None:
    canvas = some_trace(prior=False).canvas[-1]
    binary = images().round()
    expected = Bernoulli(logits=canvas).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(log_likelihood(binary, canvas), expected)
    grey = images()  # the paper's cross-entropy of intensities
    p = torch.sigmoid(canvas)
    expected = (grey * p.log() + (1 - grey) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(log_likelihood(grey, canvas), expected)


@pytest.mark.parametrize("likelihood", [likelihoods.Bernoulli(), likelihoods.Logistic()])
@pytest.mark.parametrize("shape", [(B, 1, H, W), (1, C, H, W)])
def test_a_canvas_of_other_images_is_refused(
    likelihood: likelihoods.Likelihood, shape: tuple[int, ...]
) -> None:
    canvas = torch.zeros(B, likelihood.planes * C, H, W)
    with pytest.raises(ValueError, match="canvas must be"):
        log_likelihood(torch.zeros(shape), canvas, likelihood)


@pytest.mark.parametrize("shape", [(1, 2 * C, H, W), (B, 2 * C, 1, 1), (B, C, H, W)])
def test_a_canvas_does_not_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="canvas must be"):
        log_likelihood(images(), torch.zeros(shape), likelihoods.Logistic())


def test_a_blank_canvas_costs_a_bit_a_pixel() -> None:
    x = images(B, (1, 28, 28)).round()
    expected = torch.full((B,), -784 * math.log(2))
    assert expected[0].item() == pytest.approx(-543.427, abs=1e-3)
    torch.testing.assert_close(log_likelihood(x, torch.zeros_like(x)), expected)


@pytest.mark.parametrize("prior", [False, True])
def test_elbo_is_likelihood_minus_divergence(prior: bool) -> None:
    x, trace = images(), some_trace(prior)
    q, p = distributions(trace)
    expected = log_likelihood(x, trace.canvas[-1]) - kl_divergence(q, p).sum((0, 2))
    torch.testing.assert_close(elbo(x, trace), expected)


@pytest.mark.parametrize("prior", [False, True])
def test_log_weight_is_likelihood_plus_prior_minus_posterior(prior: bool) -> None:
    x, trace = images(), some_trace(prior)
    q, p = distributions(trace)
    at_z = (p.log_prob(trace.z) - q.log_prob(trace.z)).sum((0, 2))
    expected = log_likelihood(x, trace.canvas[-1]) + at_z
    torch.testing.assert_close(log_weight(x, trace), expected)


@pytest.mark.parametrize("prior", [False, True])
def test_what_is_minimised_is_minus_the_elbo_by_default(prior: bool) -> None:
    x, trace = images(), some_trace(prior)
    torch.testing.assert_close(training_loss(x, trace), -elbo(x, trace).mean())
    training_loss(x, trace, over_processes=pytest.fail)  # no process waits for another


def test_the_kl_has_a_weight() -> None:
    x, trace = images(), some_trace(prior=True)
    nll = -log_likelihood(x, trace.canvas[-1]).mean()
    for weight in (0.0, 0.3):
        expected = nll + weight * kl(trace).sum(0).mean()
        torch.testing.assert_close(training_loss(x, trace, kl_weight=weight), expected)


def test_free_bits_are_not_taken_away() -> None:
    """What lies below has no gradient; what lies above has the whole one, and costs all it has."""
    x, trace = images(), some_trace(prior=False)
    scale = torch.linspace(0.1, 1, T).view(T, 1, 1)
    mu = (scale * trace.mu).requires_grad_()
    trace = replace(trace, mu=mu, log_sigma=scale * trace.log_sigma)
    each = kl(trace).mean(1)
    free = each.detach().median().item() + 1e-3
    below = each.detach() < free
    assert below.any()
    assert not below.all()
    loss = training_loss(x, trace, kl_weight=0.7, free_bits=free)
    paid = each[~below].sum() + below.sum() * free
    expected = 0.7 * paid - log_likelihood(x, trace.canvas[-1]).mean()
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, mu, retain_graph=True)
    (whole,) = torch.autograd.grad(0.7 * each.sum(), mu)
    assert (gradient[below] == 0).all()
    torch.testing.assert_close(gradient[~below], whole[~below])


def test_processes_that_share_a_batch_agree_on_what_is_free() -> None:
    """Each sees a part of the batch, and the mean of their gradients is that of the whole."""
    x, trace = images(4), some_trace(prior=False)
    trace = Trace(*(fact[:, :4] for fact in (trace.canvas, trace.z, trace.mu, trace.log_sigma)))
    mu = (trace.mu * torch.arange(1.0, 5.0)[:, None]).requires_grad_()
    trace = replace(trace, mu=mu)
    means = kl(trace).detach().mean(1)
    free = means.median().item() + 1e-3
    whole = torch.autograd.grad(training_loss(x, trace, free_bits=free), mu)[0]
    parts = []
    for part in (slice(0, 2), slice(2, 4)):
        facts = (trace.canvas, trace.z, mu, trace.log_sigma)
        own = Trace(*(fact[:, part] for fact in facts))
        alone = kl(own).detach().mean(1) < free
        assert not torch.equal(alone, means < free), "alone they would disagree"
        loss = training_loss(x[part], own, free_bits=free, over_processes=lambda _: means)
        in_place = training_loss(
            x[part], own, free_bits=free, over_processes=lambda alone: alone.copy_(means)
        )
        torch.testing.assert_close(in_place, loss)
        parts.append(torch.autograd.grad(loss, mu)[0])
    torch.testing.assert_close((parts[0] + parts[1]) / 2, whole)


class Toy:
    """A model of binary images in which log p(x) is known, with any Gaussian for Q.

    The canvas is ``offset + slope s`` with s = sum of all z_tk, so that under P s ~ N(0, T Z), and
    log p(x) is an integral over one number.
    """

    GLIMPSES, Z = 3, 2

    def __init__(self, mu: float, log_sigma: float) -> None:
        self.mu, self.log_sigma = mu, log_sigma
        self.offset = 0.3 * torch.randn(1, 4, 5, generator=seeded(8))
        self.slope = 0.4 * torch.randn(1, 4, 5, generator=seeded(9))
        self.traces: list[Trace] = []

    def __call__(self, x: Tensor, *, generator: torch.Generator | None = None, **_: Any) -> Trace:
        like = x.new_ones(self.GLIMPSES, len(x), self.Z)
        mu, log_sigma = self.mu * like, self.log_sigma * like
        z = mu + log_sigma.exp() * torch.randn(like.shape, generator=generator)
        canvas = self.offset + self.slope * z.sum((0, 2))[:, None, None, None]
        self.traces.append(Trace(canvas[None], z, mu, log_sigma))
        return self.traces[-1]

    def log_p(self, x: Tensor) -> Tensor:
        """log p(x) by the trapezoid rule, which is exact to rounding for such an integrand."""
        variance = self.GLIMPSES * self.Z
        s = torch.linspace(-40, 40, 8001)
        canvas = self.offset + self.slope * s[:, None, None, None]
        log_prior = -s.square() / 2 / variance - math.log(2 * math.pi * variance) / 2
        terms = [log_likelihood(image.expand_as(canvas), canvas) + log_prior for image in x]
        return torch.stack(terms).logsumexp(1) + math.log(0.01)


def toy_images(batch: int) -> Tensor:
    return torch.rand(batch, 1, 4, 5, generator=seeded(10)).round()


def test_bounds_rise_from_the_elbo_to_the_log_likelihood() -> None:
    toy, x, repeats = Toy(mu=0.1, log_sigma=-0.1), toy_images(1), 4000
    truth = toy.log_p(x).item()
    many = x.expand(repeats, -1, -1, -1)
    values = [
        elbo(many, toy(many, generator=seeded(9))),
        *(importance_weighted_bound(toy, many, k, seeded(k), chunk=2**16) for k in (1, 4, 16, 64)),
    ]
    means = [value.mean().item() for value in values]
    errors = [value.std().item() / math.sqrt(repeats) for value in values]
    assert abs(means[0] - means[1]) < 3 * math.hypot(errors[0], errors[1])  # the same expectation
    for k in (1, 2, 3):
        assert means[k + 1] - means[k] > 5 * math.hypot(errors[k], errors[k + 1])
    assert truth - means[0] > 0.5
    assert truth - means[3] > 3 * errors[3]
    assert -3 * errors[4] < truth - means[4] < 0.03


def test_weights_average_to_the_likelihood() -> None:
    toy, x = Toy(mu=0.1, log_sigma=0.1), toy_images(3)
    bound = importance_weighted_bound(toy, x, 100_000, seeded(3), chunk=30_000)
    torch.testing.assert_close(bound, toy.log_p(x), rtol=0, atol=0.01)


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_every_bound_is_tight_where_the_latents_mean_nothing(samples: int) -> None:
    toy, x = Toy(mu=0.0, log_sigma=0.0), toy_images(B)
    toy.slope = torch.zeros_like(toy.slope)
    truth = log_likelihood(x, toy.offset.expand_as(x))
    torch.testing.assert_close(toy.log_p(x), truth)
    torch.testing.assert_close(importance_weighted_bound(toy, x, samples), truth)
    torch.testing.assert_close(elbo(x, toy(x)), truth)


def test_importance_weights_image_by_image_and_sample_by_sample() -> None:
    """However the chains are split into chunks, the bound is that of all of them."""
    toy, x, samples = Toy(mu=0.2, log_sigma=-0.3), toy_images(B), 7
    bound = importance_weighted_bound(toy, x, samples, seeded(2), chunk=3 * B)
    log_w: list[list[float]] = [[] for _ in x]
    for trace in toy.traces:
        for row in range(trace.z.shape[1]):
            image = row % B
            value = -torch.nn.functional.binary_cross_entropy_with_logits(
                trace.canvas[-1, row], x[image], reduction="sum"
            ).item()
            for t in range(Toy.GLIMPSES):
                for k in range(Toy.Z):
                    z, mu, s = (f[t, row, k].item() for f in (trace.z, trace.mu, trace.log_sigma))
                    value += papers_log_normal(z, 0, 0) - papers_log_normal(z, mu, s)
            log_w[image].append(value)
    assert [len(values) for values in log_w] == [samples] * B
    expected = [math.log(sum(map(math.exp, values)) / samples) for values in log_w]
    torch.testing.assert_close(bound, torch.tensor(expected))


def test_the_importance_weighted_bound_replays() -> None:
    model, x = tiny_model(), images()
    one, again = (importance_weighted_bound(model, x, 3, seeded(5)) for _ in range(2))
    assert one.shape == (B,)
    assert torch.equal(one, again)


def test_the_gradient_of_an_importance_weighted_bound() -> None:
    """It is that of log w_k averaged in proportion to w_k (Burda et al., 2016), however split."""
    model, x, samples = tiny_model(), images(), 3
    importance_weighted_bound(model, x, samples, seeded(5), chunk=B).sum().backward()
    gradient = [parameter.grad for parameter in model.parameters()]
    generator = seeded(5)
    log_w = torch.stack([log_weight(x, model(x, generator=generator)) for _ in range(samples)])
    expected = torch.autograd.grad(
        (log_w.softmax(0).detach() * log_w).sum(), list(model.parameters())
    )
    torch.testing.assert_close(gradient, list(expected))


def test_one_sample_at_least() -> None:
    with pytest.raises(ValueError, match="samples must be >= 1, got 0"):
        importance_weighted_bound(tiny_model(), images(), 0)
    with pytest.raises(ValueError, match="x must hold at least one image, got none"):
        importance_weighted_bound(tiny_model(), images()[:0], 1)
    with pytest.raises(ValueError, match="chunk must be >= 1, got 0"):
        importance_weighted_bound(tiny_model(), images(), 1, chunk=0)


def test_far_away_latents_do_not_overflow_the_weights() -> None:
    toy = Toy(mu=30.0, log_sigma=-2.0)  # every weight is about exp(-2700)
    bound = importance_weighted_bound(toy, toy_images(3), 4, seeded(1))
    assert torch.isfinite(bound).all()
    assert (bound < -1000).all()


def confident(x: Tensor) -> Tensor:
    return torch.where(x > 0.5, 200.0, -200.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("guess", "nats"), [(confident, 0.0), (lambda x: -confident(x), 200.0)])
def test_a_saturated_canvas_has_a_finite_price(
    dtype: torch.dtype, guess: Callable[[Tensor], Tensor], nats: float
) -> None:
    x = images().round().to(dtype)
    canvas = guess(x).to(dtype).requires_grad_()
    price = -log_likelihood(x, canvas)
    price.sum().backward()
    torch.testing.assert_close(price, torch.full_like(price, nats * C * H * W))
    assert torch.isfinite(canvas.grad).all()


def test_losses_are_per_image() -> None:
    """Neither summed nor averaged over the batch, in any of their terms."""
    model, x, eps = tiny_model(prior="learned"), images(), noise()
    together = elbo(x, model(x, noise=eps))
    for k in range(B):
        alone = elbo(x[k : k + 1], model(x[k : k + 1], noise=eps[:, k : k + 1]))
        torch.testing.assert_close(alone[0], together[k])
