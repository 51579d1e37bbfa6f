"""The loss on the validation images, with the averaged weights and always the same noise.

The noise, and whatever is random about the images, does not depend on the recipe's seed, so
trainings with different seeds are judged alike.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch
from lightning.pytorch import Trainer

from drawnet.data import Images
from drawnet.training.loader import Stream, reseed
from drawnet.training.module import Training
from drawnet.training.tasks import Given

SEED = 0
"""The seed of the noise, and of whatever is random about the images."""


class Validation(NamedTuple):
    """How good a network is on the validation images; lower is better.

    Attributes:
        loss: -elbo of a DRAW, or -log p(y | x) of a classifier, in nats per image.
        glimpses: The number of glimpses; 1 for a network without glimpses.
        step: The number of training steps before the validation.
        kl: The part of a DRAW's loss that the latents cost.
        error: The fraction of a classifier's answers that are wrong.
    """

    loss: float
    glimpses: int
    step: int
    kl: float | None = None
    error: float | None = None

    def beats(self, other: "Validation | None") -> bool:
        """Whether this validation is better than another.

        With another number of glimpses there is nothing to compare, so any finite loss is better.
        Classifiers, too, are compared by their loss, which varies less by chance than their error.
        """
        if not math.isfinite(self.loss):
            return False
        if other is None or self.glimpses != other.glimpses:
            return True
        return self.loss < other.loss

    def facts(self) -> dict[str, float]:
        """The entries for the provenance of the weights; `of_facts` is the inverse."""
        facts = {
            "steps": self.step,
            "glimpses": self.glimpses,
            "validation_nats": self.loss,
            "validation_kl": self.kl,
            "validation_error": self.error,
        }
        return {name: fact for name, fact in facts.items() if fact is not None}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The validation that a provenance records."""
        return cls(
            facts["validation_nats"],
            facts["glimpses"],
            facts["steps"],
            facts.get("validation_kl"),
            facts.get("validation_error"),
        )

    def __str__(self) -> str:
        if self.error is not None:
            return f"{100 * self.error:.2f} % wrong ({self.loss:.4f} nats)"
        return f"{self.loss:.3f} nats (KL {self.kl:.3f})"


@torch.no_grad()
def validate(
    trainer: Trainer, module: Training, images: Images, stop: Callable[[], bool]
) -> Validation | None:
    """Validate the averaged weights, with as many glimpses as the training uses now.

    The processes share the work, and the result does not depend on how many there are.

    Args:
        trainer: Lightning's Trainer, which knows the processes and the step.
        module: The training.
        images: The validation set, on the device.
        stop: Called before each batch; returns True to give up.

    Returns:
        The validation, or None if a process gave up.
    """
    device, size = images.pixels.device, module.recipe.optim.batch_size
    glimpses = module.recipe.glimpses((trainer.global_step - 1) // module.steps_per_epoch)
    generator = torch.Generator(device)
    module.average.eval()
    sums = torch.zeros(3, device=device, dtype=torch.float64)
    for number, first in enumerate(range(0, len(images), size)):
        if number % trainer.world_size != trainer.global_rank:
            continue
        if stop():
            sums[2] = 1
            break
        index = torch.arange(first, min(first + size, len(images)), device=device)
        reseed(generator, SEED, Stream.VALIDATION, number)
        x, y = images.batch(index, generator)
        given = Given(x, y, module.task.noise(generator, len(index), glimpses), glimpses)
        sums[:2] += module.task.losses(module.average, given).sum(1)
    loss, beside, stopped = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
    if stopped:
        return None
    facts = {module.task.beside: beside / len(images)}
    return Validation(loss / len(images), glimpses, trainer.global_step, **facts)
