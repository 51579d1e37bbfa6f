"""The training step, as a thin Lightning module around a network and its task."""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from drawnet.data.images import Batch
from drawnet.fast import accelerate
from drawnet.graphs import has_graphs
from drawnet.recipe import OptimConfig, Recipe
from drawnet.training.checkpoint import FORMAT
from drawnet.training.loader import Stream, reseed
from drawnet.training.resume import Origin
from drawnet.training.tasks import Given, Teacher, task_of
from drawnet.weights import Pretrained

log = logging.getLogger(__name__)


class Training(LightningModule):
    """Minimise the loss of a task with Adam, and keep a moving average of the weights.

    The average is a second model beside the first, updated on the device after each step. Weights
    need not be swapped for validation, and nothing waits for the host.

    A step whose gradient is not finite is skipped on the device, by the same means in fused Adam
    that mixed-precision training uses. What is logged of the other steps is summed on the device.

    Args:
        recipe: The whole recipe.
        model: The network to train; it is changed in place.
        steps_per_epoch: Steps in a pass over the training set.
        start_sha256: The sha256 of the weights of `Recipe.start`, if it names any.
        teachers: The networks that `Recipe.teachers` names.
        origin: What is trained, on what; stored in the checkpoints. See `resume.Origin`.

    Attributes:
        task: What the network is trained for.
        average: The network with averaged weights, which is validated and kept.
        tally: Sums since the last reset: the loss, the KL or the error, the norm of the gradient,
            and the number of finite steps.
        streak: How many steps in a row were not finite: in the current run, and in the longest.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Pretrained,
        steps_per_epoch: int,
        start_sha256: str | None = None,
        teachers: Sequence[Teacher] = (),
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.task = task_of(recipe, teachers)
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.steps_per_epoch = steps_per_epoch
        self.start_sha256 = start_sha256
        self.origin = origin
        self.tally = torch.zeros(4)  # no buffers: each process has its own
        self.streak = torch.zeros(2)

    @property
    def epoch(self) -> int:
        """The current pass over the training set, counted from 0."""
        return self.global_step // self.steps_per_epoch

    @cached_property
    def _generator(self) -> torch.Generator:
        return torch.Generator(self.device)

    def on_fit_start(self) -> None:
        """Move the sums and the teachers to the device, and choose how it computes."""
        self.tally, self.streak = self.tally.to(self.device), self.streak.to(self.device)
        # Or the compiler splits the step where it would hand gradients to other processes. But they
        # are complete only at the end of the chain.
        torch._dynamo.config.optimize_ddp = False
        settings = self.recipe.trainer
        if settings.threads is not None:  # Lightning has set its own number meanwhile
            torch.set_num_threads(settings.threads)
        choose = partial(
            accelerate,
            compile=settings.compile,
            products=settings.products,
            onednn=settings.onednn,
        )
        for teacher in self.task.teachers:
            choose(teacher.to(self.device))
        choices = choose(self.model, recompute=settings.recompute)
        if settings.graphs:
            possible = has_graphs(self.device)
            choices.append("CUDA graphs" if possible else "no CUDA graphs: they need an NVIDIA GPU")
        for choice in choices:
            if self.trainer.is_global_zero:
                log.info(choice)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss to minimise for a batch of images ``(B, C, H, W)``, in nats per image."""
        x, y = batch
        glimpses = self.recipe.glimpses(self.epoch)
        epochs = self.global_step / self.steps_per_epoch
        noise = self._noise(len(x), glimpses)
        # Of the whole batch, redraw * batch_size images are drawn again, wherever they are.
        first, share = self.global_rank * len(x), self.recipe.optim.redraw
        redrawn = round(share * (first + len(x))) - round(share * first)
        # From here on the generator is this process's own.
        place = (self.global_step, self.global_rank)
        generator = reseed(self._generator, self.recipe.seed, Stream.REDRAWN, *place)
        given = Given(x, y, noise, glimpses, epochs, redrawn, generator)
        loss, self._last = self.task.minimised(self.model, given, self._average)
        # If the loss is not finite, make the gradient not finite either, on every process.
        return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)

    def _average(self, numbers: Tensor) -> Tensor:
        """Average over all processes, without the barrier in Lightning's own ``reduce``."""
        if self.trainer.world_size == 1:
            return numbers
        torch.distributed.all_reduce(numbers)
        return numbers / self.trainer.world_size

    def _noise(self, count: int, glimpses: int) -> Tensor | None:
        """The noise of this step, ``(T, B, Z)``: this process's slice of that of the batch."""
        generator = reseed(self._generator, self.recipe.seed, Stream.LATENTS, self.global_step)
        whole = self.task.noise(generator, self.recipe.optim.batch_size, glimpses)
        first = self.global_rank * count
        return None if whole is None else whole[:, first : first + count]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Fused AdamW, whose learning rate rises linearly and then falls along half a cosine."""
        optim = self.recipe.optim
        adam = torch.optim.AdamW(
            _groups(self.model, optim),
            lr=optim.lr,
            betas=optim.betas,
            fused=True,
        )
        total = optim.epochs * self.steps_per_epoch

        def factor(step: int) -> float:
            if step < optim.warmup_steps:
                return (step + 1) / optim.warmup_steps
            done = (step - optim.warmup_steps) / max(1, total - optim.warmup_steps)
            cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
            return optim.final_lr + (1 - optim.final_lr) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(adam, factor)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Take the learning rate and betas from the recipe, not from the resumed checkpoint."""
        optim = self.recipe.optim
        schedule = self.lr_schedulers()
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        schedule.base_lrs = [group["lr"] for group in _groups(self.model, optim)]
        factor = schedule.lr_lambdas[0](schedule.last_epoch)
        for group, lr in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
            group.update(initial_lr=lr, lr=lr * factor, betas=optim.betas)

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip the global norm, keep the tally, and tell Adam to skip a step that is not finite."""
        clip = self.recipe.optim.clip
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        finite = norm.isfinite()
        adam = self.optimizers(use_pl_optimizer=False)
        adam.found_inf = 1 - finite.float()  # type: ignore[union-attr]
        values = torch.cat([self._last, torch.stack([norm, torch.ones_like(norm)])])
        self.tally += torch.where(finite, values, 0.0)
        self.streak[0] = (self.streak[0] + 1) * ~finite
        self.streak[1] = self.streak.max()

    @torch.no_grad()
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and move the average towards the new weights.

        Early on the average moves faster, so the initial weights are soon forgotten.
        """
        with torch.enable_grad():
            super().optimizer_step(*args, **kwargs)
        step = self.global_step
        decay = min(self.recipe.optim.ema_decay, step / (step + 10))
        weights = [weight.detach() for weight in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), weights, 1 - decay)
        for mine, latest in zip(self.average.buffers(), self.model.buffers(), strict=True):
            mine.copy_(latest)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the recipe, the number of processes, and the sums so far."""
        tallies = self.tally.new_zeros(self.trainer.world_size, len(self.tally))
        tallies[self.global_rank] = self.tally
        checkpoint["drawnet"] = {
            "format": FORMAT,
            "recipe": asdict(self.recipe),
            "world_size": self.trainer.world_size,
            "start_sha256": self.start_sha256,
            "origin": self.origin,
            "tally": self.trainer.strategy.reduce(tallies, reduce_op="sum"),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums, and warn if the number of processes has changed."""
        tallies = checkpoint["drawnet"]["tally"].view(-1, len(self.tally))
        before, now = checkpoint["drawnet"]["world_size"], self.trainer.world_size
        self.tally = tallies[self.global_rank] if before == now else tallies.mean(0)
        if before != now:
            log.warning(
                "the checkpoint is of %d processes, this training runs on %d: the images and their "
                "order are the same, but sums round differently",
                before,
                now,
            )


def _groups(model: nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """Group the parameters by learning rate and decay; only the weights of layers decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        lr = optim.lr * (optim.window_lr if "window" in name else 1)
        decay = optim.weight_decay if name.endswith(".weight") else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]
