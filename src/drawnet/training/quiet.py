"""Lightning without its advertisements, and without warnings that do not apply here."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

IRRELEVANT = (
    # What to run on is the recipe's choice.
    ".*available but not used.*",
    # Lightning's own use of torch.
    ".*isinstance.treespec, LeafSpec.*",
    # A limit of time is of the one run that had it.
    ".*callbacks used to create the checkpoint.*_TimeLimit.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back Lightning's notices, its irrelevant warnings, and nothing else."""
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
