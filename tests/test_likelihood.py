"""What a canvas says of an image: probabilities, means and samples."""

import math
from typing import Any

import pytest
import torch
from oracle import mixed_mean, mixture, probability
from tiny import B, C, H, W, images, levels, seeded, tiny_model
from torch import Tensor

from drawnet.likelihood import LOG_SCALE_LIMIT, Bernoulli, Likelihood, Logistic
from drawnet.objective import bits_per_dimension, elbo, log_likelihood

EVERY_LEVEL = torch.arange(256, dtype=torch.float64) / 255
LIKELIHOODS = [Bernoulli(), Logistic(), Logistic(3)]


def some_canvas(likelihood: Likelihood, spread: float = 1.0) -> Tensor:
    shape = (B, likelihood.planes * C, H, W)
    return spread * torch.randn(shape, generator=seeded(5))


def of_every_level(likelihood: Logistic, canvas: Tensor) -> Tensor:
    """log P of the 256 intensities ``(256, *canvas)`` at every place of a canvas."""
    shape = (canvas.shape[0], canvas.shape[1] // likelihood.planes, *canvas.shape[2:])
    x = EVERY_LEVEL.to(canvas)[:, None, None, None, None].expand(256, *shape)
    return likelihood.log_prob(x, canvas.expand(256, *canvas.shape))


@pytest.mark.parametrize("components", [1, 2, 5])
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0, 1000.0])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-11), (torch.float32, 2e-3)])
def test_the_probabilities_of_all_intensities_sum_to_one(
    components: int, spread: float, dtype: torch.dtype, error: float
) -> None:
    likelihood = Logistic(components)
    log_p = of_every_level(likelihood, some_canvas(likelihood, spread).to(dtype))
    assert log_p.shape == (256, B, C, H, W)
    assert (log_p <= error).all()
    torch.testing.assert_close(
        log_p.exp().sum(0), torch.ones(B, C, H, W, dtype=dtype), rtol=0, atol=error
    )


@pytest.mark.parametrize("components", [1, 3])
def test_each_probability_is_the_share_of_the_mixture(components: int) -> None:
    likelihood = Logistic(components)
    canvas = some_canvas(likelihood)
    log_p, mean = of_every_level(likelihood, canvas), likelihood.mean(canvas)
    for place in ((0, 0, 0, 0), (1, 2, 10, 7), (4, 1, 5, 3)):
        image, *pixel = place
        parts = mixture(canvas[image].tolist(), tuple(pixel), C, components)
        expected = torch.tensor([probability(level, parts) for level in range(256)])
        torch.testing.assert_close(log_p[(slice(None), *place)].exp(), expected, rtol=1e-9, atol=0)
        assert mean[place].item() == pytest.approx(mixed_mean(parts))


@pytest.mark.parametrize("log_s", [-7.0, -4.0, 0.0])
@pytest.mark.parametrize(("level", "m"), [(100, 60.0), (1, -60.0), (254, 9.0)])
def test_what_is_far_away_has_its_price(level: int, m: float, log_s: float) -> None:
    """In a tail exp(-|x - m| / s) 2 sinh(1/255 s) is exact, and by far too small for a float."""
    s = math.exp(log_s)
    x = torch.tensor([[[level / 255]]], dtype=torch.float32)
    canvas = torch.tensor([[[m]], [[log_s]]], dtype=torch.float32)
    far = abs(2 * level / 255 - 1 - m) / s
    expected = -far + math.log(2 * math.sinh(1 / 255 / s))
    # With sigma not quite exponential: the tail holds where it is far enough
    rest = 0.0 if far > 40 else 2 * math.log1p(math.exp(-far))
    found = Logistic().log_prob(x, canvas).item()
    assert found == pytest.approx(expected - rest, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("m", [0.0, 1.0, -1.0, 1e3, -1e3, 1e30, -1e30])
@pytest.mark.parametrize("rest", [0.0, 50.0, -50.0, 1e30, -1e30])
def test_any_canvas_has_a_finite_price(components: int, m: float, rest: float) -> None:
    likelihood = Logistic(components)
    canvas = torch.full((1, likelihood.planes, 1, 1), rest, dtype=torch.float32)
    canvas[:, :components] = m
    canvas[:, -1:] = -rest if components > 1 else rest
    canvas.requires_grad_()
    log_p = of_every_level(likelihood, canvas)
    log_p.sum().backward()
    assert torch.isfinite(log_p).all()
    assert torch.isfinite(canvas.grad).all()
    assert 0 <= likelihood.mean(canvas).item() <= 1


@pytest.mark.parametrize("components", [1, 2])
def test_gradients_are_those_of_finite_differences(components: int) -> None:
    likelihood = Logistic(components)
    x = torch.tensor([0, 1, 77, 254, 255]).view(1, 1, 1, 5) / 255
    canvas = torch.randn(1, likelihood.planes, 1, 5, generator=seeded(6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: likelihood.log_prob(x, c), canvas)


def test_one_of_equal_components_is_as_good_as_all() -> None:
    one, many = Logistic(), Logistic(4)
    canvas = some_canvas(one)
    m, log_s = canvas.chunk(2, dim=1)
    copies = torch.cat([m.repeat(1, 4, 1, 1), log_s.repeat(1, 4, 1, 1)], dim=1)
    logits = torch.randn(B, 4 * C, H, W, generator=seeded(7))
    copies = torch.cat([copies, logits], dim=1)
    torch.testing.assert_close(many.log_prob(levels(), copies), one.log_prob(levels(), canvas))
    torch.testing.assert_close(many.mean(copies), one.mean(canvas))


def test_a_narrow_component_is_sure_of_its_level() -> None:
    for level in (0, 1, 128, 255):
        x = torch.full((1, 1, 1), level / 255)
        canvas = torch.stack([2 * x[0] - 1, torch.full_like(x[0], -LOG_SCALE_LIMIT)])
        assert Logistic().log_prob(x, canvas).exp().item() > 0.97


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_canvas_starts_as_the_mean_image(likelihood: Likelihood) -> None:
    mean = images(1)[0] * 0.5 + 0.25
    canvas = likelihood.start(mean)
    assert canvas.shape == (likelihood.planes * C, H, W)
    torch.testing.assert_close(likelihood.mean(canvas), mean)
    for blank in (torch.zeros(C, H, W), torch.ones(C, H, W)):
        assert torch.isfinite(likelihood.start(blank)).all()


def test_components_start_apart() -> None:
    m = Logistic(3).start(torch.full((C, H, W), 0.5)).view(3, 3, C, H, W)[0]
    assert (m[1:] > m[:-1]).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_are_as_frequent_as_probable(likelihood: Likelihood) -> None:
    number = 40_000
    canvas = some_canvas(likelihood)[:1, :, :1, :2]
    x = likelihood.sample(canvas.expand(number, *canvas.shape[1:]), seeded(8))
    assert x.shape == (number, C, 1, 2)
    found = torch.stack([(x * 255 == level).double().mean(0) for level in range(256)])
    if isinstance(likelihood, Logistic):
        p = of_every_level(likelihood, canvas)[:, 0].exp()
    else:
        p = torch.zeros(256, C, 1, 2)
        p[255] = likelihood.mean(canvas[0])
        p[0] = 1 - p[255]
    error = (p * (1 - p) / number).sqrt()
    assert ((found - p).abs() <= 5 * error + 3 / number).all()
    again = likelihood.sample(canvas.expand(number, *canvas.shape[1:]), seeded(8))
    assert torch.equal(x, again)


def test_whose_nats_are_a_code_length() -> None:
    grey, black_and_white = levels(), levels().round()
    assert Bernoulli().is_code_length(black_and_white)
    assert not Bernoulli().is_code_length(grey)
    assert Logistic().is_code_length(grey)


def test_bits_per_dimension() -> None:
    assert bits_per_dimension(C * H * W * math.log(256), (C, H, W)) == pytest.approx(8)


@pytest.mark.parametrize("changes", [{}, {"write_size": None}, {"components": 3}])
def test_a_new_network_knows_nothing_and_pays_about_eight_bits(changes: dict[str, Any]) -> None:
    """An image of noise costs 8 bits a number to those who know that it is, and here a bit more."""
    model = tiny_model(likelihood="logistic", **changes)
    model.reset_parameters()
    x = images().mul(255).round() / 255
    nats = -elbo(x, model(x, generator=seeded(1))).mean().item()
    assert 8 < bits_per_dimension(nats, (C, H, W)) < 9.5


def test_a_canvas_of_another_likelihood_is_refused() -> None:
    with pytest.raises(ValueError, match="canvas must be"):
        log_likelihood(levels(), some_canvas(Logistic()))
