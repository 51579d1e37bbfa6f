"""Networks of one's own: the page that shows how, run as it stands, and what it promises."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import ROOT, run
from PIL import Image
from tiny import CONFIG, B, images, noise

from drawnet import DRAW, data
from drawnet.complete import complete
from drawnet.evaluate import evaluate
from drawnet.fast import accelerate
from drawnet.objective import elbo, kl
from drawnet.weights import WeightsError


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's code leaves behind, with its folder as ``folder``."""
    folder = tmp_path_factory.mktemp("extend")
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {**run(ROOT / "docs" / "extend.md"), "folder": folder}


@pytest.mark.filterwarnings("ignore")  # of Lightning, on one process
def test_the_page_runs_as_it_stands(shown: dict[str, Any]) -> None:
    left = shown["folder"] / "runs" / "fading"
    assert sorted(path.name for path in left.glob("*.png")) == ["100.png", "200.png"]
    with Image.open(left / "200.png") as samples:
        assert samples.width == 4 * 28 * 4 + 3 * 4
    assert shown["model"].fade != 5.0, "it has learned"
    mnist = DRAW.from_pretrained("mnist").state_dict()
    begun = shown["begun"].state_dict()
    assert begun.keys() - mnist.keys() == {"fade"}
    assert all(torch.equal(begun[name], value) for name, value in mnist.items())


@pytest.mark.filterwarnings("ignore")  # of torch's own code
def test_a_step_of_ones_own_goes_where_the_step_goes(
    shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    model, x, eps = shown["FadingDRAW"](CONFIG), images().float(), noise().float()
    twin = copy.deepcopy(model)

    def gradient(model: DRAW) -> torch.Tensor:
        model.zero_grad()
        elbo(x, model(x, noise=eps)).sum().backward()
        grad: torch.Tensor = model.fade.grad
        return grad.clone()

    plain = gradient(model)
    assert plain != 0
    accelerate(model, compile="on", recompute=True, onednn=False)
    torch.testing.assert_close(gradient(model), plain)
    with torch.no_grad():
        before = twin(x, noise=eps).canvas
        model.fade.fill_(0.0)
        assert torch.equal(twin(x, noise=eps).canvas, before), "a copy is a copy"


def test_a_likelihood_of_ones_own_is_used_throughout(shown: dict[str, Any]) -> None:
    model = shown["GaussianDRAW"](CONFIG).double()
    x, eps = images(), noise()
    trace = model(x, noise=eps)
    expected = torch.distributions.Normal(trace.canvas[-1], 0.2).log_prob(x).flatten(1).sum(1)
    cost = (trace.mu**2 + trace.log_sigma.exp() ** 2 - 2 * trace.log_sigma - 1).sum((0, 2)) / 2
    torch.testing.assert_close(elbo(x, trace), expected - cost)
    assert torch.equal(trace.mean, trace.canvas[-1])
    digits = data.load("digits", "test").subset(torch.arange(8))
    torch.set_default_dtype(torch.float32)
    bound = evaluate(shown["GaussianDRAW"](), digits, glimpses=2)
    assert bound.bits_per_dim is None
    assert not bound.code_length
    done = complete(model, x, torch.tensor(True), n=2, rounds=2, chains=2)
    assert torch.equal(done.images[:, 0], x)


def test_a_prior_of_ones_own_is_judged_by_and_drawn_from(shown: dict[str, Any]) -> None:
    model = shown["ForeseeingDRAW"](replace(CONFIG, prior="learned")).double()
    torch.nn.init.normal_(model.prior_out.weight, std=0.1)
    x, eps = images(), noise()
    trace = model(x, noise=eps)
    assert trace.prior_mu is not None
    assert trace.prior_log_sigma is not None
    assert (trace.prior_mu[0] == 0).all()
    assert (trace.prior_mu[1:] != 0).all()
    q = torch.distributions.Normal(trace.mu, trace.log_sigma.exp())
    p = torch.distributions.Normal(trace.prior_mu, trace.prior_log_sigma.exp())
    torch.testing.assert_close(kl(trace), torch.distributions.kl_divergence(q, p).sum(2))
    elbo(x, trace).sum().backward()
    assert all(weight.grad.any() for weight in (*model.hidden.parameters(), model.prior_out.weight))
    drawn = model.generate(B, noise=eps)
    torch.testing.assert_close(drawn.z[1:], drawn.mu[1:] + drawn.log_sigma[1:].exp() * eps[1:])
    assert (drawn.mu[1:] != 0).all()


def test_a_likelihood_stays(shown: dict[str, Any]) -> None:
    """The step has it bound, and the loss would be that of another model."""
    with pytest.raises(AttributeError):
        DRAW(CONFIG).likelihood = shown["Gaussian"]()  # type: ignore[misc]


def test_weights_of_a_larger_network_are_not_those_of_the_smaller(
    shown: dict[str, Any], tmp_path: Path
) -> None:
    shown["FadingDRAW"](CONFIG).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="expected weights of a DRAW, got FadingDRAW"):
        DRAW.from_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="expected weights of a GaussianDRAW, got FadingDRAW"):
        shown["GaussianDRAW"].from_pretrained(tmp_path)
