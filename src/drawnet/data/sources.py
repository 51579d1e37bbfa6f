"""Every data set by its name."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from drawnet.data.binarized_mnist import binarized_mnist
from drawnet.data.cifar10 import cifar10
from drawnet.data.digits import digits
from drawnet.data.folder import folder
from drawnet.data.images import SPLITS, Images
from drawnet.data.mnist import fashion_mnist, kmnist, mnist
from drawnet.data.omniglot import omniglot
from drawnet.data.omniglot_burda import omniglot_burda
from drawnet.data.scenes import cluttered_mnist, two_digits
from drawnet.data.store import Store
from drawnet.data.svhn import svhn
from drawnet.progress import Progress

SOURCES: dict[str, Callable[..., Images]] = {
    source.__name__: source
    for source in (
        binarized_mnist,
        cifar10,
        cluttered_mnist,
        digits,
        fashion_mnist,
        folder,
        kmnist,
        mnist,
        omniglot,
        omniglot_burda,
        svhn,
        two_digits,
    )
}


def load(
    name: str,
    split: str,
    data_dir: str | Path | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Images:
    """One split of a data set, in memory.

    Args:
        name: One of `SOURCES`.
        split: "train", "valid" or "test".
        data_dir: The folder with the files, either directly or in a subfolder with the set's name.
            By default the folder that the environment variable DRAWNET_DATA names, then the user's
            cache, then a download into that cache.
        progress: Called as `progress(what, done, total)` during long work.
        options: The options of the set; `help(SOURCES[name])` lists them.

    Raises:
        ValueError: An unknown name, split or option, or a value out of range.
        DataError: Files that are missing or damaged.
    """
    if name not in SOURCES:
        raise ValueError(f"data set must be one of {', '.join(sorted(SOURCES))}, got {name!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    _check(name, options)
    store = Store(None if data_dir is None else Path(data_dir).expanduser(), progress)
    return SOURCES[name](split, store, **options)


def _check(name: str, options: dict[str, Any]) -> None:
    """Check the names and types of options, which come from recipes and command lines."""
    known = {
        parameter.name: parameter.annotation
        for parameter in inspect.signature(SOURCES[name]).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for option, value in options.items():
        if option not in known:
            takes = f"takes the options {', '.join(known)}" if known else "takes no options"
            raise ValueError(f"{name} {takes}, got {option!r}")
        kinds = [get_origin(kind) or kind for kind in get_args(known[option]) or [known[option]]]
        if type(value) not in kinds and not (float in kinds and type(value) is int):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{option} must be of type {names}, got {value!r}")
