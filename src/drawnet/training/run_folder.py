"""The folder of one training, and the files in it."""

import errno
import json
import logging
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout

import drawnet
from drawnet.disk import cannot_save, sweep, write_atomically
from drawnet.processor import processor
from drawnet.recipe import Recipe

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)

log = logging.getLogger(__name__)


class RunFolder:
    """The folder that a training writes to.

    ::

        recipe.yaml       the whole recipe, with nothing left to defaults
        starts.jsonl      a line for the beginning and for each resume: at which step, when, by
                          which commit, and which options of the recipe were changed
        metrics.csv       the log; tensorboard/ the same for TensorBoard
        checkpoints/      step-*.ckpt, the newest and the one before it
        weights/          the averaged weights with the best validation, for `from_pretrained`
        provenance.json   how those weights came to be
        .lock             held while a training is running here

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.starts = path / "starts.jsonl"
        self.metrics = path / "metrics.csv"
        self.checkpoints = path / "checkpoints"
        self.weights = path / "weights"
        self.provenance = path / "provenance.json"

    def holds_a_run(self) -> bool:
        """Whether a training has written here."""
        return self.recipe.exists() or self.checkpoints.exists() or self.weights.exists()

    def was_cut_short(self) -> bool:
        """Whether a training began here and left neither a checkpoint nor weights."""
        begun = self.recipe.exists() and self.checkpoints.exists()
        return begun and not self.has_weights() and not any(self.checkpoints.glob("*.ckpt"))

    def state(self) -> list[int]:
        """When the recipe and the checkpoints changed last; compare it to an earlier one."""
        there = [path for path in (self.recipe, self.checkpoints) if path.exists()]
        return [path.stat().st_mtime_ns for path in there]

    def has_weights(self) -> bool:
        """Whether a validation has saved weights here."""
        return (self.weights / "config.json").is_file()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainings out of this folder meanwhile, where the file system can.

        Raises:
            ValueError: If another training is running here.
            OSError: If the folder cannot be written.
        """
        path = self.path / ".lock"
        lock = FileLock(path, timeout=0, fallback_to_soft=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise ValueError(f"another training is running in {self.path}") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise cannot_save(path, error) from error
            log.warning("%s: this disk has no locks: run no other training there", self.path)
        try:
            yield
        finally:
            lock.release()

    def begin(
        self, recipe: Recipe, overwrite: bool, step: int = 0, changed: dict[str, Any] | None = None
    ) -> None:
        """Make the folder, write the recipe, and write down this start.

        Args:
            recipe: The recipe.
            overwrite: Remove an earlier run first.
            step: The step that the training goes on from; starts at later steps are forgotten.
            changed: The options of the recipe that are not as they were before that step.

        Raises:
            OSError: If the folder cannot be written.
        """
        if overwrite:
            for folder in (self.checkpoints, self.weights, self.path / "tensorboard"):
                shutil.rmtree(folder, ignore_errors=True)
            for file in (self.starts, self.metrics, self.provenance):
                file.unlink(missing_ok=True)
        content = {"network": recipe.network, **_plain(asdict(recipe))}
        text = yaml.safe_dump(content, sort_keys=False)
        write_atomically(self.recipe, text.encode())
        self.checkpoints.mkdir(exist_ok=True)
        for folder in (self.path, self.checkpoints, self.weights):
            sweep(folder)
        self._write_start(step, _plain(changed or {}))

    def _write_start(self, step: int, changed: dict[str, Any]) -> None:
        """Add a line to ``starts.jsonl``, after those of up to this step that are not damaged."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        start = {"step": step, "time": now, "commit": _commit(), "changed": changed}
        resumed = step and self.starts.exists()
        lines = self.starts.read_text(errors="replace").splitlines() if resumed else []
        kept = [line for line in lines if _step_of(line) <= step]
        text = "\n".join([*kept, json.dumps(start), ""])
        write_atomically(self.starts, text.encode())

    def write_provenance(self, facts: dict[str, Any]) -> None:
        """Write down how the weights came to be."""
        write_atomically(self.provenance, (json.dumps(facts, indent=2) + "\n").encode())


def _step_of(line: str) -> float:
    """The step in a line of ``starts.jsonl``; that of a damaged line is never reached."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def software_and_machine() -> dict[str, str | None]:
    """The software and hardware that a training runs on, as far as they may affect its numbers."""
    return {
        "drawnet": drawnet.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML and JSON."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with a + if files were changed."""
    here = ["git", "-C", os.fspath(Path(__file__).parent)]
    try:
        inside = subprocess.run(
            [*here, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10
        )
        if inside.returncode:
            return None
        described = subprocess.run(
            [*here, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
