"""Fetch a file of a public data set once, so that it is complete and the right one, or absent.

The bytes go to a temporary file beside the target. It takes the target's place only after its
length and SHA-256 have been checked. Any number of processes may fill one cache: each writes its
own temporary file, and the last one to finish puts an identical file in place.
"""

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from drawnet.data.images import DataError
from drawnet.progress import Progress

TIMEOUT = 10.0
"""Seconds without an answer after which a server counts as unreachable."""

CHUNK = 1 << 18


@dataclass(frozen=True)
class Remote:
    """A file on the net: where it is, and the hash and size that it must have."""

    url: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(remote: Remote, target: Path, progress: Progress | None = None) -> None:
    """Download into `target`. Whatever goes wrong, no half file is left under that name.

    Raises:
        DataError: No network, a wrong length or SHA-256, or a folder that cannot be written to.
            Says how to get the file by hand.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".part"
        )
    except OSError as error:
        raise DataError(f"{target.parent}: cannot be written to ({error})") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _receive(remote, file.write, progress)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except (OSError, HTTPException, DataError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise DataError(
            f"{remote.url}: could not be downloaded ({error}). "
            f"By hand: fetch it with a browser and save it as {target}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _receive(remote: Remote, write: Callable[[bytes], object], progress: Progress | None) -> None:
    digest, done = hashlib.sha256(), 0
    with urllib.request.urlopen(remote.url, timeout=TIMEOUT) as answer:
        # Ask for one byte more than expected, to notice an answer that is too long, however long.
        while chunk := answer.read(min(CHUNK, remote.size + 1 - done)):
            write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(f"downloading {remote.filename}", done, remote.size)
    if done != remote.size:
        came = f"{done}" if done < remote.size else "more"
        raise DataError(f"expected {remote.size} bytes, got {came}")
    if digest.hexdigest() != remote.sha256:
        raise DataError(f"expected sha256 {remote.sha256}, got {digest.hexdigest()}")


def check(path: Path, remote: Remote) -> None:
    """Raise a `DataError` unless a file is the published one, to the byte."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if digest != remote.sha256:
        raise DataError(
            f"{path}: expected {remote.filename} as published, of sha256 {remote.sha256}, "
            f"got {digest}"
        )
