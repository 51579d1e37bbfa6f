"""What a network makes lies where the network lies.

Checked on torch's meta device, which computes nothing but, as a GPU does, refuses to mix its
tensors with those of another device: so these tests stand in for one where there is none.
"""

from typing import Any

import pytest
import torch
from tiny import B, C, H, T, W, Z, tiny_model
from torch import Tensor

from drawnet import DRAW, objective
from drawnet.classify import GlimpseClassifier, nll, wrong
from drawnet.complete import complete
from drawnet.config import ClassifierConfig
from drawnet.explore import interpolate, likeliest_labels, noise_of, redraw, transmit

KINDS: list[dict[str, Any]] = [
    {},
    {"prior": "learned", "likelihood": "logistic", "components": 2},
    {"read_size": None, "write_size": None, "classes": 4},
]

each_kind = pytest.mark.parametrize("changes", KINDS)


def elsewhere(changes: dict[str, Any]) -> tuple[DRAW, Tensor, Tensor | None]:
    """A network, images, and the labels that it needs: these may come from the host."""
    model = tiny_model(**changes).to("meta")
    y = torch.zeros(B, dtype=torch.int64) if model.config.classes else None
    return model, torch.rand(B, C, H, W, device="meta"), y


@each_kind
def test_the_device_refuses_others(changes: dict[str, Any]) -> None:
    model, _, y = elsewhere(changes)
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(torch.rand(B, C, H, W), y=y)


@each_kind
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_step_of_training(changes: dict[str, Any], precision: torch.dtype | None) -> None:
    model, x, y = elsewhere(changes)
    model.precision = precision
    trace = model(x, y=y)
    loss = objective.training_loss(x, trace, kl_weight=0.5, free_bits=0.1)
    (loss - objective.elbo(x, trace).mean()).backward()
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())
    objective.importance_weighted_bound(model, x, 3, y=y)


@each_kind
def test_drawing(changes: dict[str, Any]) -> None:
    model, x, y = elsewhere(changes)
    given = torch.rand(2, B, Z, device="meta")
    trace = model.generate(B, y=y, z=given)
    assert trace.mean.is_meta
    assert trace.likelihood.sample(trace.canvas[-1]).is_meta
    known = torch.ones(H, W, dtype=torch.bool)  # from the host, as `hide` makes it
    assert complete(model, x, known, y=y, n=2, rounds=2, chains=3, fill="mean").images.is_meta


@each_kind
def test_walks_through_the_latents(changes: dict[str, Any]) -> None:
    model, x, y = elsewhere(changes)
    trace = model(x, y=y)
    assert noise_of(trace).is_meta
    assert redraw(model, trace, 2, n=2).mean.is_meta
    assert transmit(model, trace, [0, T]).pictures.is_meta
    assert interpolate(model, x[0], x[1], y=None if y is None else y[:2]).mean.is_meta
    if y is not None:
        assert likeliest_labels(model, x).is_meta


def test_a_classifier() -> None:
    model = GlimpseClassifier(ClassifierConfig((C, H, W), 3, 9, 4, 5)).to("meta")
    logits = model.logits(torch.rand(B, C, H, W, device="meta"))
    y = torch.zeros(B, dtype=torch.int64, device="meta")
    nll(logits, y).mean().backward()
    assert wrong(logits, y).is_meta
