"""The demo page: watch a network draw, let it copy a digit or find it, move the attention by hand.

    `answers`   what the page computes: plain values in, pictures and words out
    `by_hand`   the same for a window that is moved by hand
    `controls`  the numbers that can be chosen, with their bounds
    `pictures`  bring uploaded pictures to the shape that a model expects
    `page`      how the page looks, and which function each control calls
    `server`    how the page is served
    `guard`     which requests reach the page at all

The page needs the extra ``demo`` and no internet connection: nothing on it comes from elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from drawnet import weights as store
from drawnet.classify import GlimpseClassifier
from drawnet.fast import flush_denormals
from drawnet.model import DRAW


def launch(
    weights: Sequence[str | Path] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
) -> None:
    """Serve the page until interrupted.

    Args:
        weights: Folders of weights, run folders or names, to choose from on the page besides the
            weights that come with the package.
        host: The address to listen on. The default can be reached only from this machine.
        port: The port to listen on, from 0 to 65535; 0 takes any free one.

    Raises:
        ValueError: If there are no weights of a network that draws, or there are weights whose
            images cannot be shown, or the port is out of range, or the extra is not installed.
        OSError: If the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    flush_denormals()  # before any threads start
    networks = load(weights or [])
    try:
        from drawnet.demo.server import serve
    except ModuleNotFoundError as error:
        message = f"the demo needs {error.name}: pip install {error.name}"
        raise ValueError(message) from error
    serve(networks, host, port)


class Networks(NamedTuple):
    """The networks on the page, by the names that it shows."""

    models: dict[str, DRAW]
    classifiers: dict[str, GlimpseClassifier]
    classes: dict[str, list[str]]  # the names of each model's classes; empty if it has none


def load(names: Sequence[str | Path]) -> Networks:
    """Load the networks to choose from, both those that draw and those that look for a digit.

    Those in `names` come first, and then those that come with the package.

    Args:
        names: Folders of weights, run folders or names of weights.

    Raises:
        ValueError: If none of the networks draws, or one cannot be shown.
    """
    models, classifiers, classes = networks = Networks({}, {}, {})

    def add(label: str, name: str | Path, kind: str) -> None:
        if kind == GlimpseClassifier.__name__:
            classifiers[label] = _classifier(name)
        else:
            models[label] = _drawer(name)
            provenance = store.describe(store.locate(name))["provenance"]
            classes[label] = store.class_names(provenance, models[label].config.classes)

    for name in names:
        label = str(name)
        if (path := Path(name)).exists() and store.locate(name).parent != store.SHIPPED:
            taken = {*models, *classifiers, *store.shipped()}
            labels = (_label(path), str(name), str(path.resolve()))
            label = next((each for each in labels if each not in taken), labels[-1])
        add(label, name, store.describe(store.locate(name))["model"])
    shipped = {name: store.describe(store.SHIPPED / name) for name in store.shipped()}
    longest_first = sorted(shipped, key=lambda name: -shipped[name]["config"].get("glimpses", 0))
    for name in longest_first:
        kind = shipped[name]["model"]
        known = kind in (DRAW.__name__, GlimpseClassifier.__name__)
        if known and name not in models and name not in classifiers:
            add(name, store.SHIPPED / name, kind)
    if not models:
        raise ValueError("there are no weights to show: train some, and name their run folder")
    return networks


def _drawer(name: str | Path) -> DRAW:
    model = DRAW.from_pretrained(name).eval()
    if (channels := model.config.image_shape[0]) not in (1, 3):
        raise ValueError(f"{name}: only images of 1 or 3 channels can be shown, not of {channels}")
    return model


def _classifier(name: str | Path) -> GlimpseClassifier:
    from drawnet.demo import answers

    model = GlimpseClassifier.from_pretrained(name).eval()
    if not answers.searches(model):
        wanted = "only classifiers of ten digits in square grey pictures of at least 28 x 28"
        got = f"{model.config.classes} classes in {model.config.image_shape}"
        raise ValueError(f"{name}: {wanted} can be shown, not of {got}")
    return model


def _label(folder: Path) -> str:
    """The name to show for a folder: that of the run, if it is the folder of a run's weights."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "weights" else folder.name
