"""Printing messages and saving figures."""

import io
import logging
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol

from drawnet.cli.budget import FIGURE

MACHINE_FAILED, BAD_INPUT, DIVERGED = 1, 2, 3

_unfinished = False
"""Whether the last line on stderr is the progress of unfinished work."""


def fail(verb: str, message: str, code: int) -> NoReturn:
    """Print one line on why a verb stops, and exit."""
    note(verb, message)
    sys.exit(code)


def note(verb: str, message: str) -> None:
    """Print one line on stderr."""
    say(f"{f'drawnet {verb}'.strip()}: {' '.join(message.split())}")


def say(line: str) -> None:
    """Print a line on stderr, below the progress of unfinished work."""
    global _unfinished
    if sys.stderr is not None:  # it is None if the shell has closed it
        print("\n" * _unfinished + line, file=sys.stderr, flush=True)
    _unfinished = False


def tell(what: str, done: int, total: int) -> None:
    """Show the progress of long work, on a terminal only."""
    global _unfinished
    if sys.stderr is not None and sys.stderr.isatty():
        _unfinished = done < total
        end = "" if _unfinished else "\n"
        print(f"\r{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)


def words(error: OSError) -> str:
    """The system's message, and the file that it is about."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or torch asked for more memory than there is."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "DefaultCPUAllocator" in str(error)


@contextmanager
def log_shown() -> Iterator[None]:
    """Print what the package logs on stderr, above the progress bar if there is one."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(self.format(record))

    log, lines = logging.getLogger("drawnet"), Lines()
    log.setLevel(logging.INFO)
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)


class Figure(Protocol):
    """The part of a matplotlib figure that is needed here."""

    def get_size_inches(self) -> Iterable[float]:
        """The width and the height of the figure."""

    def savefig(
        self, fname: io.BytesIO, *, format: str, dpi: int, metadata: dict[str, None] | None
    ) -> None:
        """Write the figure to a file."""


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Save a figure in the format of the suffix, without a date, and print where it is.

    Raises:
        ValueError: If it would be a PNG too large for the memory.
    """
    from drawnet.disk import write_atomically

    form = path.suffix[1:].lower()
    if form == "png" and (pixels := dpi**2 * math.prod(figure.get_size_inches())) > FIGURE:
        got = f"at most {FIGURE >> 20} megapixels, got {pixels / 2**20:.0f}"
        raise ValueError(f"expected a figure of {got}: lower --dpi, or show less")
    undated: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    file = io.BytesIO()
    figure.savefig(file, format=form, dpi=dpi, metadata=undated.get(form))
    write_atomically(path, file.getvalue())
    print(path)
