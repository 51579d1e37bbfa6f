"""Learn by hindsight where to look.

A window learns only from what it sees: its gradient knows nothing of a digit beyond its edge. Once
the second glimpse of an image has gone to the wrong place, no gradient leads that glimpse or any
later one to the right place, and the network learns to guess what it did not find.

So the images that are answered worst are searched again, with other second windows placed all over
the image. Where one of these searches leads to the right answer, all windows from the second on
learn to look where that search came to rest: the second learns to go there at once, and the later
ones to turn there even so late. This uses only the labels, not the places of the digits. If there
are several processes, each searches its own part of the batch.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from drawnet.classify import GlimpseClassifier, Products, State

ACROSS, REACH = 3, 0.55
"""ACROSS x ACROSS second windows are tried, with g~ (equation 22) from -REACH to REACH."""

SHARE = 8
"""One image in SHARE of each batch is searched again: those with the lowest p(y | x)."""

WRONG, RIGHT = math.log(2), math.log(2) / 2
"""An answer counts as wrong if its -log p(y | x) is above WRONG, and as put right below RIGHT."""


def hindsight(
    model: GlimpseClassifier,
    products: Products,
    x: Float[Tensor, "batch channels height width"],
    y: Int64[Tensor, " batch"],
    states: list[State],
) -> Float[Tensor, ""]:
    """How far the windows are from where they should have been, in hindsight.

        1/B sum_b sum_{t=2}^T |g~_t - g~*|^2

    The sum is over the images b that another second window puts right, and g~* is the centre of
    the last window of the chain that begins with it.

    Args:
        model: The network.
        products: The network's products, from `GlimpseClassifier.fuse`.
        x: The images.
        y: Their classes.
        states: The T + 1 states of the chain, from `GlimpseClassifier.look`.

    Returns:
        The mean over the batch, in units of half an image. With fewer than three glimpses it is 0,
        because no search could come to rest.
    """
    if len(states) < 4:
        return x.new_zeros(())
    with torch.no_grad():
        own = cross_entropy(states[-1].answer, y, reduction="none")
        hard = own.topk(max(1, len(y) // SHARE)).indices
        along = torch.linspace(-REACH, REACH, ACROSS, dtype=x.dtype, device=x.device)
        centres = torch.cartesian_prod(along, along)
        count = len(centres)
        tried = hard.repeat_interleave(count)
        second = State(*(value[tried] for value in states[1]))
        second.window[:, :2] = centres.repeat(len(hard), 1)
        found, _ = model.look(products, x[tried], second, len(states) - 2)
        loss = cross_entropy(found[-1].answer, y[tried], reduction="none")
        best, which = loss.view(-1, count).min(1)
        rest = found[-2].window[:, :2].view(-1, count, 2)
        target = rest[torch.arange(len(hard), device=x.device), which]
        inside = target.abs().amax(1) < 1
        saved = (own[hard] > WRONG) & (best < RIGHT) & inside
    windows = torch.stack([state.window[hard, :2] for state in states[1:-1]])
    miss = torch.where(saved[:, None], windows - target, 0.0)
    return miss.square().sum() / len(y)
