"""Bounds over a set of images, against the objective batch by batch."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from tiny import C, H, T, W, levels, tiny_model
from torch import Tensor

from drawnet.data import Images
from drawnet.evaluate import evaluate
from drawnet.objective import importance_weighted_bound, kl, log_likelihood

COUNT, BATCH, LONGER, K, SEED = 11, 4, T + 1, 3, 5


def stored(x: Tensor) -> Images:
    return Images((x * 255).round().to(torch.uint8), None, "some", "test", "some")


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_bounds_are_means_over_the_images_with_their_standard_errors(prior: str) -> None:
    model, images = tiny_model(prior=prior), stored(levels(COUNT))
    said: list[tuple[str, int, int]] = []
    bound = evaluate(
        model,
        images,
        batch_size=BATCH,
        samples=K,
        glimpses=LONGER,
        seed=SEED,
        progress=lambda *told: said.append(told),
    )
    rest, spent, weighted = [], [], []
    for x, _, generator in images.in_order(BATCH, SEED):
        trace = model(x, generator=generator, glimpses=LONGER)
        rest.append(-log_likelihood(x, trace.canvas[-1]))
        spent.append(kl(trace))
        chain = partial(model, glimpses=LONGER)
        weighted.append(-importance_weighted_bound(chain, x, K, generator))
    each_kl = torch.cat(spent, 1).detach()
    nll_x, iw = torch.cat(rest).detach(), torch.cat(weighted)
    nats = nll_x + each_kl.sum(0)

    def stderr(values: Tensor) -> float:
        apart = (values - values.mean()).square().sum().item()
        return math.sqrt(apart / (COUNT - 1) / COUNT)

    assert bound.nats == pytest.approx(nats.mean().item())
    assert bound.stderr == pytest.approx(stderr(nats))
    assert bound.nll_x == pytest.approx(nll_x.mean().item())
    assert bound.kl == pytest.approx(each_kl.sum(0).mean().item())
    assert bound.kl_per_glimpse == pytest.approx(each_kl.mean(1).tolist())
    assert bound.iw_nats == pytest.approx(iw.mean().item())
    assert bound.iw_stderr == pytest.approx(stderr(iw))
    assert bound.each == pytest.approx(nats.tolist())
    assert bound.iw_each == pytest.approx(iw.tolist())
    assert (bound.samples, bound.count, bound.glimpses) == (K, COUNT, LONGER)
    assert said == [("images", done, COUNT) for done in (4, 8, 11)]


def test_one_sample_has_no_second_bound_and_one_image_no_standard_error() -> None:
    bound = evaluate(tiny_model(), stored(levels(1)))
    assert bound.iw_nats is bound.iw_stderr is bound.iw_each is None
    assert bound.stderr == math.inf


def test_a_grey_image_among_others_is_no_code_length() -> None:
    x = levels(COUNT).round()
    assert evaluate(tiny_model(), stored(x), batch_size=BATCH).code_length
    for grey in (0, COUNT - 1):
        mixed = x.clone()
        mixed[grey, 0, 0, 0] = 0.2
        assert not evaluate(tiny_model(), stored(mixed), batch_size=BATCH).code_length


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "expected images to evaluate on, got an empty set"),
        (2, {"samples": 0}, "samples must be >= 1, got 0"),
        (2, {"batch_size": 0}, "batch_size must be >= 1, got 0"),
    ],
)
def test_what_cannot_be_evaluated(count: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(tiny_model(), stored(torch.zeros(count, C, H, W)), **options)
