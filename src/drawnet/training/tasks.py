"""What a network is trained for: to draw images (`Drawing`), or to tell them apart (`Classifying`).

A task knows which loss to minimise and which second number to report beside it: the KL, or the
error. The rest of a training is the same for all networks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from drawnet import objective
from drawnet.baselines import ConvNet
from drawnet.classify import Classifier, GlimpseClassifier, mean_answer, nll, wrong
from drawnet.config import DRAWConfig
from drawnet.data import Images
from drawnet.graphs import graphed
from drawnet.model import DRAW, Trace
from drawnet.recipe import NetworkConfig, Recipe
from drawnet.training.hindsight import hindsight
from drawnet.weights import Pretrained, describe, locate

NETWORKS: dict[type, type[Pretrained]] = {
    network.Config: network for network in (DRAW, GlimpseClassifier, ConvNet)
}
"""The network of each configuration."""


def network_of(config: NetworkConfig) -> type[Pretrained]:
    """The class of network that a configuration is for."""
    return next(network for kind, network in NETWORKS.items() if isinstance(config, kind))


Teacher: TypeAlias = GlimpseClassifier | ConvNet
"""A network that is not trained itself, whose answers another network learns."""

Average: TypeAlias = Callable[[Tensor], Tensor]
"""A function that averages numbers over the processes that share a batch."""


def alone(numbers: Tensor) -> Tensor:
    """The `Average` of a process that has the whole batch."""
    return numbers


class Given(NamedTuple):
    """What a network is given at one step of training or validation."""

    x: Tensor  # images (B, C, H, W)
    y: Tensor | None  # their labels (B,)
    noise: Tensor | None  # from `Task.noise`
    glimpses: int  # T
    epochs: float = 0.0  # of training before this step
    redrawn: int = 0  # how many of the images, the first, to draw again
    generator: torch.Generator | None = None  # for what else is random


class Task(ABC):
    """What a training needs to know about its purpose.

    Attributes:
        beside: The name of the number reported beside the loss, a field of `Validation`.
        teachers: The networks that this one learns from.
    """

    beside: str
    teachers: Sequence[Teacher] = ()

    @abstractmethod
    def check(self, images: Images) -> None:
        """Raise a `ValueError` if these images do not suit the task."""

    @abstractmethod
    def noise(self, generator: torch.Generator, batch: int, glimpses: int) -> Tensor | None:
        """The noise that the network needs for a batch, ``(T, B, ...)``, or None."""

    @abstractmethod
    def losses(self, model: Pretrained, given: Given) -> Tensor:
        """The loss of each image, and the number reported beside it: ``(2, B)``."""

    def minimised(
        self, model: Pretrained, given: Given, average: Average = alone
    ) -> tuple[Tensor, Tensor]:
        """The loss that a training step minimises, and the means of `losses` over its batch."""
        means = self.losses(model, given).mean(1)
        return means[0], means.detach()


Facts: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""The function `facts`, or a recording of it."""


class Drawing(Task):
    """Maximise the variational bound: the loss is -elbo, and the KL is reported beside it.

    With `OptimConfig.redraw`, the network as it is draws a part of each training batch again:
    x' ~ D(X | z) with z ~ Q(Z | x). If the network were perfect, so that Q were its posterior and
    its samples were like the data, x' would be distributed as x is. But x' is never the same twice,
    so there is less to learn by heart.

    Args:
        config: The configuration of the network.
        free_bits: See `OptimConfig`.
        kl_warmup_epochs: See `OptimConfig`.
        graphs: See `TrainerConfig`.
    """

    beside = "kl"

    def __init__(
        self,
        config: DRAWConfig,
        free_bits: float = 0.0,
        kl_warmup_epochs: float = 0.0,
        graphs: bool = False,
    ) -> None:
        self.config = config
        # Each of the two keeps its last recording only.
        self._facts = graphed(facts) if graphs else facts
        self._sketch = graphed(facts) if graphs else facts
        self.free_bits = free_bits
        self.kl_warmup_epochs = kl_warmup_epochs

    def check(self, images: Images) -> None:
        """A network with labels as input needs images with as many classes."""
        if self.config.classes:
            _check_classes(self.config.classes, images)

    def noise(self, generator: torch.Generator, batch: int, glimpses: int) -> Tensor:
        """A standard normal sample, ``(T, B, Z)``."""
        shape = (glimpses, batch, self.config.z_size)
        return torch.randn(shape, generator=generator, device=generator.device)

    def losses(self, model: Pretrained, given: Given) -> Tensor:
        """-elbo and KL of each image, in nats: ``(2, B)``."""
        return self._judged(given.x, self._drawn(model, given, self._facts))

    def minimised(
        self, model: Pretrained, given: Given, average: Average = alone
    ) -> tuple[Tensor, Tensor]:
        """`objective.training_loss`, and the means of -elbo and KL.

        All numbers are of the batch as it is after a part of it is drawn again.
        """
        given = self._redrawn(model, given)
        weight = 1.0
        if self.kl_warmup_epochs:
            weight = min(weight, given.epochs / self.kl_warmup_epochs)
        trace = self._drawn(model, given, self._facts)
        loss = objective.training_loss(
            given.x, trace, kl_weight=weight, free_bits=self.free_bits, over_processes=average
        )
        with torch.no_grad():
            return loss, self._judged(given.x, trace).mean(1)

    def _redrawn(self, model: Pretrained, given: Given) -> Given:
        """The same with the first images drawn again."""
        count = given.redrawn
        if count == 0:
            return given
        first, y = given.x[:count], None if given.y is None else given.y[:count]
        shape = (given.glimpses, count, self.config.z_size)
        noise = torch.randn(shape, generator=given.generator, device=first.device)
        # No gradient is needed, but without torch.no_grad: only steps with gradients are fast.
        trace = self._drawn(model, Given(first, y, noise, given.glimpses), self._sketch)
        mean = trace.mean.detach()
        drawn = trace.likelihood.sample(trace.canvas[-1].detach().nan_to_num(), given.generator)
        drawn = drawn.clamp(0, 1)  # a likelihood of your own may leave the range
        drawn = torch.where(mean.isnan(), mean, drawn)  # so that the step is skipped
        return given._replace(x=torch.cat([drawn, given.x[count:]]))

    def _drawn(self, model: Pretrained, given: Given, facts: Facts) -> Trace:
        told = given.y if self.config.classes else None
        canvas, z, mu, log_sigma, *prior = facts(model, given.x, told, given.noise)
        prior_mu, prior_log_sigma = prior or (None, None)
        assert isinstance(model, DRAW)
        return Trace(
            canvas, z, mu, log_sigma, prior_mu, prior_log_sigma, likelihood=model.likelihood
        )

    def _judged(self, x: Tensor, trace: Trace) -> Tensor:
        kl = objective.kl(trace).sum(0)
        return torch.stack(
            [kl - objective.log_likelihood(x, trace.canvas[-1], trace.likelihood), kl]
        )


def facts(
    model: Pretrained, x: Tensor, y: Tensor | None, noise: Tensor | None
) -> tuple[Tensor, ...]:
    """The parts of a `Trace` that a loss needs: canvas, z, mu, log sigma, and a learned prior."""
    trace: Trace = model(x, y=y, noise=noise, record="last")
    found = [trace.canvas, trace.z, trace.mu, trace.log_sigma]
    if trace.prior_mu is not None and trace.prior_log_sigma is not None:
        found += [trace.prior_mu, trace.prior_log_sigma]
    return tuple(found)


class Classifying(Task):
    """Minimise the cross-entropy of the last answer, and report the error beside it.

    Args:
        classes: How many classes the network tells apart.
        graphs: See `TrainerConfig`.
        teachers: See `Recipe`.
        distillation: See `OptimConfig`.
        hindsight: See `OptimConfig`.
    """

    beside = "error"

    def __init__(
        self,
        classes: int,
        graphs: bool = False,
        teachers: Sequence[Teacher] = (),
        distillation: float = 0.5,
        hindsight: float = 0.0,
    ) -> None:
        self.classes = classes
        self.teachers = teachers
        self.distillation = distillation
        self.hindsight = hindsight
        self._answers = graphed(answers) if graphs else answers
        self._searched = graphed(searched) if graphs else searched

    def check(self, images: Images) -> None:
        """The images need labels, with as many classes as the network has."""
        _check_classes(self.classes, images)

    def noise(self, generator: torch.Generator, batch: int, glimpses: int) -> None:
        """Nothing is random."""

    def losses(self, model: Pretrained, given: Given) -> Tensor:
        """-log p(y | x) in nats, and 1 where the answer is wrong: ``(2, B)``."""
        return self._judged(given.y, self._answers(model, given.x, given.glimpses))

    def minimised(
        self, model: Pretrained, given: Given, average: Average = alone
    ) -> tuple[Tensor, Tensor]:
        """The cross-entropy to the labels or, with teachers, to a mixture of labels and teachers.

        With `hindsight`, that weight times the misses of the windows is added.
        """
        x, y = given.x, given.y
        assert y is not None
        if self.hindsight:
            logits, miss = self._searched(model, x, y, given.glimpses)
        else:
            logits = self._answers(model, x, given.glimpses)
            miss = logits.new_zeros(())
        means = self._judged(y, logits).mean(1)
        loss = means[0]
        if self.teachers:
            taught = mean_answer(self.teachers, x)
            target = torch.lerp(one_hot(y, self.classes).to(taught), taught, self.distillation)
            loss = cross_entropy(logits[-1], target)
        return loss + self.hindsight * miss, means.detach()

    def _judged(self, y: Tensor | None, logits: Tensor) -> Tensor:
        assert y is not None
        return torch.stack([nll(logits, y), wrong(logits, y)[-1].to(logits)])


def answers(model: Pretrained, x: Tensor, glimpses: int) -> Tensor:
    """The logits of a classifier ``(T, B, classes)``."""
    assert isinstance(model, Classifier)
    if isinstance(model, GlimpseClassifier):
        return model.logits(x, glimpses=glimpses)
    return model.logits(x)


def searched(model: Pretrained, x: Tensor, y: Tensor, glimpses: int) -> tuple[Tensor, Tensor]:
    """The logits of a classifier ``(T, B, classes)``, and the misses of its windows."""
    assert isinstance(model, GlimpseClassifier)
    products = model.fuse()
    states, _ = model.look(products, x, model.initial_state(products, len(x)), glimpses)
    logits = torch.stack([state.answer for state in states[1:]])
    return logits, hindsight(model, products, x, y, states)


def task_of(recipe: Recipe, teachers: Sequence[Teacher] = ()) -> Task:
    """The task that a recipe's network is trained for."""
    config, optim, graphs = recipe.model, recipe.optim, recipe.trainer.graphs
    if isinstance(config, DRAWConfig):
        return Drawing(config, optim.free_bits, optim.kl_warmup_epochs, graphs)
    return Classifying(config.classes, graphs, teachers, optim.distillation, optim.hindsight)


def teachers_of(recipe: Recipe) -> list[Teacher]:
    """The networks that a recipe names as teachers.

    Raises:
        ValueError: If a teacher's image shape or number of classes differs from the recipe's.
        WeightsError: If a teacher cannot be read, or is not a classifier.
    """
    teachers: list[Teacher] = []
    for name in recipe.teachers:
        convolves = describe(locate(name))["model"] == ConvNet.__name__
        teacher = (ConvNet if convolves else GlimpseClassifier).from_pretrained(name)
        for size in ("image_shape", "classes"):
            ours, theirs = (getattr(config, size) for config in (recipe.model, teacher.config))
            if ours != theirs:
                wanted = f"{theirs}, as teacher {name} has"
                raise ValueError(f"model.{size} must be {wanted}, got {ours}")
        teachers.append(teacher.requires_grad_(False).eval())
    return teachers


def _check_classes(classes: int, images: Images) -> None:
    if images.labels is None:
        hint = ": not all pictures lie in sub-folders" if images.name == "folder" else ""
        raise ValueError(f"model.classes is {classes}, but {images.name} has no labels{hint}")
    if len(images.classes) != classes:
        raise ValueError(
            f"model.classes must be {len(images.classes)}, as {images.name} has, got {classes}"
        )
