"""What happens between the steps: validating, saving, and stopping in time and cleanly."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from drawnet import weights
from drawnet.data import Images
from drawnet.training import checkpoint
from drawnet.training.log import LOOK, record
from drawnet.training.module import Training
from drawnet.training.run_folder import RunFolder
from drawnet.training.validate import Validation, validate
from drawnet.weights import WeightsError

MOST_SKIPPED = 10
"""How many steps in a row that are not finite end the training."""

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A signal ended the training, and a checkpoint was saved.

    Attributes:
        signal: The number of the signal.
        rank: The process that raised this; all processes do.
    """

    def __init__(self, signal: int, rank: int) -> None:
        super().__init__(f"interrupted by signal {signal}")
        self.signal = signal
        self.rank = rank


class Diverged(Exception):
    """Too many steps in a row, or all validations, were not finite; earlier checkpoints remain.

    Attributes:
        ended: Whether the training had come to its end, so that it cannot be resumed.
        rank: The process that raised this; all processes do.
    """

    def __init__(self, message: str, *, ended: bool = False, rank: int = 0) -> None:
        super().__init__(message)
        self.ended = ended
        self.rank = rank


def best_of(folder: RunFolder) -> Validation | None:
    """The validation of the weights that a folder keeps, or None if it has none, or no record."""
    if not folder.has_weights():
        return None
    try:
        return Validation.of_facts(weights.describe(folder.weights)["provenance"])
    except (WeightsError, KeyError) as error:
        log.warning("no record of the weights kept (%s): the next ones replace them", error)
        return None


class Watch(Callback):
    """Look after a training between its steps: validate, save checkpoints, and stop.

    Everything happens at the end of a step. Each checkpoint is therefore of a whole step, and a
    resumed training goes on bit for bit. All processes decide alike.

    Args:
        images: The validation set, on the device.
        folder: Where checkpoints and weights go.
        keep: Called with each validation that is the best so far, and the seconds of training, to
            keep its weights.
    """

    def __init__(
        self, images: Images, folder: RunFolder, keep: Callable[[Training, Validation, float], None]
    ) -> None:
        self.images = images
        self.folder = folder
        self.keep = keep
        self.best: Validation | None = None
        self.latest: Validation | None = None
        self.seconds = 0.0
        self._signal = 0
        self._since = time.monotonic()
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The latest validation and the time spent; the weights kept record the best validation."""
        self._count_time()
        return {
            "latest": self.latest and tuple(self.latest),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.best = best_of(self.folder)  # this state may be another folder's, or older than they
        self.latest = state_dict["latest"] and Validation(*state_dict["latest"])
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Handle signals instead of Lightning, which by default exits with 0 and saves nothing."""
        assert isinstance(module, Training)
        self._since = self._saved_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGINT, self._on_signal)
        step = trainer.global_step
        if self._validation_due(module, step) and (self.latest is None or self.latest.step < step):
            self._validate(trainer, module, last=False)  # a signal cut it short

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._signal:  # the second signal: stop at once, with the checkpoint that there is
            sys.exit(128 + number)
        self._signal = number

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Validate, save and stop, when each is due."""
        assert isinstance(module, Training)
        step = trainer.global_step
        last = step == trainer.max_steps or trainer.should_stop
        validated = last or self._validation_due(module, step)
        if validated:
            self._validate(trainer, module, last)
        diverged, number, due = self._agree(trainer, module, step, now=validated)
        if diverged:  # save nothing: these weights may have no finite gradient
            message = f"the gradient was not finite for {MOST_SKIPPED} steps in a row"
            raise Diverged(message, rank=trainer.global_rank)
        if validated or number or due:
            self._save(trainer, step)
        if number and not last:
            raise Interrupted(number, trainer.global_rank)

    def _validation_due(self, module: Training, step: int) -> bool:
        return (
            step > 0 and step % (module.recipe.trainer.validate_every * module.steps_per_epoch) == 0
        )

    def _validate(self, trainer: Trainer, module: Training, last: bool) -> None:
        # A signal cuts the validation short, unless no step is left to resume with.
        result = validate(trainer, module, self.images, stop=lambda: self._signal != 0 and not last)
        if result is None:
            return
        self.latest = result
        beside = module.task.beside
        values = {"valid_loss": result.loss, f"valid_{beside}": getattr(result, beside)}
        record(trainer, values, module)
        if trainer.is_global_zero:
            log.info(
                "epoch %.4g of %d: validation %s, T = %d, %s",
                result.step / module.steps_per_epoch,
                module.recipe.optim.epochs,
                result,
                result.glimpses,
                timedelta(seconds=round(self.seconds + time.monotonic() - self._since)),
            )
        if result.beats(self.best):
            self.best = self.latest
            if trainer.is_global_zero:
                self._count_time()
                self.keep(module, self.best, self.seconds)

    def _agree(
        self, trainer: Trainer, module: Training, step: int, now: bool
    ) -> tuple[bool, int, bool]:
        """Whether to give up, which signal came, and whether to save; alike on all processes."""
        due = time.monotonic() - self._saved_at > 60 * module.recipe.trainer.checkpoint_minutes
        if step % LOOK and not now:
            alone = trainer.world_size == 1
            return (False, self._signal, due) if alone else (False, 0, False)
        diverged = bool(module.streak[1] >= MOST_SKIPPED)
        if trainer.world_size == 1:
            return diverged, self._signal, due
        state = torch.tensor([diverged, self._signal, due], device=module.device)
        torch.distributed.all_reduce(state, torch.distributed.ReduceOp.MAX)
        diverged, number, due = state.tolist()
        return bool(diverged), number, bool(due)

    def _save(self, trainer: Trainer, step: int) -> None:
        trainer.save_checkpoint(checkpoint.path_of(self.folder.checkpoints, step))
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            for path in checkpoint.saved(self.folder.checkpoints)[checkpoint.KEPT :]:
                trainer.strategy.remove_checkpoint(path)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now
