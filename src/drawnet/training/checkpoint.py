"""Checkpoints that a crash, a full disk or a flipped bit cannot spoil.

Under the name of a checkpoint there is always a whole file or none (`drawnet.disk`), and the one
before stays until the new one is in place. Its sha256 lies beside it (``sha256sum -c`` reads it).
Files are read as data only: pickled code is refused.
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
"""Raised when a checkpoint's contents change their meaning."""

KEPT = 2
"""The newest checkpoint, and the one before to fall back on."""

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another training."""


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to the disk, made safe: see this module's text."""

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
        path.unlink(missing_ok=True)  # of a run gone back on: its sha256 is another
        line = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
        write_atomically(_sum_of(path), line.encode())
        write_atomically(path, content)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU; see `load`."""
        return load(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint and its sha256."""
        Path(path).unlink(missing_ok=True)
        _sum_of(Path(path)).unlink(missing_ok=True)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after this many steps lies."""
    return folder / f"step-{step:09d}.ckpt"


def saved(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def remove_later(folder: Path, step: int) -> None:
    """Remove the checkpoints of more steps: of a run gone back on, or too damaged to go on from."""
    for path in saved(folder):
        if path.name > path_of(folder, step).name:
            AtomicCheckpointIO().remove_checkpoint(path)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU after its sha256 has been compared.

    Raises:
        CheckpointError: If it is missing, damaged, no checkpoint of ours, or carries code.
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
    if (version := checkpoint["drawnet"]["format"]) > FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {version}, newer than the {FORMAT} known here"
        )
    return checkpoint


def newest(folder: Path) -> Path:
    """The newest checkpoint that is whole; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: If there is none.
    """
    for path in saved(folder):
        try:
            load(path)
        except CheckpointError as error:
            log.warning("%s; taking the one before", error)
        else:
            return path
    raise CheckpointError(f"no whole checkpoint in {folder}")


def _sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
