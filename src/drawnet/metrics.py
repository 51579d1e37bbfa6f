"""``metrics.csv``, the log of a training: its columns, and how to read it."""

import csv
from pathlib import Path

COLUMNS = (
    "step",
    "epoch",
    "glimpses",
    "loss",
    "kl",
    "error",
    "grad_norm",
    "lr",
    "images_per_second",
    "skipped",
    "valid_loss",
    "valid_kl",
    "valid_error",
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a log; those that a crash cut short are left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such log.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        table = csv.DictReader(file)
        try:
            rows = list(table)
        except csv.Error as error:
            raise ValueError(f"{path}: expected the log of a training, got {error}") from error
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{path}: expected a log with the columns {', '.join(COLUMNS)}")
    whole = [row for row in rows if None not in row and None not in row.values()]
    return [row for row in whole if row["step"].isdigit()]
