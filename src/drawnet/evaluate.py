"""How good a network is on a set of images: bounds on the log-likelihood, and rates of error.

Only compare bounds of the same kind on the same set. A `Bound` says how many samples and how long a
chain it was computed with; the set describes itself (`drawnet.data.Images.description`).
"""

import math
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist

import torch
from torch import Tensor, nn

from drawnet import objective
from drawnet.classify import Classifier, wrong
from drawnet.data import Images
from drawnet.data.images import check_are_images
from drawnet.likelihood import Logistic
from drawnet.model import DRAW
from drawnet.progress import Progress


@dataclass(frozen=True)
class Bound:
    """Upper bounds on -log p(x) in nats per image, averaged over a set.

    For a network with classes they are on -log p(x | y), given the label of each image.

    Attributes:
        nats: The variational bound with one sample of the latents per image, L^x + L^z of (12).
        stderr: Its standard error over the images.
        nll_x: L^x, the nats that it takes to send an image given its latents.
        kl: L^z, the nats that it takes to send the latents.
        kl_per_glimpse: L^z by glimpse, T numbers.
        iw_nats: The importance-weighted bound with ``samples`` samples; None for one sample.
        iw_stderr: Its standard error over the images.
        bits_per_dim, iw_bits_per_dim: Both bounds in bits per number of the image, for the logistic
            likelihood; None for others.
        code_length: Whether the bounds are on a code length. They are not if a likelihood for black
            and white judged images with intensities in between.
        samples: K, the number of samples.
        count: The number of images.
        glimpses: T, the length of the chain.
        each: The bound of one sample for each image, in the order of the set. Two networks are
            compared more exactly by the mean of their differences, image by image, than by means.
        iw_each: The importance-weighted bound for each image; None for one sample.
    """

    nats: float
    stderr: float
    nll_x: float
    kl: float
    kl_per_glimpse: list[float]
    iw_nats: float | None
    iw_stderr: float | None
    bits_per_dim: float | None
    iw_bits_per_dim: float | None
    code_length: bool
    samples: int
    count: int
    glimpses: int
    each: list[float] = field(repr=False)
    iw_each: list[float] | None = field(repr=False)


@torch.no_grad()
def evaluate(
    model: DRAW,
    images: Images,
    *,
    batch_size: int = 500,
    samples: int = 1,
    glimpses: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Bound:
    """Bound -log p(x) over a set of images.

    Args:
        model: The network, on the device to run on.
        images: The set, on the same device.
        batch_size: Images at a time, >= 1; never more than 500. The noise of the latents depends
            on it, the images do not. The importance-weighted bound has its own number of chains at
            a time.
        samples: K of the importance-weighted bound; with 1 it is left out.
        glimpses: Length of the chain; by default the model's own.
        seed: Seed of the latents, and of whatever is random about the images.
        progress: Called with "images", the number done, and the total.

    Raises:
        TypeError: If ``images`` is not an `Images`.
        ValueError: If the set is empty, ``samples`` or ``batch_size`` is less than 1, or the
            network has classes and the set has no labels or a different number of classes.
    """
    check_are_images(images)
    if len(images) == 0:
        raise ValueError("expected images to evaluate on, got an empty set")
    if samples < 1:
        raise ValueError(f"samples must be >= 1, got {samples}")
    images = images.for_classes(model.config.classes)
    bounds, divergences, weighted = [], [], []
    done, code_length = 0, True
    for x, y, generator in images.in_order(batch_size, seed):
        x = x.to(model.canvas.dtype)
        trace = model(x, y=y, generator=generator, glimpses=glimpses, record="last")
        bounds.append(-objective.elbo(x, trace).cpu().double())
        divergences.append(objective.kl(trace).cpu().double())
        if samples > 1:
            chain = partial(model, glimpses=glimpses)
            bound = objective.importance_weighted_bound(chain, x, samples, generator, y=y)
            weighted.append(-bound.cpu().double())
        code_length = code_length and model.likelihood.is_code_length(x)
        done += len(x)
        if progress is not None:
            progress("images", done, len(images))
    nats, kl = torch.cat(bounds), torch.cat(divergences, dim=1).mean(1)
    iw = torch.cat(weighted) if weighted else None

    def bits(values: Tensor | None) -> float | None:
        if values is None or not isinstance(model.likelihood, Logistic):
            return None
        return objective.bits_per_dimension(values.mean().item(), model.config.image_shape)

    return Bound(
        nats=nats.mean().item(),
        stderr=standard_error(nats),
        nll_x=nats.mean().item() - kl.sum().item(),
        kl=kl.sum().item(),
        kl_per_glimpse=kl.tolist(),
        iw_nats=None if iw is None else iw.mean().item(),
        iw_stderr=None if iw is None else standard_error(iw),
        bits_per_dim=bits(nats),
        iw_bits_per_dim=bits(iw),
        code_length=code_length,
        samples=samples,
        count=len(images),
        glimpses=len(kl),
        each=nats.tolist(),
        iw_each=None if iw is None else iw.tolist(),
    )


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of independent values; infinite for a single one."""
    return math.inf if len(values) < 2 else values.std().item() / math.sqrt(len(values))


@dataclass(frozen=True)
class ErrorRate:
    """How often the last answer of a classifier is wrong on a set.

    Attributes:
        error: The fraction of wrong answers, in [0, 1].
        interval: Wilson's 95 % confidence interval for it.
        error_per_glimpse: The same fraction for the answers after each glimpse, T numbers.
        confusion: ``confusion[i][j]`` images of class i were taken for class j.
        count: How many images.
    """

    error: float
    interval: tuple[float, float]
    error_per_glimpse: list[float]
    confusion: list[list[int]]
    count: int


@torch.no_grad()
def evaluate_classifier(
    model: Classifier,
    images: Images,
    *,
    batch_size: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> ErrorRate:
    """Count the errors on a set of images.

    Args:
        model: The network.
        images: The set, with labels, on the device of the network.
        batch_size: Images at a time, >= 1; never more than 500. The result does not depend on it.
        seed: Seed of whatever is random about the images.
        progress: Called with "images", the number done, and the total.

    Raises:
        TypeError: If ``images`` is not an `Images`.
        ValueError: If ``batch_size`` is less than 1, or the set is empty, has no labels, or has
            a different number of classes from the network.
    """
    check_are_images(images)
    if len(images) == 0 or images.labels is None:
        what = "an empty set" if len(images) == 0 else f"{images.name} without labels"
        raise ValueError(f"expected labelled images to evaluate on, got {what}")
    classes = len(images.classes)
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    dtype = next((weight.dtype for weight in weights), None)
    errors, pairs, done = [], [], 0
    for x, y, _ in images.in_order(batch_size, seed):
        assert y is not None
        logits = model.logits(x if dtype is None else x.to(dtype))
        if logits.shape[-1] != classes:
            message = f"expected {classes} classes, as {images.name} has"
            raise ValueError(f"{message}, got {logits.shape[-1]}")
        errors.append(wrong(logits, y))
        pairs.append(y * classes + logits[-1].argmax(-1))
        done += len(x)
        if progress is not None:
            progress("images", done, len(images))
    counts = torch.cat(errors, dim=1).sum(1).tolist()
    confusion = torch.cat(pairs).bincount(minlength=classes**2).view(classes, classes)
    return ErrorRate(
        error=counts[-1] / len(images),
        interval=wilson(counts[-1], len(images)),
        error_per_glimpse=[count / len(images) for count in counts],
        confusion=confusion.tolist(),
        count=len(images),
    )


def wilson(errors: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of an error rate: all rates p close enough to what was seen.

        |errors / count - p| <= z sqrt(p (1 - p) / count)

    Unlike errors / count +- z standard errors, it is valid near 0, where good classifiers are.

    Args:
        errors: How many of `count` were wrong.
        count: >= 1.
    """
    z = NormalDist().inv_cdf(0.975)
    rate, shrink = errors / count, 1 + z**2 / count
    middle = (rate + z**2 / (2 * count)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
