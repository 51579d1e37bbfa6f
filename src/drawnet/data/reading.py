"""Read files that may be damaged or hostile, in bounded memory.

A reader says how many bytes it wants and gets exactly those, or a `DataError` that names the file,
what was expected and what it got. No header is trusted for how much memory to allocate.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from drawnet.data.images import DataError

CHUNK = 1 << 20


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


@contextmanager
def opened(path: Path) -> Iterator[Readable]:
    """The contents of a file, decompressed if it begins like a gzip file, whatever its name."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.open(file) as unpacked:
                    yield unpacked
            else:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def exactly(stream: Readable, count: int, path: Path, what: str) -> bytearray:
    """The next `count` bytes of the stream."""
    data = bytearray()
    while len(data) < count:
        chunk = stream.read(min(CHUNK, count - len(data)))
        if not chunk:
            raise DataError(f"{path}: expected {count} bytes of {what}, got {len(data)}")
        data += chunk
    return data


def ended(stream: Readable, path: Path, what: str) -> None:
    """Raise a `DataError` if anything follows."""
    if stream.read(1):
        raise DataError(f"{path}: expected the end of the file after {what}, got more bytes")
