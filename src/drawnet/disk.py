"""Files that are there as a whole or not at all."""

import contextlib
import errno
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Put a whole file in place, or leave what was there.

    The content goes to a temporary file beside its place, is flushed to the disk, and is moved into
    place in one step, so neither a crash nor a full disk can leave half a file under that name.

    Args:
        path: The file. Its folder is made if need be.
        content: All of it.

    Raises:
        OSError: With the path, and in plain words what was wrong.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_save(path, error) from error


def cannot_save(path: Path, error: OSError) -> OSError:
    """The same error, saying which file could not be saved and why."""
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    reason = "disk full" if full else os.strerror(error.errno or errno.EIO)
    return OSError(error.errno, f"cannot save {path}: {reason}")


def sweep(folder: Path) -> None:
    """Remove what interrupted writes left behind."""
    for orphan in folder.glob(".*.tmp"):
        orphan.unlink(missing_ok=True)
