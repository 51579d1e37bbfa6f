"""The command `drawnet`: parse, call, print.

Each verb reads its own arguments, and imports what it needs only when it runs, so ``--help`` is
quick. Bad input gives one line on stderr and exit code 2.

    `training`   train, recipes
    `results`    evaluate
    `drawing`    generate, reconstruct, complete, classify
    `paper`      figure
    `latents`    explore
    `programs`   weights, demo, benchmark
    `arguments`  parsers, and the options that several verbs share
    `inputs`     loading the weights and the images that the options name
    `outputs`    printing messages and saving figures
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from drawnet.cli.arguments import Plain
from drawnet.cli.drawing import classify, complete, generate, reconstruct
from drawnet.cli.latents import explore
from drawnet.cli.outputs import BAD_INPUT, MACHINE_FAILED, fail, is_out_of_memory, words
from drawnet.cli.paper import figure
from drawnet.cli.programs import benchmark, demo, weights
from drawnet.cli.results import evaluate
from drawnet.cli.training import recipes, train

VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "reconstruct": reconstruct,
    "complete": complete,
    "classify": classify,
    "figure": figure,
    "explore": explore,
    "demo": demo,
    "benchmark": benchmark,
    "recipes": recipes,
    "weights": weights,
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    The exit codes are 0: done; 1: the machine failed, such as a full disk; 2: bad input; 3: the
    training diverged; 128 + n: stopped by signal n.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names may be any bytes
    verb = _verb(argv)
    try:
        VERBS[verb](argv[1:])
        if sys.stdout is not None:  # it is None if the shell has closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone; make sure that nothing is flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (
        FileExistsError,
        FileNotFoundError,
        IsADirectoryError,
        NotADirectoryError,
        PermissionError,
    ) as error:
        fail(verb, words(error), BAD_INPUT)
    except OSError as error:
        fail(verb, words(error), MACHINE_FAILED)
    except ValueError as error:
        fail(verb, str(error), BAD_INPUT)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fail(verb, "out of memory", MACHINE_FAILED)
    sys.exit(0)


def _verb(argv: Sequence[str]) -> str:
    """The verb of a command line; ``--help``, ``--version`` and a wrong verb exit here."""
    from drawnet import __version__

    verbs = "\n".join(f"  {verb:12} {run.__doc__}" for verb, run in VERBS.items())
    parser = Plain(
        "drawnet",
        usage="drawnet VERB ...",
        description="DRAW, the deep recurrent attentive writer: a network that draws images.",
        epilog=f"verbs:\n{verbs}\n\n`drawnet VERB --help` lists the options of a verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"drawnet {__version__}")
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of the verbs below")
    return str(parser.parse_args(argv[:1]).verb)
