r"""DRAW: a recurrent variational autoencoder that draws.

The network does not generate an image in one go but draws it on a *canvas* over T glimpses. At
each glimpse, the encoder compares the image with the canvas, through a window that the decoder
chose, and a latent z_t is sampled from what it saw. The decoder, which sees nothing but the
latents, then adds a stroke to the canvas through a window of its own:

    x-hat_t = x - sigma(c_{t-1})                                                        (3)
    r_t     = read(x, x-hat_t, h_dec_{t-1})                                             (4)
    h_enc_t = RNN_enc(h_enc_{t-1}, [r_t, h_dec_{t-1}])                                  (5)
    z_t     ~ Q(Z_t | h_enc_t) = N(mu_t, sigma_t^2)                            (1), (2), (6)
    h_dec_t = RNN_dec(h_dec_{t-1}, z_t)                                                 (7)
    c_t     = c_{t-1} + write(h_dec_t)                                                  (8)

To generate, z_t is sampled from the prior P(Z_t) instead, and the encoder is not used: equations
(13) to (15). A network with classes draws from p(x | y): the label y, one-hot, is one more input of
both LSTMs at every glimpse. The equation numbers are those of Gregor et al., "DRAW: A Recurrent
Neural Network For Image Generation", ICML 2015. The symbols of the paper and the names used here:

    ===================  ================================  =====================================
    paper                here                              note
    ===================  ================================  =====================================
    x, x-hat_t           ``x``, ``error``                  x-hat is the error image
    c_t, sigma(c_t)      ``canvas``, ``mean``              the canvas holds logits, or whatever
                                                           `drawnet.likelihood` needs
    h_enc, h_dec         ``h_enc``, ``h_dec``              the cells are ``cell_enc``, ``cell_dec``
    r_t, z_t, w_t        ``r``, ``z``, ``patch``
    mu_t, sigma_t        ``mu``, ``log_sigma``             log sigma; a window has log sigma^2
    g, delta, sigma,     `attention.Window`                in pixels, counted from 0
    gamma
    F_X, F_Y, A, B       ``f_x``, ``f_y``, ``width``,
                         ``height``
    N, T                 ``read_size``, ``write_size``,
                         ``glimpses``
    L^x, L^z             `objective`                       a function of a trace, not the model
    ===================  ================================  =====================================
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from drawnet import attention
from drawnet import likelihood as likelihoods
from drawnet.attention import Window
from drawnet.checks import check_images, check_labels, check_latents
from drawnet.config import DRAWConfig
from drawnet.likelihood import Bernoulli, Likelihood
from drawnet.product import Product
from drawnet.step import (
    Latent,
    Products,
    State,
    canvas_shape,
    patch_features,
    read_off,
    step,
)
from drawnet.weights import Pretrained


@dataclass(frozen=True, eq=False)
class Trace:
    """The record of one run of the chain. Time is the first dimension.

    Attributes:
        canvas: c_1 to c_T, ``(T, B, P C, H, W)`` with P planes per channel; with the paper's
            likelihood, P is 1 and these are logits. Only c_T, ``(1, B, P C, H, W)``, after
            ``record="last"``.
        z: Latents, ``(T, B, Z)``.
        mu, log_sigma: Of the distribution that z was sampled from, ``(T, B, Z)``: Q when reading
            an image, P when generating.
        prior_mu, prior_log_sigma: Of P(Z_t), ``(T, B, Z)``; None for N(0, I).
        read_window, write_window: Windows of ``(T, B)`` tensors. None without attention and after
            ``record="last"``; the read window is also None when generating.
        patch: What was written through the window, w_t, ``(T, B, P C, N, N)``; None if
            `write_window` is.
        start: c_0, ``(P C, H, W)``: the canvas before the first glimpse.
        read_size: N of the read window; None if `read_window` is.
        likelihood: The distribution of an image given a canvas.
        y: The labels that the network was given, ``(B,)``; None for a network without classes.
    """

    canvas: Tensor
    z: Tensor
    mu: Tensor
    log_sigma: Tensor
    prior_mu: Tensor | None = None
    prior_log_sigma: Tensor | None = None
    read_window: Window | None = None
    write_window: Window | None = None
    patch: Tensor | None = None
    start: Tensor | None = None
    read_size: int | None = None
    likelihood: Likelihood = Bernoulli()
    y: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The image that the last canvas shows, (B, C, H, W) in [0, 1]: sigma(c_T) in the paper."""
        return self.likelihood.mean(self.canvas[-1])


class DRAW(Pretrained):
    """The DRAW network.

    >>> model = DRAW(DRAWConfig(glimpses=8))
    >>> trace = model(torch.rand(2, 1, 28, 28))
    >>> trace.mean.shape
    torch.Size([2, 1, 28, 28])

    Each layer is a `torch.nn.Linear`, named as in the paper. The initial canvas and the initial
    hidden and cell states are parameters: the paper's "learned biases". The layers are never
    called; `fuse` reads their weights. So hooks on them do nothing, and they cannot be swapped for
    other modules, but `torch.nn.utils.parametrize` works.

    Args:
        config: The sizes.

    Attributes:
        config: The sizes.
        step: The function that runs one glimpse, from `plain_step`. It may be replaced by
            the same one compiled, see `drawnet.fast`; for another one, override `plain_step`.
        encoder, mu, log_sigma, decoder, patch: Layers.
        read_window, write_window, prior: Layers that a network may lack; then None.
        canvas, h_enc, cell_enc, h_dec, cell_dec: c_0 and the initial states. (The ``canvas`` of a
            trace is c_1 to c_T.)
        precision: The type that the operands of the matrix products are rounded to, or None.
    """

    Config: ClassVar[type] = DRAWConfig
    config: DRAWConfig

    def __init__(self, config: DRAWConfig = DRAWConfig()) -> None:
        super().__init__()
        self.config = config
        self.step = self.plain_step()
        self.precision: torch.dtype | None = None

        channels, height, width = config.image_shape
        enc, dec, z, classes = config.enc_size, config.dec_size, config.z_size, config.classes
        seen = height * width if config.read_size is None else config.read_size**2
        r = 2 * channels * seen
        self.encoder = nn.Linear(r + dec + enc + classes, 4 * enc)  # of [r, h_dec, h_enc, y]
        self.mu = nn.Linear(enc, z)
        self.log_sigma = nn.Linear(enc, z)
        self.decoder = nn.Linear(z + dec + classes, 4 * dec)  # of [z, h_dec, y]
        self.patch = nn.Linear(dec, patch_features(config, self.likelihood))
        self.read_window = None if config.read_size is None else nn.Linear(dec, 5)
        self.write_window = None if config.write_size is None else nn.Linear(dec, 5)
        self.prior = nn.Linear(dec, 2 * z) if config.prior == "learned" else None

        self.canvas = nn.Parameter(torch.zeros(canvas_shape(config, self.likelihood)))
        self.h_enc = nn.Parameter(torch.zeros(enc))
        self.cell_enc = nn.Parameter(torch.zeros(enc))
        self.h_dec = nn.Parameter(torch.zeros(dec))
        self.cell_dec = nn.Parameter(torch.zeros(dec))
        self.reset_parameters()

    @property
    def likelihood(self) -> Likelihood:
        """The distribution of an image given a canvas; override this in a network of your own.

        It is first asked for while ``DRAW.__init__`` runs, when there is only `config`: its
        settings belong there. `step` has it bound, so it must not change.
        """
        return likelihoods.of(self.config)

    def plain_step(self) -> Callable[..., tuple[State, Latent]]:
        """The function that runs one glimpse: `drawnet.step.step`, with what is fixed bound."""
        return partial(step, self.config, self.likelihood)

    def reset_parameters(self) -> None:
        """Initialise the parameters so that learning starts at once.

        The paper says nothing about its initial weights, but the biases of the windows decide
        whether the network learns at all in its first thousand steps. Filters half as wide as their
        stride also see what lies between their centres. The read window starts on half the image,
        where a coarse grid still sees strokes. The write window starts on the whole image, with
        1 / gamma = delta^2: every row of a filter bank sums to 1 over the image, so through a wide
        window a patch of ones would change the canvas by only 1 / delta^2, and gradients would be
        just as small until gamma grew.
        """
        _, height, width = self.config.image_shape
        extent = max(height, width, 2) - 1
        for layer in (self.encoder, self.decoder):
            bound = (layer.out_features / 4) ** -0.5  # as in `torch.nn.LSTMCell`
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
            layer.bias.data.view(4, -1)[1] = 1  # the forget gates start open
        for head in (self.mu, self.log_sigma, self.patch, self.read_window, self.write_window):
            if head is not None:
                nn.init.normal_(head.weight, std=0.01)
                nn.init.zeros_(head.bias)
        for state in (self.h_enc, self.cell_enc, self.h_dec, self.cell_dec):
            nn.init.zeros_(state)
        self.start_canvas(torch.full(self.config.image_shape, 0.5))
        if self.prior is not None:  # starts as N(0, I)
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)
        with torch.no_grad():
            if self.read_window is not None and (size := self.config.read_size) is not None:
                window = attention.middle(extent / max(size - 1, 1) / 2, height, width)
                self.read_window.bias.copy_(attention.params(window, size, height, width))
            if self.write_window is not None and (size := self.config.write_size) is not None:
                delta = extent / max(size - 1, 1)
                window = attention.middle(delta, height, width, gamma=max(delta, 1) ** -2)
                self.write_window.bias.copy_(attention.params(window, size, height, width))

    def fuse(self, y: Int64[Tensor, " batch"] | None = None) -> Products:
        """Concatenate the layers into the four matrices that a step multiplies by.

        This is done once for the whole chain; gradients flow through it back into the layers. A
        label is an input of the LSTMs that stays the same for the whole chain, so it amounts to a
        bias of their gates, one for each image.

        Args:
            y: The labels, for a network with classes.
        """
        heads = (self.prior, self.read_window, self.write_window, self.patch)
        return Products(
            encoder=self._gates(self.encoder, y),
            latent=Product.joined([self.mu, self.log_sigma], self.precision),
            decoder=self._gates(self.decoder, y),
            heads=Product.joined([head for head in heads if head is not None], self.precision),
        )

    def _gates(self, layer: nn.Linear, y: Tensor | None) -> Product:
        weight: Tensor = layer.weight
        bias: Tensor = layer.bias
        classes = self.config.classes
        if y is not None:
            weight, of_y = weight.split([layer.in_features - classes, classes], dim=1)
            bias = bias + F.embedding(y, of_y.t())
        return Product.of(weight, bias, self.precision)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        *,
        y: Int64[Tensor, " batch"] | None = None,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "glimpses batch z"] | None = None,
        glimpses: int | None = None,
        record: Literal["all", "last"] = "all",
    ) -> Trace:
        """Infer the latents of images and draw from them: equations (3) to (8).

        Args:
            x: Images with values in [0, 1].
            y: Their labels, 0 to ``config.classes - 1``, for a network with classes.
            generator: Source of the noise that samples the latents, on the device of ``x``.
            noise: The noise itself, standard normal.
            glimpses: Length of the chain. By default that of ``noise``, or ``config.glimpses``.
            record: ``"all"``, or ``"last"`` to keep no windows and only the last canvas, which is
                all that training needs.

        Raises:
            ValueError: If ``x`` or ``noise`` has the wrong shape or type, ``x`` has values outside
                [0, 1], or the labels do not suit the network. Values are checked on a CPU only.
        """
        check_images(x, self.config.image_shape, self.canvas.dtype)
        return self._run(x, x.shape[0], y, generator, noise, None, glimpses, record)

    def generate(
        self,
        n: int,
        *,
        y: Int64[Tensor, " {n}"] | None = None,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "glimpses {n} z"] | None = None,
        z: Float[Tensor, "first {n} z"] | None = None,
        glimpses: int | None = None,
        record: Literal["all", "last"] = "all",
    ) -> Trace:
        """Draw n images from the prior: equations (13) to (15).

        If you only want to look at them, call this under `torch.no_grad`. Otherwise the whole chain
        is kept for the backward pass.

        Args:
            n: How many.
            y: Their classes, 0 to ``config.classes - 1``, for a network with classes.
            generator: Source of the noise, on the device of the model.
            noise: The noise itself, standard normal.
            z: Latents to use for the first glimpses; those of the remaining glimpses are sampled.
            glimpses: Length of the chain. By default that of ``noise``, or ``config.glimpses``.
            record: ``"all"``, or ``"last"`` to keep no windows and only the last canvas, for when
                you need only the finished picture.

        Raises:
            ValueError: If ``n`` is less than 0, ``noise`` or ``z`` has the wrong shape or type, or
                the labels do not suit the network.
        """
        return self._run(None, n, y, generator, noise, z, glimpses, record)

    def _run(
        self,
        x: Tensor | None,
        batch: int,
        y: Tensor | None,
        generator: torch.Generator | None,
        noise: Tensor | None,
        given: Tensor | None,
        glimpses: int | None,
        record: Literal["all", "last"],
    ) -> Trace:
        length = glimpses
        if length is None:
            length = self.config.glimpses if noise is None else len(noise)
        if length < 1:
            raise ValueError(f"glimpses must be >= 1, got {length}")
        if batch < 0:
            raise ValueError(f"n must be >= 0, got {batch}")
        if record not in ("all", "last"):
            raise ValueError(f"record must be all or last, got {record!r}")
        shape, like = (length, batch, self.config.z_size), self.canvas
        if noise is None:
            noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        check_latents(noise, given, shape, like.dtype)
        y = self._checked(y, batch)
        products = self.fuse(y)
        state = self.initial_state(products, batch)
        states, latents, priors = [state], [], []
        # A step of a subclass may use a product more than once.
        once = type(self).plain_step is DRAW.plain_step
        chain = products.along(length, batch) if once else [products] * length
        for t in range(length):
            priors.append(state.heads.prior)
            given_t = given[t] if given is not None and t < len(given) else None
            state, latent = self.step(chain[t], x, state, noise[t], given_t)
            latents.append(latent)
            if record == "all":
                states.append(state)
        canvases = [s.canvas for s in states[1:]] or [state.canvas]
        z, mu, log_sigma = (torch.stack(facts) for facts in zip(*latents, strict=True))
        prior_mu, prior_log_sigma = None, None
        if self.config.prior == "learned":
            prior_mu, prior_log_sigma = torch.stack(priors).chunk(2, dim=-1)
        trace = Trace(
            torch.stack(canvases),
            z,
            mu,
            log_sigma,
            prior_mu,
            prior_log_sigma,
            start=self.canvas.clone(),
            likelihood=self.likelihood,
            y=y,
        )
        return trace if record == "last" else self._with_windows(trace, states, x is not None)

    def _with_windows(self, trace: Trace, states: list[State], read: bool) -> Trace:
        """The trace with its windows, decoded again from the states around each glimpse."""
        _, height, width = self.config.image_shape
        if read and (size := self.config.read_size) is not None:
            params = torch.stack([s.heads.read_params for s in states[:-1]])
            window = attention.window(params, size, height, width)
            trace = replace(trace, read_window=window, read_size=size)
        if (size := self.config.write_size) is not None:
            params = torch.stack([s.heads.write_params for s in states[1:]])
            window = attention.window(params, size, height, width)
            patch = torch.stack([s.heads.patch for s in states[1:]])
            patch = patch.unflatten(2, (-1, size, size))
            trace = replace(trace, write_window=window, patch=patch)
        return trace

    def _checked(self, y: Tensor | None, batch: int) -> Tensor | None:
        """The labels, checked, on the device of the network."""
        classes = self.config.classes
        if classes == 0:
            if y is not None:
                raise ValueError("y must be None for a network without classes, got labels")
            return None
        if y is None:
            raise ValueError(f"y must give the class of each image, one of {classes}, got None")
        check_labels(y, batch, classes)
        return y.to(self.canvas.device)

    def initial_state(self, products: Products, batch: int) -> State:
        """c_0, h_enc_0, h_dec_0 and the cells, which are learned and the same for all images."""
        canvas, h_enc, cell_enc, h_dec, cell_dec = (
            p.expand(batch, *p.shape).contiguous()
            for p in (self.canvas, self.h_enc, self.cell_enc, self.h_dec, self.cell_dec)
        )
        heads = read_off(self.config, self.likelihood, products, h_dec)
        return State(canvas, h_enc, cell_enc, h_dec, cell_dec, heads)

    def start_canvas(self, mean: Float[Tensor, "channels height width"]) -> None:
        """Let c_0 show the mean image, so that the chain need not learn to draw it.

        Args:
            mean: The mean of the training images, in [0, 1].
        """
        with torch.no_grad():
            self.canvas.copy_(self.likelihood.start(mean))
