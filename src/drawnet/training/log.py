"""What a training reports while it runs: a progress bar, ``metrics.csv``, TensorBoard."""

import csv
import io
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import ProcessingSpeedColumn
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from drawnet.disk import cannot_save, write_atomically
from drawnet.metrics import COLUMNS, read_rows
from drawnet.training.module import Training

EVERY = 50
"""Steps between two rows of the log."""

LOOK = 10
"""Steps between two looks at numbers that only the device, or another process, knows. Each waits
until the device has done all steps so far."""

log = logging.getLogger(__name__)


class MetricsCSV(Logger):
    """``metrics.csv``: one table for the whole training, however often it was resumed.

    Args:
        path: The file.
        step: The step that the training goes on from; rows of later steps are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        super().__init__()
        self.path = path
        rows = read_rows(path) if path.exists() else []
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row in rows if int(row["step"]) <= step)
        write_atomically(path, table.getvalue().encode())

    @property
    def name(self) -> str:
        """The name of this log."""
        return "metrics"

    @property
    def version(self) -> None:
        """None: there is one log per run."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row of the metrics that have a column in the table."""
        try:
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
                writer.writerow({"step": step, **metrics})
        except OSError as error:
            raise cannot_save(self.path, error) from error

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the hyperparameters are in the run's ``recipe.yaml``."""


class TensorBoard(TensorBoardLogger):
    """Lightning's log for TensorBoard, except that its errors say which folder was to be written.

    It writes in the background, so an error comes with a later row, and with the end.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        try:
            super().log_metrics(metrics, step)
        except ValueError as error:  # as Lightning calls all of them
            if isinstance(error.__cause__, OSError):
                raise cannot_save(Path(self.log_dir), error.__cause__) from error
            raise

    def finalize(self, status: str) -> None:
        """Write what is left. A training that has failed already has its own error."""
        try:
            super().finalize(status)
        except OSError as error:
            if status == "success":
                raise cannot_save(Path(self.log_dir), error) from error


def record(trainer: Trainer, values: dict[str, float], module: Training) -> None:
    """Send values to all loggers, together with the epoch and its number of glimpses."""
    if not trainer.is_global_zero:
        return
    epoch = (trainer.global_step - 1) // module.steps_per_epoch
    place = {"epoch": epoch, "glimpses": module.recipe.glimpses(epoch)}
    for logger in trainer.loggers:
        logger.log_metrics({**place, **values}, trainer.global_step)


class Log(Callback):
    """Copy the sums from the device every 50 steps, and log their means.

    Attributes:
        shown: What the progress bar shows.
        skipped: How many steps of the whole training were skipped as not finite.
    """

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self.skipped = 0
        self._began = 0.0
        self._seconds = 0.0
        self._steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The number of skipped steps, and the steps and seconds since the last row."""
        return {"skipped": self.skipped, "steps": self._steps, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from a saved state."""
        self.skipped = state_dict["skipped"]
        self._steps = state_dict["steps"]
        self._seconds = state_dict["seconds"]

    def on_train_batch_start(self, *_: Any) -> None:
        """Start timing the step; time between steps is not counted."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Count the step, and log every 50 steps."""
        assert isinstance(module, Training)
        self._steps += 1
        due = trainer.global_step % EVERY == 0
        if due:
            loss, beside, norm, finite = trainer.strategy.reduce(
                module.tally, reduce_op="mean"
            ).tolist()
            module.tally.zero_()
        if module.device.type == "cuda" and trainer.global_step % LOOK == 0:
            torch.cuda.synchronize(module.device)  # `Watch` would wait, but nobody would count it
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
            module.task.beside: _short(module.task.beside, beside / finite),
            "images/s": f"{rate:.0f}",
        }


def _short(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name == "error" else f"{value:.2f}"


class Bar(RichProgressBar):
    """Lightning's progress bar, over all steps of the training, with the time left for all of it.

    Args:
        log: Where the numbers to show come from.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(refresh_rate=5)
        self.source = log

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Drop steps per second, so that the bar fits a line: images per second are shown."""
        columns = super().configure_columns(trainer)
        return [column for column in columns if not isinstance(column, ProcessingSpeedColumn)]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The nats per image, the KL or the error, and the images per second."""
        return dict(self.source.shown)

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"
