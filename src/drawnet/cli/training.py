"""`drawnet train` and `drawnet recipes`."""

import difflib
import re
import shlex
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from drawnet.cli.arguments import Plain, path, verb_parser
from drawnet.cli.outputs import BAD_INPUT, DIVERGED, fail, log_shown, note, tell


def train(argv: Sequence[str]) -> None:
    """Train a network by a recipe."""
    from jsonargparse import ArgumentParser

    from drawnet import recipe as recipes

    class Parser(ArgumentParser):
        reading = ""

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            options = [name for action in self._actions for name in action.option_strings]
            fail("train", self.reading + _plainly(message, options), BAD_INPUT)

    # Defaults are suppressed, since the help of the options below tells them in words.
    parser = Parser(
        "drawnet train", description=train.__doc__, allow_abbrev=False, argument_default=SUPPRESS
    )
    own = Plain("drawnet train", add_help=False, allow_abbrev=False)
    for each in (parser, own):
        each.add_argument(
            "--recipe",
            help=f"a YAML file, or one of {', '.join(recipes.shipped())} (default: digits; with "
            "--resume: the run's own)",
        )
        each.add_argument("--data-dir", type=path, help="folder that holds the data sets")
        each.add_argument("--out", type=path, help="the run folder (default: runs/RECIPE)")
        each.add_argument(
            "--resume",
            nargs="?",
            const=True,
            metavar="CHECKPOINT",
            help="go on from the run's newest undamaged checkpoint, or from CHECKPOINT",
        )
        each.add_argument(
            "--overwrite", action="store_true", help="remove the run that the folder already holds"
        )

    # The recipe's file must be known before the fields on the command line can override it.
    asked, _ = own.parse_known_args(argv)
    out = asked.out or Path("runs") / Path(asked.recipe or "digits").stem
    if asked.resume is not None and asked.recipe is None:
        file = out / "recipe.yaml"
        if not file.is_file():
            raise ValueError(f"{out} holds no run to resume: {file} is missing")
    else:
        file = recipes.find("digits" if asked.recipe is None else asked.recipe)
        if asked.recipe is None and not {"-h", "--help"} & set(argv):
            note("train", "no --recipe given: taking `digits`, which drawnet draws itself")
    recipes.add_fields(parser, file)
    parser.reading = f"{file}: "
    parser.parse_args([])
    parser.reading = ""
    recipe = recipes.recipe_of(parser.parse_args(argv))

    from drawnet import training

    again = ["drawnet", "train", "--out", str(out), "--resume"]
    if asked.data_dir is not None:
        again += ["--data-dir", str(asked.data_dir)]
    go_on = shlex.join(again)
    try:
        with log_shown():
            training.train(
                recipe,
                out,
                data_dir=asked.data_dir,
                resume=False if asked.resume is None else asked.resume,
                overwrite=asked.overwrite,
                progress=tell,
            )
    except (training.Interrupted, training.Diverged) as stop:
        if stop.rank:
            sys.exit(0)  # the first process speaks for all, and Lightning kills it if others fail
        if isinstance(stop, training.Interrupted):
            fail("train", f"stopped with a checkpoint; to go on: {go_on}", 128 + stop.signal)
        lower = f"--optim.lr {recipe.optim.lr / 2:g}"
        how = "begin anew with" if stop.ended else f"to go on from before that: {go_on}"
        fail("train", f"{stop}; {how} {lower}", DIVERGED)


_KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'NoneType'>": "null",
    "<class 'str'>": "text in quotes",
    "<class 'list'>": "a list in brackets, '[...]'",
    "<class 'tuple'>": "a list, such as '[1, 28, 28]'",
    "<class 'dict'>": "pairs, such as '{0: 8, 4: 16}'",
}
"""For each type as jsonargparse names it, how to write a value of that type."""


def _plainly(message: str, options: Sequence[str]) -> str:
    """The message of jsonargparse in plain words, with the option that may have been meant."""
    message = " ".join(message.split())
    if wrong := re.fullmatch(r'Parser key "([\w.]+)": (.*) (?:Got|Given) value: (.*)', message):
        key, why, got = wrong.groups()
        kinds = [
            f"one of {choices}" if choices else _KINDS.get(kind)
            for kind, choices in re.findall(r"Expected a (<[^>]*>|\S*Literal\[(.*?)\])", why)
        ]
        known = [kind for kind in kinds if kind]
        return f"{key} must be {' or '.join(known)}, got {got}" if known else message
    if part := re.match(r'Parser key "(\w+)": Unable to load config', message):
        return f"{part[1]} is set option by option, such as --data.name mnist"
    unknown = re.match(
        r"unrecognized arguments: --([\w.-]+)|Group '(.*)' does not accept option '(.*)'"
        r"|Option '(.*)' is not accepted",
        message,
    )
    if unknown is None:
        return message
    name = ".".join(part for part in unknown.groups() if part)
    meant = difflib.get_close_matches(name, [option.lstrip("-") for option in options], 1, 0.75)
    return f"{message} ({f'did you mean {meant[0]}?' if meant else 'see drawnet train --help'})"


def recipes(argv: Sequence[str]) -> None:
    """List the recipes that come with the package, or print one to copy and change."""
    parser = verb_parser(recipes)
    parser.add_argument("name", nargs="?", help="print this recipe, as YAML")
    asked = parser.parse_args(argv)
    from drawnet.recipe import find, shipped

    if asked.name is not None:
        file = find(asked.name)
        try:
            print(file.read_text("utf-8"), end="")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: expected a recipe, got no text: {error}") from error
        return
    for name, file in shipped().items():
        print(f"{name:26} {file.read_text('utf-8').splitlines()[0].lstrip('# ')}")
