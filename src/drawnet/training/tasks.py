"""What a network is trained for: to draw images (`Drawing`), or to tell them apart (`Classifying`).

A task knows what is minimised and what is followed beside it. The rest of a training is the same
for all networks.
"""

from typing import Protocol

import torch
from torch import Tensor

from drawnet import objective
from drawnet.baselines import ConvNet
from drawnet.classify import Classifier, GlimpseClassifier, nll, wrong
from drawnet.config import DRAWConfig
from drawnet.data import Images
from drawnet.model import DRAW
from drawnet.recipe import NetworkConfig
from drawnet.weights import Pretrained

NETWORKS: dict[type, type[Pretrained]] = {
    network.Config: network for network in (DRAW, GlimpseClassifier, ConvNet)
}
"""The network of each configuration."""


class Task(Protocol):
    """What a training must know of its purpose.

    Attributes:
        beside: The name of what is followed beside the loss, a field of `Validation`.
    """

    beside: str

    def check(self, images: Images) -> None:
        """Raise a `ValueError` if these images do not do."""

    def noise(self, generator: torch.Generator, batch: int, glimpses: int) -> Tensor | None:
        """What is random in the network for a batch, ``(T, B, ...)``."""

    def losses(
        self, model: Pretrained, x: Tensor, y: Tensor | None, noise: Tensor | None, glimpses: int
    ) -> Tensor:
        """The loss of each image, and what is followed beside it: ``(2, B)``."""


class Drawing:
    """Maximise the variational bound: the loss is -elbo, beside it stands its KL divergence.

    Args:
        config: Of the network.
    """

    beside = "kl"

    def __init__(self, config: DRAWConfig) -> None:
        self.config = config

    def check(self, images: Images) -> None:
        """Any images do."""

    def noise(self, generator: torch.Generator, batch: int, glimpses: int) -> Tensor:
        """A standard normal sample, ``(T, B, Z)``."""
        shape = (glimpses, batch, self.config.z_size)
        return torch.randn(shape, generator=generator, device=generator.device)

    def losses(
        self, model: Pretrained, x: Tensor, y: Tensor | None, noise: Tensor | None, glimpses: int
    ) -> Tensor:
        """-elbo and KL of each image, in nats: ``(2, B)``."""
        trace = model(x, noise=noise, record="last")
        return torch.stack([-objective.elbo(x, trace), objective.kl(trace).sum(0)])


class Classifying:
    """Minimise the cross-entropy of the last answer; beside it stands how often it is wrong.

    Args:
        classes: How many answers the network has.
    """

    beside = "error"

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def check(self, images: Images) -> None:
        """There must be as many labels as the network has answers."""
        if len(images.classes) != self.classes:
            raise ValueError(
                f"model.classes must be {len(images.classes)}, as {images.name} has, "
                f"got {self.classes}"
            )

    def noise(self, generator: torch.Generator, batch: int, glimpses: int) -> None:
        """Nothing is random."""

    def losses(
        self, model: Pretrained, x: Tensor, y: Tensor | None, noise: Tensor | None, glimpses: int
    ) -> Tensor:
        """-log p(y | x) in nats, and 1 where the answer is wrong: ``(2, B)``."""
        assert isinstance(model, Classifier)
        assert y is not None
        if isinstance(model, GlimpseClassifier):
            logits = model.logits(x, glimpses=glimpses)
        else:
            logits = model.logits(x)
        return torch.stack([nll(logits, y), wrong(logits, y)[-1].to(logits)])


def task_of(config: NetworkConfig) -> Task:
    """What a network of this configuration is trained for."""
    return Drawing(config) if isinstance(config, DRAWConfig) else Classifying(config.classes)
