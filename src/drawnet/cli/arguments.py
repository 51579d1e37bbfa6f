"""Parsers, and the options that several verbs share."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from drawnet.cli.outputs import BAD_INPUT, fail

Verb: TypeAlias = Callable[[Sequence[str]], None]
Parsers: TypeAlias = "argparse._SubParsersAction[Plain]"

FIGURES = (".png", ".pdf", ".svg")


class Plain(argparse.ArgumentParser):
    """A parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit 2."""
        message = f"{message} (see {self.prog} --help)"
        fail(self.prog.removeprefix("drawnet").strip(), message, BAD_INPUT)


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows an option's default, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        bare = action.default is None or action.default is False
        return action.help if bare else super()._get_help_string(action)


def verb_parser(verb: Verb) -> Plain:
    """The parser of a verb, with the docstring of its function as the description."""
    return Plain(f"drawnet {verb.__name__}", description=verb.__doc__, formatter_class=Defaults)


def kinds_of(parser: Plain, name: str) -> Parsers:
    """Make the sub-parsers of a verb, one for each kind of figure or walk."""
    return parser.add_subparsers(
        dest=name, metavar=name.upper(), required=True, title=f"{name}s", parser_class=Plain
    )


def add_kind(
    kinds: Parsers,
    name: str,
    what: str,
    draw: Callable[[argparse.Namespace], None],
) -> Plain:
    """Add the parser for one kind, which the function `draw` carries out."""
    parser = kinds.add_parser(name, help=what, description=what, formatter_class=Defaults)
    parser.set_defaults(draw=draw)
    return parser


def add_number(
    parser: argparse._ActionsContainer,
    name: str,
    low: float,
    high: float,
    default: float | None,
    what: str,
) -> None:
    """Add an option for a number from `low` to `high`; it is whole if they are."""
    number = type(low)

    def parse(text: str) -> float:
        value = number(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low} to {high}, got {text}")
        return value

    parse.__name__ = number.__name__
    metavar = name.rpartition("-")[2].upper()
    parser.add_argument(f"--{name}", type=parse, default=default, help=what, metavar=metavar)


def path(text: str) -> Path:
    """A path on the command line, where a shell may have left a ``~`` as it was."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def add_weights(parser: Plain) -> None:
    """Add the options for which network to load, and how to run it."""
    parser.add_argument(
        "weights", help="a run folder, a folder of weights, or a name listed by `drawnet weights`"
    )
    add_number(
        parser, "glimpses", 1, 10_000, None, "number of glimpses; by default the network's own"
    )
    add_seed(parser)
    parser.add_argument("--device", help="such as cpu or cuda; by default a GPU if there is one")


def add_seed(parser: Plain) -> None:
    """Add the seed of everything random."""
    add_number(parser, "seed", 0, 2**32 - 1, 0, "seed of everything random")


def add_data(parser: Plain, *, split: bool = True) -> None:
    """Add the options for which images to use."""
    parser.add_argument("--data", help="name of a data set; by default that of the training")
    parser.add_argument("--data-dir", type=path, help="folder that holds the data sets")
    parser.add_argument(
        "--data-options",
        type=_mapping,
        metavar="YAML",
        help="options of the data set, such as '{distractors: 16}'; the others as in training",
    )
    if split:
        splits = ("train", "valid", "test")
        parser.add_argument("--split", choices=splits, default="test", help="part of the data set")


def _mapping(text: str) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
        raise argparse.ArgumentTypeError(f"must be such as '{{size: 60, piece: 4}}', got {text}")
    return value


def add_figure_file(parser: Plain, default: str) -> None:
    """Add the options for where to save a figure and how finely; the verb sets the default."""

    def file(text: str) -> Path:
        found = path(text)
        if found.suffix.lower() not in FIGURES:
            raise argparse.ArgumentTypeError(f"must end in .png, .pdf or .svg, got {text}")
        return found

    what = f"file to save, whose suffix says PNG, PDF or SVG (default: {default})"
    parser.add_argument("--out", type=file, metavar="FILE", help=what)
    add_number(parser, "dpi", 20, 1200, 200, "dots per inch of a PNG; a figure is 6.75 inches wide")
