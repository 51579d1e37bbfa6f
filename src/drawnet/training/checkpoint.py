"""Checkpoints that a crash, a full disk or a flipped bit cannot spoil.

A checkpoint's file is always whole or absent (`drawnet.disk`), and the previous checkpoint stays
until the new one is in place. The sha256 of each lies beside it (``sha256sum -c`` reads it). Files
are read as data only: pickled code is refused.
"""

import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from drawnet.disk import write_atomically

FORMAT = 1
"""The version of the format, to be raised when the meaning of a checkpoint's contents changes."""

KEPT = 2
"""How many checkpoints to keep: the newest, and the one before it to fall back on."""

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint is missing or damaged, or belongs to another training."""


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's checkpoint I/O, made safe: see the docstring of this module."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint, and its sha256 beside it.

        Raises:
            OSError: If the disk is full or the folder not writable; earlier files are untouched.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        path = Path(path)
        path.unlink(missing_ok=True)  # from before going back to an older step: its sha256 differs
        line = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
        write_atomically(_sum_of(path), line.encode())
        write_atomically(path, content)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint into the CPU's memory; see `load`."""
        return load(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint and its sha256."""
        Path(path).unlink(missing_ok=True)
        _sum_of(Path(path)).unlink(missing_ok=True)


def path_of(folder: Path, step: int) -> Path:
    """The path of the checkpoint saved after `step` steps."""
    return folder / f"step-{step:09d}.ckpt"


def saved(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first; copies under other names are the user's own."""
    return sorted(folder.glob(f"step-{9 * '[0-9]'}.ckpt"), reverse=True)


def remove_later(folder: Path, step: int) -> None:
    """Remove the checkpoints after `step`: the run went back to it, or they are damaged."""
    for path in saved(folder):
        if path.name > path_of(folder, step).name:
            AtomicCheckpointIO().remove_checkpoint(path)


def load(path: Path) -> dict[str, Any]:
    """Check the sha256 of a checkpoint and read it into the CPU's memory.

    Raises:
        CheckpointError: If it is missing or damaged, is not drawnet's, or carries code.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from error
    try:
        expected = _sum_of(path).read_text().split()[0]
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise CheckpointError(f"checkpoint {path} has no sha256 beside it") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise CheckpointError(
            f"checkpoint {path} is damaged: its sha256 is {actual[:12]}..., expected "
            f"{expected[:12]}..."
        )
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or carries code: refused") from error
    if not isinstance(checkpoint, dict) or "drawnet" not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of drawnet")
    facts = checkpoint["drawnet"]
    # Before a release, 1 was also the format of what recorded less of its origin.
    if facts["format"] != FORMAT or "found" not in (facts.get("origin") or ()):
        raise CheckpointError(
            f"checkpoint {path} is of another version of drawnet; to go on from the weights of its "
            "run, begin a new one by --start"
        )
    return checkpoint


def newest(folder: Path) -> Path:
    """The newest undamaged checkpoint; damaged ones are skipped with a warning.

    Raises:
        CheckpointError: If there is none.
    """
    why = ""
    for path in saved(folder):
        try:
            load(path)
        except CheckpointError as error:
            log.warning("%s; taking the one before", error)
            why = why or f": {error}"
        else:
            return path
    raise CheckpointError(f"no checkpoint to go on from in {folder}{why}")


def _sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
