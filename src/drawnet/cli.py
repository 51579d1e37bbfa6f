"""The command `drawnet`: parse, call, print.

Each verb is a function that reads its own arguments and imports what it needs when it runs, so that
``--help`` is quick. Bad input is one line on stderr and exit 2.
"""

import logging
import os
import signal
import sys
from argparse import ArgumentParser as PlainParser
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

BAD_INPUT, DIVERGED = 2, 3


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    0: done. 1: the machine failed, such as a full disk. 2: bad input. 3: the training diverged.
    128 + n: stopped by signal n.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        verb = _verb(argv)
        VERBS[verb](argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        _fail(argv[0], _words(error), BAD_INPUT)
    except OSError as error:
        _fail(argv[0], _words(error), 1)
    except ValueError as error:
        _fail(argv[0], str(error), BAD_INPUT)
    sys.exit(0)


def _verb(argv: Sequence[str]) -> str:
    """The verb of a command line; help, version and mistakes end here."""
    from drawnet import __version__

    verbs = "\n".join(f"  {verb:12} {_summary(run)}" for verb, run in VERBS.items())
    parser = PlainParser(
        "drawnet",
        description="Draw images with DRAW, the deep recurrent attentive writer.",
        epilog=f"verbs:\n{verbs}\n\n`drawnet VERB --help` tells what a verb takes.",
        formatter_class=RawDescriptionHelpFormatter,
        usage="drawnet VERB ...",
    )
    parser.add_argument("--version", action="version", version=f"drawnet {__version__}")
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of those below")
    return str(parser.parse_args(argv[:1]).verb)


def train(argv: Sequence[str]) -> None:
    """Train a network by a recipe."""
    from drawnet import recipe as recipes
    from drawnet.step import DRAWConfig

    early = PlainParser(add_help=False, allow_abbrev=False)
    early.add_argument("--recipe")
    early.add_argument("--out", type=Path)
    early.add_argument("--resume", nargs="?", const=True)
    known, _ = early.parse_known_args(argv)

    parser = _parser("train", train)
    parser.add_argument(
        "--recipe",
        help=f"a YAML file, or one of {', '.join(recipes.shipped())} (default: digits; with "
        "--resume: the run's own)",
    )
    parser.add_argument("--data-dir", type=Path, help="where the data sets are")
    parser.add_argument("--out", type=Path, help="the run folder (default: runs/RECIPE)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="CHECKPOINT",
        help="go on from the run's newest whole checkpoint, or from the one named",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove the run that the folder holds"
    )
    parser.add_class_arguments(recipes.Recipe)

    out = known.out or Path("runs") / Path(known.recipe or "digits").stem
    of_run = known.resume and not known.recipe
    file = out / "recipe.yaml" if of_run else recipes.find(known.recipe or "digits")
    if not file.is_file():
        raise ValueError(f"{out} holds no run to resume: {file} is missing")
    parser.default_config_files = [str(file)]
    values = parser.parse_args(argv)
    recipe = recipes.Recipe(
        DRAWConfig(**vars(values.model)),
        recipes.DataConfig(**vars(values.data)),
        recipes.OptimConfig(**vars(values.optim)),
        recipes.TrainerConfig(**vars(values.trainer)),
        values.seed,
    )

    from drawnet import training

    _show_log()
    go_on = f"drawnet train --out {out} --resume"
    try:
        training.train(
            recipe,
            out,
            data_dir=values.data_dir,
            resume=values.resume or False,
            overwrite=values.overwrite,
        )
    except training.Interrupted as stop:
        _fail("train", f"stopped with a checkpoint; to go on: {go_on}", 128 + stop.signal)
    except training.Diverged as stop:
        _fail("train", f"{stop}; the last finite state is saved: {go_on} --optim.lr ...", DIVERGED)


VERBS: dict[str, Callable[[Sequence[str]], None]] = {"train": train}


def _summary(verb: Callable[..., Any]) -> str:
    return (verb.__doc__ or "").splitlines()[0]


def _parser(verb: str, run: Callable[..., Any]) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    class OneLine(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            _fail(verb, message, BAD_INPUT)

    return OneLine(prog=f"drawnet {verb}", description=_summary(run), allow_abbrev=False)


def _fail(verb: str, message: str, code: int) -> NoReturn:
    print(f"drawnet {verb}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _words(error: OSError) -> str:
    words = error.strerror or str(error)
    return words if error.filename is None else f"{error.filename}: {words}"


def _show_log() -> None:
    """What the package logs, as plain lines on stderr, above the progress bar if there is one."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(self.format(record), file=sys.stderr, flush=True)

    log = logging.getLogger("drawnet")
    log.setLevel(logging.INFO)
    log.addHandler(Lines())
