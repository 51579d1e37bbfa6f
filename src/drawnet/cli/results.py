"""`drawnet evaluate`: how good a network is, and how certain that is."""

import argparse
import csv
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drawnet.cli.arguments import add_data, add_number, add_weights, path, verb_parser
from drawnet.cli.inputs import (
    UNKNOWN,
    USED_BY,
    conv_net,
    described,
    drawer,
    drawn_at_random,
    glimpse_classifier,
    images_for,
    images_to_draw,
)
from drawnet.cli.outputs import note, tell

if TYPE_CHECKING:
    from drawnet.data import Images
    from drawnet.evaluate import Bound, ErrorRate
    from drawnet.model import DRAW


def evaluate(argv: Sequence[str]) -> None:
    """Bound the log-likelihood of a set of images, or count a classifier's errors on it."""
    parser = verb_parser(evaluate)
    add_weights(parser)
    add_data(parser)
    add_number(parser, "count", 1, 10**9, None, "images, chosen at random; by default all")
    what = "K of an importance-weighted bound, besides the usual one; 1 leaves it out"
    add_number(parser, "samples", 1, 10**6, 1, what)
    add_number(parser, "batch-size", 1, 10**6, 500, "images at a time; more than 500 count as 500")
    what = "also save the bound of each image, in nats, as a table in this CSV file"
    parser.add_argument("--each", type=path, metavar="FILE", help=what)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(argv)

    model = described(asked)["model"]
    if model not in USED_BY:
        raise ValueError(f"{asked.weights}: got weights of a {model}, {UNKNOWN}")
    if model == "DRAW":
        facts, result, lines = _bound(asked)
        each = {name: result.pop(key) for name, key in (("nats", "each"), ("iw_nats", "iw_each"))}
    elif asked.samples > 1 or asked.each is not None:
        option = "--samples" if asked.samples > 1 else "--each"
        raise ValueError(f"{option} is for a DRAW, {asked.weights} is a {model}")
    else:
        facts, result, lines = _errors(asked, model)
    if asked.json:  # JSON has no infinity, which is the standard error of a single image
        lines = [json.dumps({k: None if v == math.inf else v for k, v in (facts | result).items()})]
    print("\n".join(lines))
    if asked.each is not None:  # last, since it may fail
        _save_table(asked.each, {name: column for name, column in each.items() if column})


def _bound(asked: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Facts, numbers, and both as lines to read."""
    model = drawer(asked)
    images = _chosen(asked, images_to_draw(asked, model)).to(model.canvas.device)

    from drawnet.evaluate import evaluate as bound_over

    if asked.samples > 1:
        seconds = expected_seconds(model, images, asked.samples, asked.batch_size)
        what = f"K = {asked.samples} for {len(images)} images"
        note("evaluate", f"{what} is going to take about {_duration(seconds)}")
    bound = bound_over(
        model,
        images,
        batch_size=asked.batch_size,
        samples=asked.samples,
        seed=asked.seed,
        progress=tell,
    )
    facts = {
        **_facts(asked, images),
        "prior": model.config.prior,
        "likelihood": model.config.likelihood,
        "given": "label" if model.config.classes else None,
    }
    return facts, asdict(bound), _bound_lines(facts, bound)


def _save_table(file: Path, columns: dict[str, list[float]]) -> None:
    from drawnet.disk import write_atomically

    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomically(file, table.getvalue().encode())


def _errors(
    asked: argparse.Namespace, name: str
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Facts, numbers, and both as lines to read."""
    model = conv_net(asked) if name == "ConvNet" else glimpse_classifier(asked)
    images = _chosen(asked, images_for(asked, model.config.image_shape))

    from drawnet.baselines import multiply_adds
    from drawnet.classify import Classifier
    from drawnet.evaluate import evaluate_classifier

    assert isinstance(model, Classifier)
    result = evaluate_classifier(
        model,
        images.to(next(model.parameters()).device),
        batch_size=asked.batch_size,
        seed=asked.seed,
        progress=tell,
    )
    facts = {
        **_facts(asked, images),
        "classes": list(images.classes),
        "multiply_adds": multiply_adds(model, model.config.image_shape),
    }
    return facts, asdict(result), _error_lines(facts, result)


def _chosen(asked: argparse.Namespace, images: "Images") -> "Images":
    """All images, or a random choice of as many as asked for, noted in their description."""
    if asked.count is None or asked.count >= len(images):
        return images
    few = drawn_at_random(images, asked.count, asked.seed)
    which = f"{len(few)} of {len(images)} drawn at random with seed {asked.seed}"
    return replace(few, description=f"{images.description}, {which}")


def _facts(asked: argparse.Namespace, images: "Images") -> dict[str, Any]:
    return {
        "weights": asked.weights,
        "data": images.description,
        "split": images.split,
        "seed": asked.seed,
    }


def expected_seconds(model: "DRAW", images: "Images", samples: int, batch_size: int) -> float:
    """Estimate how long the importance-weighted bound will take, by timing a small part of it."""
    import torch

    from drawnet.data.images import BLOCK
    from drawnet.objective import CHAINS, importance_weighted_bound

    generator = torch.Generator(model.canvas.device).manual_seed(0)
    x, y = images.batch(torch.arange(min(batch_size, BLOCK, len(images))), generator)
    some = min(samples, max(CHAINS // len(x), 1))
    first = None if y is None else y[:1]
    with torch.no_grad():
        importance_weighted_bound(model, x[:1], 1, generator, y=first).sum().item()  # it is slow
        start = time.perf_counter()
        importance_weighted_bound(model, x, some, generator, y=y).sum().item()
    return (time.perf_counter() - start) / (some * len(x)) * samples * len(images)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _bound_lines(facts: dict[str, Any], bound: "Bound") -> list[str]:
    p = "p(x | y)" if facts["given"] == "label" else "p(x)"
    wide = 16 + len(p)

    def row(name: str, nats: float, error: str = "") -> str:
        return f"  {name:{wide}} {nats:8.2f}{error}"

    lines = [
        f"{facts['data']}, {facts['split']}: {bound.count} images",
        f"{facts['weights']}: {bound.glimpses} glimpses, {facts['prior']} prior, "
        f"{facts['likelihood']} likelihood",
        "",
        "nats per image, lower is better",
        row(f"-log {p} <=", bound.nats, _error(bound.stderr) + _bits(bound.bits_per_dim)),
        row("  L^x, the image", bound.nll_x),
        row("  L^z, the latents", bound.kl),
    ]
    if bound.iw_nats is not None:
        error = _error(bound.iw_stderr) + _bits(bound.iw_bits_per_dim)
        lines.append(row(f"-log {p} <=, K = {bound.samples}", bound.iw_nats, error))
    each = " ".join(f"{kl:.2f}" for kl in bound.kl_per_glimpse)
    lines.append(f"  L^z by glimpse: {each}")
    if not bound.code_length:
        lines.append(
            "These nats are not a code length: the images have intensities between black and "
            "white, for which a bernoulli likelihood gives the cross-entropy."
        )
    return lines


def _error(stderr: float | None) -> str:
    """The standard error of a mean, as text; empty for a single image."""
    return "" if stderr is None or not math.isfinite(stderr) else f" +- {stderr:.2f}"


def _bits(bits: float | None) -> str:
    return "" if bits is None else f", or {bits:.3f} bits per dimension"


def _error_lines(facts: dict[str, Any], result: "ErrorRate") -> list[str]:
    low, high = (100 * end for end in result.interval)
    each = " ".join(f"{100 * error:.2f}" for error in result.error_per_glimpse)
    names = [str(name) for name in facts["classes"]]
    label = max(map(len, names))
    wide = max(label, len(str(max(map(max, result.confusion))))) + 2

    def row(name: str, cells: Sequence[object]) -> str:
        return f"  {name:>{label}}" + "".join(f"{cell!s:>{wide}}" for cell in cells)

    return [
        f"{facts['data']}, {facts['split']}: {result.count} images",
        f"{facts['weights']}: {len(result.error_per_glimpse)} glimpses",
        "",
        f"error             {100 * result.error:.2f} %, 95 % interval {low:.2f} to {high:.2f} %",
        f"error by glimpse  {each}",
        f"cost              {facts['multiply_adds'] / 1e6:.2f} million multiply-adds per image",
        "",
        "classes in rows, answers in columns",
        row("", names),
        *(row(name, cells) for name, cells in zip(names, result.confusion, strict=True)),
    ]
