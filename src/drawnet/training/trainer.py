"""Lightning's Trainer, as a recipe asks for it."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from drawnet.recipe import Recipe
from drawnet.training.checkpoint import AtomicCheckpointIO
from drawnet.training.log import Bar, Log
from drawnet.training.watch import Watch


def trainer_of(
    recipe: Recipe,
    steps: int,
    watch: Watch,
    logs: Log,
    shows: bool,
    more: Sequence[Callback],
) -> Trainer:
    """Lightning's Trainer.

    For it the whole training is one epoch. So it can be resumed in the same way at any step, and
    the bar shows the time left for all of it.
    """
    settings = recipe.trainer
    accelerator = settings.accelerator
    if accelerator == "auto":  # Lightning may take Apple's GPU, which has no double precision
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    callbacks: list[Callback] = [*more, logs]
    if settings.max_time is not None:
        callbacks.append(_TimeLimit(settings.max_time, interval="step", verbose=False))
    callbacks.append(watch)
    if shows:
        callbacks.append(Bar(logs))
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():  # torchrun knows best
        # A restarted job goes on by --resume, not by Lightning's own requeueing.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    try:
        trainer = Trainer(
            accelerator=accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            max_epochs=-1,
            max_steps=steps,
            callbacks=callbacks,
            plugins=plugins,
            logger=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=shows,
            use_distributed_sampler=False,
            log_every_n_steps=0,
        )
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error}") from error
    if trainer.strategy.root_device.type == "mps":
        raise ValueError("trainer.accelerator must not be mps, which has no double precision")
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        # What happens in such processes never comes back. In a notebook, Lightning chooses them.
        raise ValueError("several devices need a script, not a notebook, and strategy ddp")
    return trainer


class _TimeLimit(Timer):
    """Lightning's timer, except that a resumed training has the whole time again."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin at 0."""
