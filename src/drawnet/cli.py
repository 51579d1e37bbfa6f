"""The command `drawnet`: parse, call, print.

Each verb reads its own arguments and imports what it needs when it runs, so that ``--help`` is
quick. Bad input is one line on stderr and exit 2.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from drawnet.data import Images
    from drawnet.evaluate import Bound
    from drawnet.model import DRAW, Trace

MACHINE_FAILED, BAD_INPUT, DIVERGED = 1, 2, 3


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    0: done. 1: the machine failed, such as a full disk. 2: bad input. 3: the training diverged.
    128 + n: stopped by signal n.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = _verb(argv)
    try:
        VERBS[verb](argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (FileNotFoundError, PermissionError, NotADirectoryError, FileExistsError) as error:
        _fail(verb, _words(error), BAD_INPUT)
    except OSError as error:
        _fail(verb, _words(error), MACHINE_FAILED)
    except ValueError as error:
        _fail(verb, str(error), BAD_INPUT)
    sys.exit(0)


def train(argv: Sequence[str]) -> None:
    """Train a network by a recipe."""
    from jsonargparse import ArgumentParser

    from drawnet import recipe as recipes
    from drawnet.config import DRAWConfig

    class Parser(ArgumentParser):
        reading = ""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            _fail("train", self.reading + message, BAD_INPUT)

    parser = Parser("drawnet train", description=train.__doc__, allow_abbrev=False)
    own = Plain(add_help=False, allow_abbrev=False)
    for each in (parser, own):
        each.add_argument(
            "--recipe",
            help=f"a YAML file, or one of {', '.join(recipes.shipped())} (default: digits; with "
            "--resume: the run's own)",
        )
        each.add_argument("--data-dir", type=Path, help="where the data sets are")
        each.add_argument("--out", type=Path, help="the run folder (default: runs/RECIPE)")
        each.add_argument(
            "--resume",
            nargs="?",
            const=True,
            metavar="CHECKPOINT",
            help="go on from the run's newest whole checkpoint, or from the one named",
        )
        each.add_argument(
            "--overwrite", action="store_true", help="remove the run that the folder holds"
        )
    parser.add_class_arguments(recipes.Recipe)

    # The recipe's file must be known before the fields on the command line can override it.
    asked, _ = own.parse_known_args(argv)
    out = asked.out or Path("runs") / Path(asked.recipe or "digits").stem
    if asked.resume and not asked.recipe:
        file = out / "recipe.yaml"
        if not file.is_file():
            raise ValueError(f"{out} holds no run to resume: {file} is missing")
    else:
        file = recipes.find(asked.recipe or "digits")
    parser.default_config_files = [str(file)]
    parser.reading = f"{file}: "
    parser.parse_args([])
    parser.reading = ""
    values = parser.parse_args(argv)
    recipe = recipes.Recipe(
        DRAWConfig(**vars(values.model)),
        recipes.DataConfig(**vars(values.data)),
        recipes.OptimConfig(**vars(values.optim)),
        recipes.TrainerConfig(**vars(values.trainer)),
        values.seed,
    )

    from drawnet import training

    go_on = f"drawnet train --out {out} --resume"
    try:
        with _log_shown():
            training.train(
                recipe,
                out,
                data_dir=asked.data_dir,
                resume=asked.resume or False,
                overwrite=asked.overwrite,
                tell=_tell,
            )
    except training.Interrupted as stop:
        if stop.rank:
            sys.exit(128 + stop.signal)  # the first process speaks for all
        _fail("train", f"stopped with a checkpoint; to go on: {go_on}", 128 + stop.signal)
    except training.Diverged as stop:
        _fail("train", f"{stop}; its last finite state is saved; try: {go_on} --optim.lr", DIVERGED)


def evaluate(argv: Sequence[str]) -> None:
    """Bound the log-likelihood of a set of images."""
    parser = _parser("evaluate")
    _add_weights(parser)
    _add_data(parser)
    _add(parser, "samples", 1, 10**6, 1, "K of an importance-weighted bound beside the usual one")
    _add(parser, "batch-size", 1, 10**6, 500, "images at a time")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(argv)
    model, images = _model(asked), _images(asked)

    from drawnet.evaluate import evaluate as bound_over

    bound = bound_over(
        model,
        images.to(model.canvas.device),
        batch_size=asked.batch_size,
        samples=asked.samples,
        seed=asked.seed,
        progress=lambda done, total: _tell("images", done, total),
    )
    facts = {"weights": asked.weights, "data": images.description, "prior": model.config.prior}
    print(json.dumps({**facts, **asdict(bound)}) if asked.json else _table(facts, bound))


def generate(argv: Sequence[str]) -> None:
    """Draw new images: a picture of all, and an animation of the canvases growing."""
    parser = _parser("generate")
    _add_weights(parser)
    _add_pictures(parser, count=64)
    asked = parser.parse_args(argv)
    model = _model(asked)

    from drawnet import visualise

    trace = model.generate(asked.count, generator=_generator(asked, model))
    _save(asked, "generated", visualise.grid(trace.mean, scale=asked.scale), trace)


def reconstruct(argv: Sequence[str]) -> None:
    """Draw images anew: a picture of each beside its copy, and an animation of the drawing."""
    parser = _parser("reconstruct")
    _add_weights(parser)
    _add_data(parser)
    _add_pictures(parser, count=16)
    asked = parser.parse_args(argv)
    model, images = _model(asked), _images(asked)

    import torch

    from drawnet import visualise

    generator = _generator(asked, model)
    index = torch.randperm(len(images), generator=generator, device=generator.device)
    x, _ = images.to(generator.device).batch(index[: asked.count], generator)
    trace = model(x, generator=generator)
    pairs = torch.stack([x, trace.mean], dim=1).flatten(0, 1)
    columns = 2 * round(max(1, (len(x) / 2) ** 0.5))
    _save(
        asked, "reconstructed", visualise.grid(pairs, columns=columns, scale=asked.scale), trace, x
    )


def recipes(argv: Sequence[str]) -> None:
    """List the recipes that come with the package."""
    _parser("recipes").parse_args(argv)
    from drawnet.recipe import shipped

    for name, path in shipped().items():
        print(f"{name:20} {path.read_text().splitlines()[0].lstrip('# ')}")


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "reconstruct": reconstruct,
    "recipes": recipes,
}


class Plain(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit 2."""
        _fail(self.prog.removeprefix("drawnet").strip(), message, BAD_INPUT)


def _verb(argv: Sequence[str]) -> str:
    """The verb of a command line; help, version and mistakes end here."""
    from drawnet import __version__

    verbs = "\n".join(f"  {verb:12} {run.__doc__}" for verb, run in VERBS.items())
    parser = Plain(
        "drawnet",
        usage="drawnet VERB ...",
        description="DRAW, the deep recurrent attentive writer: a network that draws images.",
        epilog=f"verbs:\n{verbs}\n\n`drawnet VERB --help` tells what a verb takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"drawnet {__version__}")
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of those below")
    return str(parser.parse_args(argv[:1]).verb)


def _parser(verb: str) -> Plain:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    return Plain(f"drawnet {verb}", description=VERBS[verb].__doc__, formatter_class=formatter)


def _add(parser: Plain, name: str, low: float, high: float, default: float, what: str) -> None:
    """An option that is a number within a range."""
    number = type(default)

    def parse(text: str) -> float:
        value = number(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low} to {high}, got {text}")
        return value

    parse.__name__ = number.__name__
    parser.add_argument(f"--{name}", type=parse, default=default, help=what)


def _add_weights(parser: Plain) -> None:
    parser.add_argument(
        "weights", help="a run folder, a folder of weights, or the name of shipped weights"
    )
    _add(parser, "seed", 0, 2**32 - 1, 0, "of everything random")
    parser.add_argument("--device", help="such as cpu or cuda; by default what there is")


def _add_data(parser: Plain) -> None:
    parser.add_argument("--data", help="a data set; by default the one of the training")
    parser.add_argument("--data-dir", type=Path, help="where the data sets are")
    splits = ("train", "valid", "test")
    parser.add_argument("--split", choices=splits, default="test", help="the part of it")


def _add_pictures(parser: Plain, count: int) -> None:
    _add(parser, "count", 1, 1000, count, "images to draw")
    _add(parser, "scale", 1, 64, 4, "side of a pixel in the picture")
    _add(parser, "fps", 0.1, 50.0, 10.0, "glimpses a second")
    formats = ("gif", "png", "apng", "webp")
    parser.add_argument("--format", choices=formats, default="gif", help="of the animation")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures")


def _model(asked: argparse.Namespace) -> "DRAW":
    import torch

    from drawnet.fast import accelerate
    from drawnet.model import DRAW

    model = DRAW.from_pretrained(asked.weights).requires_grad_(False)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = model.to(asked.device or default)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {asked.device}: {str(error).splitlines()[0]}") from error
    accelerate(model, compile="off")
    return model


def _images(asked: argparse.Namespace) -> "Images":
    """The images asked for, or those of the training that the weights remember."""
    from drawnet import data, weights

    name, options = asked.data, {}
    if name is None:
        provenance = weights.describe(weights.locate(asked.weights))["provenance"]
        name, options = provenance.get("data_name"), provenance.get("data_options", {})
        if name is None:
            raise ValueError(f"{asked.weights} does not say what it was trained on; name --data")
    return data.load(name, asked.split, asked.data_dir, progress=_tell, **options)


def _generator(asked: argparse.Namespace, model: "DRAW") -> "torch.Generator":
    import torch

    return torch.Generator(model.canvas.device).manual_seed(asked.seed)


def _save(
    asked: argparse.Namespace,
    name: str,
    picture: "Image.Image",
    trace: "Trace",
    x: "torch.Tensor | None" = None,
) -> None:
    """Save a picture and its animation, and say where they are."""
    from drawnet import visualise

    asked.out.mkdir(parents=True, exist_ok=True)
    still = asked.out / f"{name}.png"
    moving = asked.out / f"{name}{'-growing' * (asked.format == 'png')}.{asked.format}"
    picture.save(still)
    visualise.save_animation(visualise.animate(trace, x, scale=asked.scale), moving, fps=asked.fps)
    print(still, moving, sep="\n")


def _table(facts: dict[str, str], bound: "Bound") -> str:
    """A bound as a few lines to read."""
    lines = [
        f"{facts['data']}: {bound.count} images",
        f"{facts['weights']}: {bound.glimpses} glimpses, {facts['prior']} prior",
        "",
        "nats per image, down is good",
        f"  -log p(x) <=         {bound.nats:8.2f} +- {bound.stderr:.2f}",
        f"    L^x, the image     {bound.nll_x:8.2f}",
        f"    L^z, the latents   {bound.kl:8.2f}",
    ]
    if bound.iw_nats is not None:
        weighted = f"-log p(x) <=, K = {bound.samples}"
        lines.append(f"  {weighted:20} {bound.iw_nats:8.2f} +- {bound.iw_stderr:.2f}")
    each = " ".join(f"{kl:.2f}" for kl in bound.kl_per_glimpse)
    return "\n".join([*lines, f"  L^z by glimpse: {each}"])


def _tell(what: str, done: int, total: int) -> None:
    """Progress of long work, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{what}: {done} of {total}", end=end, file=sys.stderr, flush=True)


def _fail(verb: str, message: str, code: int) -> NoReturn:
    print(f"{f'drawnet {verb}'.strip()}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _words(error: OSError) -> str:
    words = error.strerror or str(error)
    return words if error.filename is None else f"{error.filename}: {words}"


@contextmanager
def _log_shown() -> Iterator[None]:
    """What the package logs, as lines on stderr, above the progress bar if there is one."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record), file=sys.stderr, flush=True)

    log, lines = logging.getLogger("drawnet"), Lines()
    log.setLevel(logging.INFO)
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)
