"""Write files whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Put a whole file in place, or leave what was there; see `write_together`."""
    write_together({path: content})


def write_together(files: Mapping[Path, bytes | memoryview]) -> None:
    """Put whole files in place, or leave what was there.

    Each file is first written to a temporary file beside its place and flushed to the disk. When
    all are written they are moved into place, each in one step. So neither a crash nor a full disk
    can leave half a file under its name, and a full disk cannot leave some of the new files beside
    some of the old.

    Args:
        files: The contents of each file, in the order in which to move the files. Folders are
            created as needed.

    Raises:
        OSError: Says which file could not be saved, and why.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            os.replace(temporary[path], path)
        for parent in {path.parent for path in files}:
            with contextlib.suppress(OSError):  # Windows and some network disks cannot
                folder = os.open(parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except OSError as error:
        for orphan in temporary.values():
            with contextlib.suppress(OSError):
                orphan.unlink(missing_ok=True)
        raise cannot_save(path, error) from error


def cannot_save(path: Path, error: OSError) -> OSError:
    """The same error, saying which file could not be saved and why."""
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    reason = "disk full" if full else os.strerror(error.errno or errno.EIO)
    if error.errno == errno.EEXIST:  # from `Path.mkdir`
        reason = f"{path.parent} is not a folder"
    return OSError(error.errno, f"cannot save {path}: {reason}")


def sweep(folder: Path) -> None:
    """Remove what interrupted writes left behind."""
    for orphan in folder.glob(".*.[0-9]*.tmp"):
        orphan.unlink(missing_ok=True)
