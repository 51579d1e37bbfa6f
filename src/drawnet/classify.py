r"""Classification with attention: section 4.1 of the paper, its "Differentiable RAM".

A recurrent network looks at an image T times, each time through a small window that it chose after
the look before, and then answers. It is DRAW's encoder with DRAW's read window, and it answers
instead of drawing:

    r_t      = gamma F_y x F_x^T                 with the window W(h_{t-1})         (21) to (27)
    h_t      = RNN(h_{t-1}, r_t)
    p(y | x) = softmax(W(h_T))

The recurrent attention model (RAM) of Mnih et al. (2014) samples its windows and learns by
reinforcement. Here, everything is differentiable and learned by gradient descent.

The paper leaves three things open. Here, the five numbers of a window come from the state of the
network before it; the loss is the cross-entropy of the last answer alone; and h_0 and its cell are
learned, as in DRAW, so that the first window is the same for all images.

Train the layer `window` at a tenth of the learning rate of the rest. Its five numbers are linear in
hundreds of values of order 1, so a step of Adam that is small for every weight can carry a window
off the image, where it sees nothing and no gradient leads back. Trainings at high learning rates
were seen to diverge in this way, even with tight clipping or small betas in Adam.

A `Classifier` is anything that gives `logits` of shape ``(T, B, classes)``, an answer after each
glimpse. So the functions here and in `drawnet.evaluate` that judge answers also work with the
networks of `drawnet.baselines`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from drawnet import attention
from drawnet.attention import Window
from drawnet.checks import check_images
from drawnet.config import ClassifierConfig
from drawnet.product import Product
from drawnet.step import lstm
from drawnet.weights import Pretrained


@dataclass(frozen=True, eq=False)
class Glimpses:
    """What a classifier saw and answered. Time is the first dimension.

    Attributes:
        logits: Its answer after each glimpse, ``(T, B, classes)``.
        window: Where it looked: a window of ``(T, B)`` tensors.
        patches: What it saw there, r_t, ``(T, B, C, N, N)``.
    """

    logits: Tensor
    window: Window
    patches: Tensor


class Products(NamedTuple):
    """The two matrix products of a glimpse: see `GlimpseClassifier.fuse`."""

    gates: Product  # [r, h] -> gates
    heads: Product  # h -> the next window, and the answer


class State(NamedTuple):
    """What a glimpse passes on to the next, each ``(B, features)``."""

    h: Tensor
    cell: Tensor
    window: Tensor  # the five numbers of the next window
    answer: Tensor  # the logits now


def step(
    config: ClassifierConfig,
    products: Products,
    x: Float[Tensor, "batch channels height width"],
    state: State,
) -> tuple[State, Float[Tensor, "batch channels size size"]]:
    """One glimpse: the state after it, and what was seen."""
    size = config.read_size
    patch = attention.read(x, attention.window(state.window, size, *x.shape[2:]), size)
    gates = products.gates(torch.cat([patch.flatten(1), state.h], dim=1))
    h, cell = lstm(gates, state.cell)
    return state_of(config, products, h, cell), patch


def state_of(config: ClassifierConfig, products: Products, h: Tensor, cell: Tensor) -> State:
    """The state, with the window and the answer computed from h."""
    window, answer = products.heads(h).split([5, config.classes], dim=1)
    return State(h, cell, window, answer)


class GlimpseClassifier(Pretrained):
    """A network that classifies an image from a few glimpses of it.

    >>> classifier = GlimpseClassifier(ClassifierConfig(glimpses=4))
    >>> glimpses = classifier(torch.rand(2, 1, 100, 100))
    >>> glimpses.logits.shape
    torch.Size([4, 2, 10])

    Attributes:
        config: The sizes.
        lstm: The gates i, f, g, o, linear in [r, h].
        window: The five numbers of the next window, linear in h.
        answer: The logits of the classes, linear in h.
        h, cell: The initial states, which are learned.
        step: The function that runs one glimpse, from `plain_step`. It may be replaced by a
            compiled one: see `drawnet.fast`.
        precision: The type that the operands of the matrix products are rounded to, or None.
    """

    Config: ClassVar[type] = ClassifierConfig
    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.step = self.plain_step()
        self.precision: torch.dtype | None = None

        hidden = config.hidden_size
        self.lstm = nn.Linear(config.image_shape[0] * config.read_size**2 + hidden, 4 * hidden)
        self.window = nn.Linear(hidden, 5)
        self.answer = nn.Linear(hidden, config.classes)
        self.h = nn.Parameter(torch.zeros(hidden))
        self.cell = nn.Parameter(torch.zeros(hidden))
        self.reset_parameters()

    def plain_step(self) -> Callable[..., tuple[State, Tensor]]:
        """The function that runs one glimpse: `step` with the configuration bound."""
        return partial(step, self.config)

    def reset_parameters(self) -> None:
        """Initialise the parameters, with a first window that covers the image.

        As in `drawnet.DRAW.reset_parameters`, the filters are half as wide as their stride, so they
        also see what lies between their centres. A wide window over thin strokes sees little light;
        gamma makes up for it.
        """
        _, height, width = self.config.image_shape
        delta = (max(height, width, 2) - 1) / max(self.config.read_size - 1, 1)
        bound = self.config.hidden_size**-0.5  # as in `torch.nn.LSTMCell`
        nn.init.uniform_(self.lstm.weight, -bound, bound)
        for layer in (self.window, self.answer):
            nn.init.normal_(layer.weight, std=0.01)
        for start in (self.lstm.bias, self.window.bias, self.answer.bias, self.h, self.cell):
            nn.init.zeros_(start)
        with torch.no_grad():
            self.lstm.bias.view(4, -1)[1] = 1  # the forget gates start open
            window = attention.middle(delta, height, width, gamma=4)
            params = attention.params(window, self.config.read_size, height, width)
            self.window.bias.copy_(params)

    def fuse(self) -> Products:
        """The two matrices that a glimpse multiplies by, concatenated once for the whole chain."""
        return Products(
            gates=Product.of(self.lstm.weight, self.lstm.bias, self.precision),
            heads=Product.joined([self.window, self.answer], self.precision),
        )

    def forward(
        self, x: Float[Tensor, "batch channels height width"], *, glimpses: int | None = None
    ) -> Glimpses:
        """Look at images, and answer after each glimpse.

        Args:
            x: Images with values in [0, 1].
            glimpses: How many times to look, >= 1; by default ``config.glimpses``.

        Raises:
            ValueError: If ``x`` has the wrong shape or type, or values outside [0, 1] (checked on a
                CPU only), or ``glimpses`` is less than 1.
        """
        check_images(x, self.config.image_shape, self.h.dtype)
        count = self.config.glimpses if glimpses is None else glimpses
        if count < 1:
            raise ValueError(f"glimpses must be >= 1, got {count}")
        products = self.fuse()
        states, patches = self.look(products, x, self.initial_state(products, x.shape[0]), count)
        params = torch.stack([state.window for state in states[:-1]])
        return Glimpses(
            logits=torch.stack([state.answer for state in states[1:]]),
            window=attention.window(params, self.config.read_size, *x.shape[2:]),
            patches=torch.stack(patches),
        )

    def look(
        self, products: Products, x: Tensor, state: State, count: int
    ) -> tuple[list[State], list[Tensor]]:
        """The given state and those after each of ``count`` glimpses, and what was seen."""
        states, patches = [state], []
        for _ in range(count):
            state, patch = self.step(products, x, state)
            states.append(state)
            patches.append(patch)
        return states, patches

    def initial_state(self, products: Products, batch: int) -> State:
        """h_0 and its cell, which are learned and the same for all images."""
        h, cell = (start.expand(batch, -1).contiguous() for start in (self.h, self.cell))
        return state_of(self.config, products, h, cell)

    def logits(
        self, x: Float[Tensor, "batch channels height width"], *, glimpses: int | None = None
    ) -> Float[Tensor, "glimpses batch classes"]:
        """The answers alone."""
        answers: Tensor = self(x, glimpses=glimpses).logits
        return answers


@runtime_checkable
class Classifier(Protocol):
    """Anything that gives an answer after each glimpse."""

    def logits(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to logits ``(T, B, classes)``."""


def nll(
    logits: Float[Tensor, "glimpses batch classes"], y: Int64[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """-log p(y | x): the cross-entropy of the last answer, in nats.

    Args:
        logits: From `GlimpseClassifier.logits` or another `Classifier`.
        y: The classes, from 0.
    """
    return nn.functional.cross_entropy(logits[-1], y, reduction="none")


def mean_answer(
    classifiers: Sequence[Classifier], x: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch classes"]:
    """The mean of the probabilities that the last answers of several networks give each class."""
    return torch.stack([each.logits(x)[-1].softmax(-1) for each in classifiers]).mean(0)


def wrong(
    logits: Float[Tensor, "glimpses batch classes"], y: Int64[Tensor, " batch"]
) -> Bool[Tensor, "glimpses batch"]:
    """Which answers after each glimpse are wrong."""
    return logits.argmax(-1) != y
