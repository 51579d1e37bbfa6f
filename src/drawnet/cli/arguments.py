"""What verbs ask for in the same words: parsers, and the options that several of them share."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from drawnet.cli.outputs import BAD_INPUT, fail

Verb: TypeAlias = Callable[[Sequence[str]], None]
Parsers: TypeAlias = "argparse._SubParsersAction[Plain]"

FIGURES = (".png", ".pdf", ".svg")


class Plain(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit 2."""
        message = f"{message} (see {self.prog} --help)"
        fail(self.prog.removeprefix("drawnet").strip(), message, BAD_INPUT)


class Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that tells the defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        bare = action.default is None or action.default is False
        return action.help if bare else super()._get_help_string(action)


def verb_parser(verb: Verb) -> Plain:
    """The parser of a verb, which is described by its function."""
    return Plain(f"drawnet {verb.__name__}", description=verb.__doc__, formatter_class=Defaults)


def kinds_of(parser: Plain, name: str) -> Parsers:
    """Where the kinds of a verb get parsers of their own."""
    return parser.add_subparsers(
        dest=name, metavar=name.upper(), required=True, title=f"{name}s", parser_class=Plain
    )


def add_kind(
    kinds: Parsers,
    name: str,
    what: str,
    draw: Callable[[argparse.Namespace], None],
    aliases: Sequence[str] = (),
) -> Plain:
    """A parser for one kind of what a verb does, by function ``draw``."""
    parser = kinds.add_parser(
        name, aliases=aliases, help=what, description=what, formatter_class=Defaults
    )
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
    """An option that is a number within a range, whole if the ends of the range are."""
    number = type(low)

    def parse(text: str) -> float:
        value = number(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {low} to {high}, got {text}")
        return value

    parse.__name__ = number.__name__
    metavar = name.rpartition("-")[2].upper()
    parser.add_argument(f"--{name}", type=parse, default=default, help=what, metavar=metavar)


def add_weights(parser: Plain) -> None:
    """Which network, and how to run it."""
    parser.add_argument(
        "weights", help="a run folder, a folder of weights, or the name of shipped weights"
    )
    add_number(parser, "glimpses", 1, 10_000, None, "length of the chain, if not the network's own")
    add_seed(parser)
    parser.add_argument("--device", help="such as cpu or cuda; by default what there is")


def add_seed(parser: Plain) -> None:
    """What everything random depends on."""
    add_number(parser, "seed", 0, 2**32 - 1, 0, "of everything random")


def add_data(parser: Plain, *, split: bool = True) -> None:
    """Which images."""
    parser.add_argument("--data", help="a data set; by default the one of the training")
    parser.add_argument("--data-dir", type=Path, help="where the data sets are")
    parser.add_argument(
        "--data-options",
        type=_mapping,
        metavar="YAML",
        help="options of the set, such as '{distractors: 16}'; the others as in the training",
    )
    if split:
        splits = ("train", "valid", "test")
        parser.add_argument("--split", choices=splits, default="test", help="the part of it")


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
    """Where to save a figure, and how fine. Which file by default is up to the verb."""

    def file(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in FIGURES:
            raise argparse.ArgumentTypeError(f"must end in .png, .pdf or .svg, got {text}")
        return path

    what = f"a PNG, PDF or SVG, as its suffix says (default: {default})"
    parser.add_argument("--out", type=file, metavar="FILE", help=what)
    add_number(parser, "dpi", 20, 1200, 200, "dots per inch of a PNG; a figure is 6.75 inches wide")
