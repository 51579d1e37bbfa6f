"""The bound on the validation images, with the averaged weights and always the same noise."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from lightning.pytorch import Trainer

from drawnet import objective
from drawnet.data import Images
from drawnet.training.loader import Stream, reseed
from drawnet.training.module import Training


class Validation(NamedTuple):
    """One-sample bound over the validation images, in nats per image; down is good.

    Attributes:
        loss: -elbo.
        kl: The part of it that the latents cost.
        glimpses: With how many glimpses.
        step: After how many steps of training.
    """

    loss: float
    kl: float
    glimpses: int
    step: int

    def beats(self, other: "Validation | None") -> bool:
        """Whether it is better. A longer chain starts afresh: only equal ones compare."""
        if not math.isfinite(self.loss):
            return False
        return other is None or self.glimpses > other.glimpses or self.loss < other.loss


@torch.no_grad()
def validate(
    trainer: Trainer, module: Training, images: Images, stop: Callable[[], bool]
) -> Validation | None:
    """The bound of the averaged weights, with as many glimpses as the training uses now.

    The processes share the work; the result does not depend on how many there are.

    Args:
        trainer: Knows the processes and the step.
        module: The training.
        images: The validation set, on the device.
        stop: Asked before each batch whether to give up.

    Returns:
        None where a process gave up.
    """
    device, size = images.pixels.device, module.recipe.optim.batch_size
    glimpses = module.recipe.glimpses((trainer.global_step - 1) // module.steps_per_epoch)
    generator = torch.Generator(device)
    sums = torch.zeros(3, device=device, dtype=torch.float64)
    for number, first in enumerate(range(0, len(images), size)):
        if number % trainer.world_size != trainer.global_rank:
            continue
        if stop():
            sums[2] = 1
            break
        index = torch.arange(first, min(first + size, len(images)), device=device)
        reseed(generator, module.recipe.seed, Stream.VALIDATION, number)
        x, _ = images.batch(index, generator)
        trace = module.average(x, generator=generator, glimpses=glimpses, record="last")
        kl = objective.kl(trace).sum()
        sums[0] += kl - objective.log_likelihood(x, trace.canvas[-1]).sum()
        sums[1] += kl
    loss, kl, stopped = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
    if stopped:
        return None
    return Validation(loss / len(images), kl / len(images), glimpses, trainer.global_step)
