"""What a training tells while it runs: a progress bar, ``metrics.csv``, TensorBoard."""

import csv
import io
import logging
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn
from lightning.pytorch.loggers import Logger

from drawnet.disk import cannot_save, write_atomically
from drawnet.training.module import Training

EVERY = 50
"""Steps between two rows of the log, for which numbers leave the device."""

COLUMNS = (
    "step",
    "epoch",
    "glimpses",
    "loss",
    "kl",
    "error",
    "grad_norm",
    "lr",
    "images_per_second",
    "skipped",
    "valid_loss",
    "valid_kl",
    "valid_error",
)

log = logging.getLogger(__name__)


class MetricsCSV(Logger):
    """``metrics.csv``: one table for the whole training, however often it was resumed.

    Args:
        path: The file.
        step: The step the training goes on from; later rows, of a run that broke, are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        super().__init__()
        self.path = path
        rows = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if _up_to(step, row)]
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, table.getvalue().encode())

    @property
    def name(self) -> str:
        """The name of this log."""
        return "metrics"

    @property
    def version(self) -> None:
        """There is one per run."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row of what the table has columns for."""
        try:
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writerow({"step": step, **metrics})
        except OSError as error:
            raise cannot_save(self.path, error) from error

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The run's ``recipe.yaml`` has them."""


def _up_to(step: int, row: dict[str, str | None]) -> bool:
    """Whether a row belongs to the steps up to this one, and is whole: a crash may cut it off."""
    number = row["step"] or ""
    return number.isdigit() and int(number) <= step and None not in row.values()


def record(trainer: Trainer, values: dict[str, float], module: Training) -> None:
    """Give values to all loggers, with the epoch and the number of glimpses they belong to."""
    if not trainer.is_global_zero:
        return
    epoch = (trainer.global_step - 1) // module.steps_per_epoch
    place = {"epoch": epoch, "glimpses": module.recipe.glimpses(epoch)}
    for logger in trainer.loggers:
        logger.log_metrics({**place, **values}, trainer.global_step)


class Log(Callback):
    """Take the sums from the device every 50 steps, and log their means.

    Attributes:
        shown: What the progress bar shows.
        skipped: Steps that were not finite, in the whole training.
    """

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self.skipped = 0
        self._began = 0.0
        self._seconds = 0.0
        self._steps = 0

    def state_dict(self) -> dict[str, Any]:
        """How many steps were skipped, and how many there were since the last row."""
        return {"skipped": self.skipped, "steps": self._steps, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]
        self._steps = state_dict["steps"]
        self._seconds = state_dict["seconds"]

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock of a step: what happens between steps is not counted."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Count the step; every 50 steps, log."""
        assert isinstance(module, Training)
        self._steps += 1
        due = trainer.global_step % EVERY == 0
        if due:
            loss, beside, norm, finite = trainer.strategy.reduce(
                module.tally, reduce_op="mean"
            ).tolist()
            module.tally.zero_()
        self._seconds += time.perf_counter() - self._began
        if due:
            self._log(trainer, module, loss, beside, norm, finite)
            self._steps, self._seconds = 0, 0.0

    def _log(
        self,
        trainer: Trainer,
        module: Training,
        loss: float,
        beside: float,
        norm: float,
        finite: float,
    ) -> None:
        if skipped := self._steps - round(finite):
            self.skipped += skipped
            log.warning(
                "%d of the last %d steps skipped: loss or gradient not finite (%d in all)",
                skipped,
                self._steps,
                self.skipped,
            )
        if not finite:
            return
        rate = self._steps * module.recipe.optim.batch_size / self._seconds
        values = {
            "loss": loss / finite,
            module.task.beside: beside / finite,
            "grad_norm": norm / finite,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "images_per_second": rate,
            "skipped": self.skipped,
        }
        record(trainer, values, module)
        self.shown = {
            "nats": f"{values['loss']:.2f}",
            module.task.beside: f"{beside / finite:.2f}",
            "images/s": f"{rate:.0f}",
        }


class Bar(RichProgressBar):
    """Lightning's bar over all steps of the training, with the time left of the whole.

    Args:
        log: What knows the numbers to show.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(refresh_rate=5)
        self.source = log

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """All but the steps a second, so that a line is enough: images a second are shown."""
        columns = super().configure_columns(trainer)
        return [column for column in columns if not isinstance(column, ProcessingSpeedColumn)]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Nats and KL per image, images per second."""
        return dict(self.source.shown)

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"
