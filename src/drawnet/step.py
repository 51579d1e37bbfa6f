"""One glimpse of DRAW, as a pure function of the state before it: `step`.

In `drawnet.DRAW` the layers of the network are separate, and named as in the paper. A step is four
matrix products, joined by operations without weights: one for each LSTM, over all its inputs at
once; one for mu and log sigma; and one for everything that is linear in h_dec (the prior, both
windows and the patch). The notation is that of `drawnet.model`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from drawnet import attention
from drawnet.config import DRAWConfig
from drawnet.likelihood import Likelihood
from drawnet.product import Product


class Products(NamedTuple):
    """The four matrix products of a step: see `DRAW.fuse`."""

    encoder: Product  # [r, h_dec, h_enc] -> gates
    latent: Product  # h_enc -> mu, log sigma
    decoder: Product  # [z, h_dec] -> gates
    heads: Product  # h_dec -> all of Heads
    own: tuple[Tensor, ...] = ()  # whatever else a step of your own needs

    def along(self, glimpses: int, batch: int) -> "list[Products]":
        """The products for each glimpse of a chain, where each may be used once."""
        four = (self.encoder, self.latent, self.decoder, self.heads)
        each = zip(*(product.along(glimpses, batch) for product in four), strict=True)
        return [Products(*products)._replace(own=self.own) for products in each]


class Heads(NamedTuple):
    """What is computed from h_dec, each ``(B, features)``."""

    prior: Tensor  # mu and log sigma of the next P(Z_t); no features for N(0, I)
    read_params: Tensor  # of the next window to read through; no features without attention
    write_params: Tensor  # of the window to write through now; no features without attention
    patch: Tensor  # what to write now: N N or H W features for each plane of the canvas


class State(NamedTuple):
    """What a step passes on to the next."""

    canvas: Tensor
    h_enc: Tensor
    cell_enc: Tensor
    h_dec: Tensor
    cell_dec: Tensor
    heads: Heads


class Latent(NamedTuple):
    """z of one step and the Gaussian that it was sampled from, each ``(B, Z)``."""

    z: Tensor
    mu: Tensor
    log_sigma: Tensor


def step(
    config: DRAWConfig,
    likelihood: Likelihood,
    products: Products,
    x: Float[Tensor, "batch channels height width"] | None,
    state: State,
    noise: Float[Tensor, "batch z"],
    z: Float[Tensor, "batch z"] | None = None,
) -> tuple[State, Latent]:
    """One glimpse: equations (3) to (8) with an image, (13) to (15) without.

    Args:
        config: The sizes.
        likelihood: The distribution of an image given a canvas.
        products: From `DRAW.fuse`.
        x: The images to infer from, or None to sample from the prior.
        state: The state after the previous glimpse.
        noise: A standard normal sample, from which z is made.
        z: Latents to use as they are, instead of sampling them.
    """
    canvas, h_enc, cell_enc, h_dec, cell_dec, heads = state
    if x is not None:
        error = x - likelihood.mean(canvas)  # (3)
        r = glimpse(x, error, heads.read_params, config.read_size)  # (4)
        gates = products.encoder(torch.cat([r, h_dec, h_enc], dim=1))
        h_enc, cell_enc = lstm(gates, cell_enc)  # (5)
        mu, log_sigma = products.latent(h_enc).chunk(2, dim=1)  # (1), (2)
    elif config.prior == "learned":
        mu, log_sigma = heads.prior.chunk(2, dim=1)
    else:
        mu, log_sigma = torch.zeros_like(noise), torch.zeros_like(noise)
    if z is None:
        z = mu + log_sigma.exp() * noise  # (6), (13)
    h_dec, cell_dec = lstm(products.decoder(torch.cat([z, h_dec], dim=1)), cell_dec)  # (7), (14)
    heads = read_off(config, likelihood, products, h_dec)
    shape = canvas_shape(config, likelihood)
    canvas = canvas + stroke(heads.patch, heads.write_params, config.write_size, shape)  # (8), (15)
    return State(canvas, h_enc, cell_enc, h_dec, cell_dec, heads), Latent(z, mu, log_sigma)


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM with forget gates (Gers et al., 2000): (h, cell) from the inputs of its four gates.

    The gates are in the order of `torch.nn.LSTMCell`: i, f, g, o.
    """
    i, f, g, o = gates.chunk(4, dim=-1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * tanh(g)
    return torch.sigmoid(o) * tanh(cell), cell


def tanh(x: Tensor) -> Tensor:
    """tanh x = 2 sigma(2x) - 1, which is faster on a CPU than `torch.tanh`."""
    return 2 * torch.sigmoid(2 * x) - 1


def glimpse(x: Tensor, error: Tensor, params: Tensor, size: int | None) -> Tensor:
    """r = [read(x), read(x-hat)] with x-hat the error image: equations (4), (17), (27)."""
    both = torch.cat([x, error], dim=1)
    if size is not None:
        both = attention.read(both, attention.window(params, size, *x.shape[2:]), size)
    return both.flatten(1)


def stroke(
    patch: Tensor, params: Tensor, size: int | None, canvas_shape: tuple[int, int, int]
) -> Tensor:
    """write(h_dec): equations (18), (28), (29)."""
    planes, height, width = canvas_shape
    if size is None:
        return patch.view(-1, *canvas_shape)
    window = attention.window(params, size, height, width)
    return attention.write(patch.unflatten(1, (planes, size, size)), window, height, width)


def read_off(
    config: DRAWConfig, likelihood: Likelihood, products: Products, h_dec: Tensor
) -> Heads:
    """The last product of a step, split into its parts."""
    sizes = [
        2 * config.z_size if config.prior == "learned" else 0,
        5 if config.read_size is not None else 0,
        5 if config.write_size is not None else 0,
        patch_features(config, likelihood),
    ]
    return Heads(*products.heads(h_dec).split(sizes, dim=1))


def patch_features(config: DRAWConfig, likelihood: Likelihood) -> int:
    """The number of values written at each glimpse."""
    planes, height, width = canvas_shape(config, likelihood)
    return planes * (height * width if config.write_size is None else config.write_size**2)


def canvas_shape(config: DRAWConfig, likelihood: Likelihood) -> tuple[int, int, int]:
    """(P C, H, W): a canvas has P planes per channel, as many as the likelihood needs."""
    channels, height, width = config.image_shape
    return likelihood.planes * channels, height, width
