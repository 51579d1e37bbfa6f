"""How the demo page looks, and which function of `answers` or `by_hand` each control calls."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from PIL import Image

from drawnet.classify import GlimpseClassifier
from drawnet.data.lighthouse import lighthouse
from drawnet.demo import Networks, answers, by_hand, controls, pictures
from drawnet.demo.answers import Film
from drawnet.demo.controls import Control
from drawnet.model import DRAW

Network = TypeVar("Network", DRAW, GlimpseClassifier)

WIDGETS = Path(__file__).parent / "widgets"
WAITING = 16
"""How many calls may wait for their turn; one more is answered with 503."""

INTRO = """
# DRAW: a network that draws
It does not make a picture all at once. At each of many *glimpses*, it looks through a window of a
few filters and adds a stroke through another window. A few random numbers per glimpse, the
*latents*, decide everything that it draws.
"""
WATCH = """
Here the network has nothing to look at. Its latents are random, and it dreams. The
<span class="write">orange window</span> is where it writes; a thick border is a soft brush. You can
pause the film, and drag the slider to go through it glimpse by glimpse.
"""
COPY = """
Draw a digit, and the network copies it. Above, the <span class="read">blue window</span> is where
it looks at your picture. Below, the <span class="write">orange window</span> is where it writes
what it understood. The green bars are the *nats* of each glimpse: how much it had to be told.
"""
FIND = """
Draw a digit. It will be hidden somewhere in a large picture, among pieces of digits. A
network that sees the picture only through a window of a few filters has to say which digit it is.
It begins with the whole picture, coarsely, and closes in. The <span class="read">blue window</span>
is where it looks, and beside the picture is what it sees there. The bars show how sure it is of
each answer.
"""
HAND = """
Here you take the place of the network, and move a window yourself. Five numbers place a grid of
N × N Gaussian filters on the photo, and each filter reads one number per colour. Filters that are
*wide and far apart* see the whole photo, coarsely. *Narrow and close*, they see a detail, sharply.
"""
ANOTHER_SEED = f"() => Math.floor(Math.random() * {int(controls.SEED.high)})"


TURN: dict[str, Any] = {
    "preprocess": False,
    "trigger_mode": "always_last",
    "concurrency_id": "turn",
    "concurrency_limit": 1,
}
"""How functions are called. They check their values themselves, so there is no preprocessing. Of a
burst of changes only the last counts. All calls take turns, because neither a processor nor
matplotlib is made for several at once."""


def build(networks: Networks) -> gr.Blocks:
    """Build the page, and connect its controls to the functions that they call.

    Args:
        networks: The networks to choose from; there may be no classifiers.
    """
    page = gr.Blocks(title="drawnet", analytics_enabled=False)
    with page:
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                gr.Markdown(INTRO)
            with gr.Column(scale=0, min_width=260):
                network = gr.Dropdown(list(networks.models), label="Network")
        with gr.Tab("Watch it draw"):
            watch_tab(page, network, networks)
        with gr.Tab("Draw a digit, or drop a picture"):
            copy_tab(page, network, networks)
        with gr.Tab("Find it in clutter", visible=bool(networks.classifiers)) as tab:
            find_tab(tab, networks.classifiers)
        with gr.Tab("The attention by hand"):
            hand_tab(page)
    page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=1)
    return page


def watch_tab(page: gr.Blocks, network: gr.Dropdown, networks: Networks) -> None:
    """A network draws what it likes."""
    models, _, classes = networks
    first_name, first = next(iter(models.items()))

    def watch(name: object, *values: object) -> dict[str, Any]:
        return film(answers.draw(chosen(models, name), *values))

    def adjust(name: object) -> tuple[gr.Slider, gr.Dropdown]:
        model = chosen(models, name)
        return gr.Slider(value=longest(model)), gr.Dropdown(**choice(classes[str(name)]))

    gr.Markdown(WATCH)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            seed = number(controls.SEED, "Seed")
            others = gr.Button("Draw others", variant="primary")
            count = slider(controls.COUNT, "How many")
            label = gr.Dropdown(label="Class", **choice(classes[first_name]))
            length = slider(controls.GLIMPSES, "Glimpses", longest(first))
            windows = gr.Checkbox(True, label="Show the windows")
            crisp = gr.Checkbox(
                False, label="Crisp", info="the same strokes, on a canvas with finer pixels"
            )
        with gr.Column(scale=2):
            screen = player("watch")

    settings: list[Any] = [seed, count, length, windows, crisp, label]
    call: dict[str, Any] = {
        "fn": answer(watch),
        "inputs": [network, *settings],
        "outputs": [screen],
        "show_progress": "minimal",
        **TURN,
    }
    gr.on([page.load, *(each.input for each in settings)], **call)
    others.click(None, None, seed, js=ANOTHER_SEED).then(**call)
    network.input(answer(adjust), network, [length, label], **TURN).then(**call)


def copy_tab(page: gr.Blocks, network: gr.Dropdown, networks: Networks) -> None:
    """A network copies a picture."""
    models, _, classes = networks
    first = next(iter(models.values()))

    def copy(name: object, *values: object) -> tuple[dict[str, Any], dict[str, Any], str]:
        done = answers.copy(chosen(models, name), *values, classes=classes[str(name)])
        return film(done.film), still(done.nats), done.words

    def adjust(name: object) -> tuple[gr.Slider, gr.Checkbox]:
        model = chosen(models, name)
        return gr.Slider(value=longest(model)), gr.Checkbox(value=grey(model))

    gr.Markdown(COPY)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            paper = pad("paper", pictures.digit(13), pen=True)
            go = gr.Button("Read it and write it", variant="primary")
            is_digit = gr.Checkbox(
                grey(first),
                label="It is a digit",
                info="its ink is centred, as the network is used to; if not ticked, the "
                "picture is used as it is",
            )
            length = slider(controls.GLIMPSES, "Glimpses", longest(first))
            seed = number(controls.SEED, "Seed")
        with gr.Column(scale=2):
            screen = player("copy")
            words = gr.Markdown(elem_id="words")
            nats = player("nats")

    call: dict[str, Any] = {
        "fn": answer(copy),
        "inputs": [network, paper, is_digit, seed, length],
        "outputs": [screen, nats, words],
        "show_progress_on": screen,
        "show_progress": "minimal",
        **TURN,
    }
    gr.on([page.load, go.click], **call)
    network.input(answer(adjust), network, [length, is_digit], **TURN).then(**call)


def find_tab(tab: gr.Tab, classifiers: dict[str, GlimpseClassifier]) -> None:
    """A classifier finds a digit in clutter."""

    def find(name: object, *values: object) -> tuple[dict[str, Any], str]:
        result = answers.search(chosen(classifiers, name), *values)
        return film(result.film), result.words

    gr.Markdown(FIND)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            needle = pad("needle", pictures.digit(7), pen=True)
            hide = gr.Button("Hide it and find it", variant="primary")
            elsewhere = gr.Button("Hide it elsewhere")
            classifier = gr.Dropdown(list(classifiers), label="Classifier")
            clutter = slider(controls.CLUTTER, "Pieces of clutter")
            place = number(controls.SEED, "Seed of all places")
        with gr.Column(scale=2):
            haystack = player("find", speed=2)
            found = gr.Markdown(elem_id="found")

    call: dict[str, Any] = {
        "fn": answer(find),
        "inputs": [classifier, needle, clutter, place],
        "outputs": [haystack, found],
        "show_progress": "minimal",
        **TURN,
    }
    if classifiers:
        settings = (classifier, clutter, place)
        gr.on([tab.select, hide.click, *(each.input for each in settings)], **call)
        elsewhere.click(None, None, place, js=ANOTHER_SEED).then(**call)


def hand_tab(page: gr.Blocks) -> None:
    """A window is moved by hand."""

    def look(*values: object) -> tuple[dict[str, Any], str]:
        result = by_hand.look(*values)
        return still(result.picture), result.words

    gr.Markdown(HAND)
    view = player("view")
    seen = gr.Markdown(elem_id="seen")
    with gr.Row():
        with gr.Column(scale=0, min_width=300):
            photo = pad("photo", lighthouse(), pen=False)
        with gr.Column(min_width=280):
            x = slider(controls.CENTRE_X, "g̃_X: left and right")
            y = slider(controls.CENTRE_Y, "g̃_Y: up and down")
            size = slider(controls.SIZE, "N: how many filters along each side")
        with gr.Column(min_width=280):
            width = slider(controls.WIDTH, "log σ²: how wide each filter is")
            stride = slider(controls.STRIDE, "log δ̃: how far apart they are")
            strength = slider(controls.INTENSITY, "log γ: how strongly they read")

    window: list[Any] = [x, y, width, stride, strength, size]
    gr.on(
        [page.load, *(each.input for each in (photo, *window))],
        answer(look),
        [photo, *window],
        [view, seen],
        show_progress="hidden",
        **TURN,
    )


def answer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, so that its `ValueError` becomes one line on the page."""

    @wraps(function)
    def run(*values: object) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return run


def chosen(networks: Mapping[str, Network], name: object) -> Network:
    """The network with this name, which came from a browser."""
    if not isinstance(name, str) or name not in networks:
        raise ValueError(f"the network must be one of {', '.join(networks)}")
    return networks[name]


def longest(model: DRAW) -> int:
    """How many glimpses the model has, or as many as can be chosen."""
    return min(model.config.glimpses, int(controls.GLIMPSES.high))


def grey(model: DRAW) -> bool:
    """Whether the model's images are grey, as digits are."""
    return model.config.image_shape[0] == 1


def choice(names: Sequence[str]) -> dict[str, Any]:
    """A choice of classes by name, hidden if the network does not draw by class."""
    each = [(name, str(number)) for number, name in enumerate(names)]
    choices = [(answers.EACH, answers.EACH), *each]
    return {"choices": choices, "value": answers.EACH, "visible": len(names) > 0}


def slider(control: Control, label: str, start: float | None = None) -> gr.Slider:
    value = control.start if start is None else start
    return gr.Slider(control.low, control.high, value, step=control.step, label=label)


def number(control: Control, label: str) -> gr.Number:
    low, high = control.low, control.high
    return gr.Number(control.start, minimum=low, maximum=high, precision=0, label=label)


def player(name: str, speed: int = 10) -> gr.HTML:
    """A screen with buttons, which at first plays `speed` pictures per second.

    Its value is what `film` returns.
    """
    return gr.HTML(
        html_template=(WIDGETS / "player.html").read_text("utf-8"),
        js_on_load=(WIDGETS / "player.js").read_text("utf-8"),
        elem_id=name,
        container=False,
        speed=speed,
    )


def pad(name: str, start: Image.Image, pen: bool) -> gr.HTML:
    """A picture to replace and, with `pen`, to draw on; its value is a ``data:`` URL."""
    return gr.HTML(
        pictures.to_url(start),
        html_template=(WIDGETS / "pad.html").read_text("utf-8"),
        js_on_load=(WIDGETS / "pad.js").read_text("utf-8"),
        elem_id=name,
        pen=pen,
        side=280 if pen else by_hand.PHOTO,
    )


def film(shown: Film) -> dict[str, Any]:
    """The value of a `player`."""
    return {"frames": [pictures.to_url(frame) for frame in shown.frames], "notes": shown.notes}


def still(picture: Image.Image) -> dict[str, Any]:
    """The value of a `player` that shows one picture."""
    return film(Film([picture], [""]))
