"""Learning curves, from the ``metrics.csv`` of run folders."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from drawnet.metrics import read_rows
from drawnet.visualise.plots import PAGE_WIDTH, TEXT


class Curve(NamedTuple):
    """How a training went.

    Attributes:
        name: The name of the run.
        unit: ``"nats per image"`` or, for a classifier, ``"wrong answers in %"``.
        training: (step, value) for each row of the log, a mean since the row before, if finite.
        validation: (step, value) for each validation, if finite.
        lengthened: (step, T) wherever the number of glimpses changed.
    """

    name: str
    unit: str
    training: list[tuple[int, float]]
    validation: list[tuple[int, float]]
    lengthened: list[tuple[int, int]]


def read_curve(run: Path) -> Curve:
    """Read the learning curve of a run folder.

    Raises:
        ValueError: If the folder has no valid ``metrics.csv``, or there are no numbers in it.
    """
    path = run / "metrics.csv"
    try:
        rows = read_rows(path)
        wrong = any(row["valid_error"] or row["error"] for row in rows)
        column, scale = ("error", 100) if wrong else ("loss", 1)

        def values(name: str) -> list[tuple[int, float]]:
            found = [(int(row["step"]), scale * float(row[name])) for row in rows if row[name]]
            return [(step, value) for step, value in found if math.isfinite(value)]

        training, validation = values(column), values(f"valid_{column}")
        lengths = [(int(row["step"]), int(row["glimpses"])) for row in rows]
    except (OSError, ValueError) as error:
        message = f"{run}: expected a run folder with its metrics.csv, got {error!r}"
        raise ValueError(message) from error
    if not training and not validation:
        raise ValueError(f"{path}: expected numbers of at least some steps, got none")
    lengthened = [after for before, after in pairwise(lengths) if before[1] != after[1]]
    unit = "wrong answers in %" if wrong else "nats per image"
    return Curve(run.resolve().name, unit, training, validation, lengthened)


def plot_curves(curves: Sequence[Curve]) -> Figure:
    """Plot loss or error by step: thin for the training batches, thick for the validation images.

    The steep beginning is cut off. With a single curve, a dotted line shows where the chain was
    lengthened.

    Raises:
        ValueError: If there is no curve, or the curves have different units.
    """
    units = {curve.unit for curve in curves}
    if len(units) != 1:
        raise ValueError(f"expected curves of one unit, got {sorted(units)}")
    figure = Figure(figsize=(PAGE_WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    shown = []
    for number, curve in enumerate(curves):
        colour = f"C{number}"
        late = [value for _, value in curve.training[len(curve.training) // 10 :]]
        if curve.training:
            axes.plot(*zip(*curve.training, strict=True), color=colour, linewidth=0.6, alpha=0.5)
        label = curve.name
        if curve.validation:
            axes.plot(*zip(*curve.validation, strict=True), color=colour, linewidth=1.6)
            label += f": {curve.validation[-1][1]:.2f}"
            late += [value for _, value in curve.validation]
        axes.plot([], [], color=colour, linewidth=1.6, label=label)
        shown += late
    if len(curves) == 1:
        for step, glimpses in curves[0].lengthened:
            axes.axvline(step, color="0.6", linewidth=0.8, linestyle=":")
            at = (step, 1.0)
            axes.annotate(
                f" T = {glimpses}", at, xycoords=("data", "axes fraction"), va="top", **TEXT
            )
    low, high = min(shown), max(shown)
    space = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - space, high + space)
    axes.set_xlim(left=0)
    axes.set_xlabel("steps", **TEXT)
    axes.set_ylabel(units.pop(), **TEXT)
    axes.legend(frameon=False, fontsize=8, labelcolor="0.15", loc="upper right")
    axes.tick_params(labelsize=8, color="0.5", labelcolor="0.15")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
