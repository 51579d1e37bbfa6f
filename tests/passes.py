"""What a network gives for a batch, forward and backward, and how two such results differ."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from drawnet import DRAW
from drawnet.objective import elbo, kl


def losses(model: DRAW, x: Tensor, eps: Tensor, scale: float = 1.0) -> Tensor:
    """-elbo and KL of each image, ``(2, B)``."""
    trace = model(x, noise=eps, record="last")
    return scale * torch.stack([-elbo(x, trace), kl(trace).sum(0)])


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def step(function: Callable[..., Tensor], model: torch.nn.Module, *args: Any) -> dict[str, Tensor]:
    """What a function gives for a batch, and the gradient of every parameter."""
    model.zero_grad()
    found = function(model, *args)
    found[0].mean().backward()
    return {"losses": found.detach(), **gradients(model)}


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative error of any of the tensors, each measured by its norm, or NaN."""
    assert found.keys() == expected.keys()
    errors = [
        (found[name].cpu() - tensor.cpu()).norm() / tensor.cpu().norm().clamp(min=1e-9)
        for name, tensor in expected.items()
    ]
    return float(torch.stack(errors).max())
