"""Scenes made of MNIST digits: one in clutter, to be classified, or two, to be generated.

All digits of a scene, distractors included, come from its own split.
"""

from dataclasses import replace
from functools import partial

from drawnet.data import views
from drawnet.data.images import Images
from drawnet.data.mnist import mnist
from drawnet.data.store import Store


def cluttered_mnist(
    split: str,
    store: Store,
    *,
    size: int = 100,
    distractors: int = 8,
    piece: int = 8,
    warp: float = 0.0,
    elastic: float = 0.0,
    fixed: bool = False,
    include_valid: bool = False,
) -> Images:
    """Digits of MNIST at random places among pieces of others (Mnih et al., 2014).

    The paper classifies 100 x 100 scenes; 60 x 60 with 4 distractors is the other usual size.

    Args:
        size: Height and width of a scene, in pixels, 28 to 1024.
        distractors: How many pieces of digits, 0 to 1000.
        piece: Their height and width in pixels, 1 to 28.
        warp: How much the digits of the training split, and of no other, are turned, sheared and
            scaled at random, 0 to 0.5: each of the four numbers of a linear map differs from the
            identity by at most this. The paper does not do this; results must say so.
        elastic: How much the same digits are bent at random, 0 to 5: the points of a coarse lattice
            are displaced by at most this many pixels, and the others smoothly with them (Simard et
            al., 2003). The paper does not do this either.
        fixed: Every digit always has the same place and clutter, as in a set that was written to
            disk; otherwise they are drawn afresh at each use. Fresh clutter about halves the error
            of a classifier, so results say which it was.
        include_valid: Train on all 60,000 digits; see `drawnet.data.mnist`.
    """
    _check_size(size)
    if not 0 <= distractors <= 1000:
        raise ValueError(f"distractors must be 0 to 1000, got {distractors}")
    if not 1 <= piece <= 28:
        raise ValueError(f"piece must be 1 to 28, got {piece}")
    if not 0 <= warp <= 0.5:
        raise ValueError(f"warp must be 0 to 0.5, got {warp}")
    if not 0 <= elastic <= 5:
        raise ValueError(f"elastic must be 0 to 5, got {elastic}")
    if split != "train":
        warp = elastic = 0.0
    view = partial(
        views.cluttered,
        size=size,
        distractors=distractors,
        piece=piece,
        warp=warp,
        elastic=elastic,
        chances=_chances(fixed),
    )
    bent = f", digits warped by {warp:g}" if warp else ""
    bent += f", digits bent by {elastic:g} pixels" if elastic else ""
    what = f"{size}x{size}, {distractors} distractors of {piece}x{piece}, {_when(fixed)}"
    whose = ", digits of validation too" if split == "train" and include_valid else ""
    return replace(
        mnist(split, store, include_valid=include_valid),
        name="cluttered_mnist",
        description=f"cluttered_mnist, {what}{bent}{whose}",
        view=view,
        size=(size, size),
    )


def two_digits(split: str, store: Store, *, size: int = 60, fixed: bool = False) -> Images:
    """Two digits of MNIST at random places in a black square, added and clipped.

    A scene's index decides one of the two digits; the other is drawn from the whole split.

    Args:
        size: Height and width of a scene, in pixels, 28 to 1024.
        fixed: Every index always stands for the same scene; otherwise the other digit and both
            places are drawn afresh at each use.
    """
    _check_size(size)
    return replace(
        mnist(split, store),
        labels=None,
        classes=(),
        name="two_digits",
        description=f"two_digits, two of mnist, {size}x{size}, {_when(fixed)}",
        view=partial(views.two_images, size=size, chances=_chances(fixed)),
        size=(size, size),
    )


def _check_size(size: int) -> None:
    if not 28 <= size <= 1024:
        raise ValueError(f"size must be 28 to 1024, got {size}")


def _chances(fixed: bool) -> views.Chances:
    return views.fixed if fixed else views.fresh


def _when(fixed: bool) -> str:
    return "the same for ever (fixed)" if fixed else "drawn afresh at each use"
