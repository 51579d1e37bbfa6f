"""Learning from another search, against loops over images, places and glimpses."""

import math

import pytest
import torch
from torch import Tensor

from drawnet.classify import GlimpseClassifier, State, nll
from drawnet.config import ClassifierConfig
from drawnet.training import hindsight as module
from drawnet.training.hindsight import hindsight
from drawnet.training.tasks import Classifying, Given, searched

B, T = 44, 4
CONFIG = ClassifierConfig((2, 9, 12), glimpses=T, hidden_size=7, read_size=3, classes=3)
WEIGHT = 2.5


def classifier() -> GlimpseClassifier:
    model, generator = GlimpseClassifier(CONFIG), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def batch(size: int = B) -> tuple[Tensor, Tensor]:
    x = torch.rand(size, *CONFIG.image_shape, generator=torch.Generator().manual_seed(2))
    return x, torch.arange(size) % CONFIG.classes


def chain(model: GlimpseClassifier, x: Tensor, glimpses: int = T) -> list[State]:
    products = model.fuse()
    return model.look(products, x, model.initial_state(products, len(x)), glimpses)[0]


def searches(model: GlimpseClassifier, x: Tensor, y: Tensor) -> list[tuple[float, Tensor]]:
    """Loss and last window of each search of one image."""
    products, found = model.fuse(), []
    for across in (-0.55, 0.0, 0.55):
        for down in (-0.55, 0.0, 0.55):
            state = chain(model, x[None], 1)[1]
            place = torch.tensor([[across, down]])
            state = state._replace(window=torch.cat([place, state.window[:, 2:]], 1))
            for _ in range(T - 1):
                last = state.window[0, :2]
                state, _ = model.step(products, x[None], state)
            found.append((nll(state.answer[None], y[None]).item(), last))
    return found


@pytest.mark.parametrize(("wrong", "right"), [(-math.inf, math.inf), (1.35, 1.375)])
def test_windows_are_drawn_to_where_the_best_search_ended(
    monkeypatch: pytest.MonkeyPatch, wrong: float, right: float
) -> None:
    monkeypatch.setattr(module, "WRONG", wrong)
    monkeypatch.setattr(module, "RIGHT", right)
    model, (x, y) = classifier(), batch()
    states = chain(model, x)
    own = nll(states[-1].answer[None], y)
    expected, mended = 0.0, 0
    for b in own.argsort(descending=True)[: B // 8].tolist():
        loss, target = min(searches(model, x[b], y[b]), key=lambda search: search[0])
        if own[b] > wrong and loss < right and target.abs().max() < 1:
            mended += 1
            for state in states[1:T]:
                expected += (state.window[b, :2] - target).square().sum().item() / B
    assert mended > 0
    found = hindsight(model, model.fuse(), x, y, states)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_who_is_right_searches_no_more() -> None:
    model, (x, _) = classifier(), batch()
    with torch.no_grad():
        model.answer.bias[1] = 30
    y = torch.ones(B, dtype=torch.int64)
    assert hindsight(model, model.fuse(), x, y, chain(model, x)) == 0


def test_a_search_that_ended_nowhere_leaves_no_trace() -> None:
    """Windows so far away that the square of their distance is no number are not learned from."""
    model, (x, y) = classifier(), batch()
    with torch.no_grad():
        model.window.weight *= 1e200
    found = hindsight(model, model.fuse(), x, y, chain(model, x))
    assert found == 0
    found.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


@pytest.mark.parametrize("glimpses", [1, 2])
def test_a_search_of_two_glimpses_cannot_end(glimpses: int) -> None:
    model, (x, y) = classifier(), batch()
    assert hindsight(model, model.fuse(), x, y, chain(model, x, glimpses)) == 0


def test_of_a_small_batch_the_hardest_image_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRONG", -math.inf)
    monkeypatch.setattr(module, "RIGHT", math.inf)
    model, (x, y) = classifier(), batch(5)
    assert hindsight(model, model.fuse(), x, y, chain(model, x)) > 0


def test_where_a_search_ended_is_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows learn to go there; the search does not learn to come to them."""
    monkeypatch.setattr(module, "WRONG", -math.inf)
    monkeypatch.setattr(module, "RIGHT", math.inf)
    model, (x, y) = classifier(), batch()
    with torch.no_grad():
        states = chain(model, x)
    found = hindsight(model, model.fuse(), x, y, states)
    assert found > 0
    assert not found.requires_grad


def test_a_step_down_its_gradient_comes_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a matter of the windows: the layer that answers is not asked."""
    monkeypatch.setattr(module, "WRONG", -math.inf)
    monkeypatch.setattr(module, "RIGHT", math.inf)
    model, (x, y) = classifier(), batch()
    before = hindsight(model, model.fuse(), x, y, chain(model, x))
    before.backward()
    assert model.answer.weight.grad is None or not model.answer.weight.grad.any()
    assert model.window.bias.grad is not None
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    after = hindsight(model, model.fuse(), x, y, chain(model, x))
    assert after < before


def test_it_is_minimised_beside_the_cross_entropy_and_not_validated() -> None:
    model, (x, y) = classifier(), batch()
    given = Given(x, y, None, T)
    plain, seeking = Classifying(3), Classifying(3, hindsight=WEIGHT)
    logits, miss = searched(model, x, y, T)
    torch.testing.assert_close(logits, model.logits(x))
    (loss, means), (alone, same) = (task.minimised(model, given) for task in (seeking, plain))
    torch.testing.assert_close(loss, alone + WEIGHT * miss)
    torch.testing.assert_close(means, same)
    torch.testing.assert_close(*(t.losses(model, given) for t in (seeking, plain)))
    taught = [Classifying(3, teachers=[model], hindsight=weight) for weight in (0.0, WEIGHT)]
    losses = [task.minimised(model, given)[0] for task in taught]
    torch.testing.assert_close(losses[1], losses[0] + WEIGHT * miss)
