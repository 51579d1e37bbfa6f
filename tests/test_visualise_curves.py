"""Learning curves from what trainings have written."""

import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Answer

from drawnet.metrics import COLUMNS
from drawnet.visualise import plot_curves, read_curve

STEPS = 40


def trained(folder: Path, *, error: bool = False, validations: bool = True) -> Path:
    """A run folder with losses of 1000 / step (of a classifier: errors), T = 2 and later 3."""
    folder.mkdir()
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for step in range(1, STEPS + 1):
            row: dict[str, Any] = {"step": step, "glimpses": 2 if step < 30 else 3}
            writer.writerow(row | {"error" if error else "loss": 1000 / step, "loss": 1000 / step})
            if validations and step % 10 == 0:
                facts = {"valid_loss": 500 / step} | ({"valid_error": 0.5 / step} if error else {})
                writer.writerow(row | facts)
    return folder


def test_losses_and_where_the_chain_grew(tmp_path: Path) -> None:
    curve = read_curve(trained(tmp_path / "run"))
    assert (curve.name, curve.unit) == ("run", "nats per image")
    assert curve.training == [(step, 1000 / step) for step in range(1, STEPS + 1)]
    assert curve.validation == [(step, 500 / step) for step in (10, 20, 30, 40)]
    assert curve.lengthened == [(30, 3)]

    (axes,) = plot_curves([curve]).axes
    drawn = [line.get_xydata() for line in axes.lines]
    np.testing.assert_allclose(np.asarray(drawn[0]), curve.training)
    np.testing.assert_allclose(np.asarray(drawn[1]), curve.validation)
    assert [text.get_text().strip() for text in axes.texts] == ["T = 3"]
    assert axes.get_ylabel() == "nats per image"
    low, high = axes.get_ylim()
    assert low < 500 / 40
    assert 1000 / 5 < high < 1000 / 2, "the steep beginning is cut off"


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    whole = read_curve(run)
    with (run / "metrics.csv").open("a", newline="") as file:
        row = {"step": STEPS + 1, "glimpses": 3, "loss": "nan", "valid_loss": "inf"}
        csv.DictWriter(file, COLUMNS).writerow(row)
    assert read_curve(run) == whole


def test_errors_of_classifiers_are_in_percent(tmp_path: Path) -> None:
    curve = read_curve(trained(tmp_path / "run", error=True))
    assert curve.unit == "wrong answers in %"
    assert curve.training[0] == (1, 100_000)
    assert curve.validation[-1] == (40, pytest.approx(100 * 0.5 / 40))


def test_several_trainings_side_by_side(tmp_path: Path) -> None:
    """Each has its colour, and the number that it came to; one may not be validated yet."""
    one, other = trained(tmp_path / "one"), trained(tmp_path / "other", validations=False)
    (axes,) = plot_curves([read_curve(one), read_curve(other)]).axes
    assert not axes.texts
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["one: 12.50", "other"]
    worse = read_curve(one)._replace(validation=[(10, 2.0), (20, 3.0)])
    legend = plot_curves([worse]).axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "one: 3.00", "the last, not the best"
    classifier = read_curve(trained(tmp_path / "classifier", error=True))
    with pytest.raises(ValueError, match="curves of one unit, got"):
        plot_curves([read_curve(one), classifier])


def test_a_training_too_short_for_a_row_of_the_log(tmp_path: Path) -> None:
    """Fewer than `drawnet.training.log.EVERY` steps, but some validations."""
    run = tmp_path / "run"
    run.mkdir()
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({"step": 3 * k, "glimpses": 2, "valid_loss": 9 / k} for k in (1, 2, 3))
    curve = read_curve(run)
    assert (curve.training, curve.validation) == ([], [(3, 9.0), (6, 4.5), (9, 3.0)])
    (axes,) = plot_curves([curve]).axes
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_xydata()), curve.validation)


def test_a_row_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"step": "5", "glimpses": "2", "loss": "3.5"}
    lines = [",".join(COLUMNS), ",".join(row.values()), "10,0"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    curve = read_curve(tmp_path)
    assert curve.training == [(5, 3.5)]
    with warnings.catch_warnings(action="error"):
        plot_curves([curve])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for text, message in (
        (None, "expected a run folder with its metrics.csv"),
        ("a,b\n1,2\n", "expected a run folder with its metrics.csv"),
        (
            ",".join(COLUMNS) + "\n1,0,2,many" + 9 * "," + "\n",
            "expected a run folder with its metrics.csv",
        ),
        (",".join(COLUMNS) + "\n", "expected numbers of at least some steps, got none"),
    ):
        if text is not None:
            (tmp_path / "metrics.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_curve(tmp_path)


def test_from_the_command_line(drawnet: Callable[..., Answer], tmp_path: Path) -> None:
    one, other, file = trained(tmp_path / "a"), trained(tmp_path / "b"), tmp_path / "curves.svg"
    assert drawnet("figure", "curves", one, other, "--out", file) == Answer(0, f"{file}\n", "")
    assert file.read_text().startswith("<?xml")
    (tmp_path / "c").mkdir()
    drawnet("figure", "curves", one, trained(tmp_path / "c" / "a"), "--out", file)
    words = [line for line in file.read_text().splitlines() if "<!-- " in line]
    assert [str(run) in "".join(words) for run in (one, tmp_path / "c" / "a")] == [True, True]
    answer = drawnet("figure", "curves", tmp_path, "--out", file)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
