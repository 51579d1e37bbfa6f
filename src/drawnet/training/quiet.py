"""Lightning without its advertisements, and without warnings that do not apply here."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

IRRELEVANT = (
    # The recipe chooses the hardware.
    ".*available but not used.*",
    # Caused by Lightning's own use of torch.
    ".*isinstance.treespec, LeafSpec.*",
    # A time limit belongs only to the run that it was set for.
    ".*callbacks used to create the checkpoint.*_TimeLimit.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's notices and its irrelevant warnings, and nothing else."""
    notices = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [notice.level for notice in notices]
    for notice in notices:
        notice.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in IRRELEVANT:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for notice, level in zip(notices, levels, strict=True):
            notice.setLevel(level)
