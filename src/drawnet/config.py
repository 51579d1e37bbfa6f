"""The sizes of a network. Importing this module does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

MOST_GLIMPSES = 10_000
_MOST = {
    "channels": 64,
    "height": 4096,
    "width": 4096,
    "glimpses": MOST_GLIMPSES,
    "read_size": 1024,
    "write_size": 1024,
    "components": 100,
}


@dataclass(frozen=True)
class DRAWConfig:
    """The sizes of a DRAW network. The defaults are the paper's for MNIST (its Table 3).

    Attributes:
        image_shape: (C, H, W): channels, height and width of an image.
        glimpses: T, the length of the chain. No weight depends on it.
        enc_size: Width of the encoder's LSTM.
        dec_size: Width of the decoder's LSTM.
        z_size: Dimensions of the latent z_t of each glimpse.
        read_size: N of the read window, or None to read the whole image: equation (17).
        write_size: N of the write window, or None to write the whole canvas: equation (18).
        prior: ``"standard"``, the paper's P(Z_t) = N(0, I), or ``"learned"``: a diagonal Gaussian
            that is a linear function of h_dec_{t-1}, as in Gregor et al., "Towards Conceptual
            Compression" (2016).
        likelihood: ``"bernoulli"``, the paper's D(X | c_T) for black and white, or ``"logistic"``
            for 256 intensities: see `drawnet.likelihood`.
        components: How many logistics are mixed; 1 for ``"bernoulli"``.
        classes: How many classes there are, for a network that is given labels and learns p(x | y);
            0 for p(x), without labels.

    Raises:
        ValueError: If a size is out of its range.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    glimpses: int = 64
    enc_size: int = 256
    dec_size: int = 256
    z_size: int = 100
    read_size: int | None = 2
    write_size: int | None = 5
    prior: Literal["standard", "learned"] = "standard"
    likelihood: Literal["bernoulli", "logistic"] = "bernoulli"
    components: int = 1
    classes: int = 0

    def __post_init__(self) -> None:
        _check(self, may_be_zero=("classes",))
        if self.likelihood == "bernoulli" and self.components != 1:
            raise ValueError(f"components must be 1 for bernoulli, got {self.components}")


@dataclass(frozen=True)
class ClassifierConfig:
    """The sizes of a glimpse classifier. The defaults are the paper's (its Table 3).

    Attributes:
        image_shape: (C, H, W): channels, height and width of an image.
        glimpses: T, how many times it looks before it answers. No weight depends on it.
        hidden_size: Width of the LSTM.
        read_size: N of the window that it looks through.
        classes: How many classes there are.

    Raises:
        ValueError: If a size is out of its range.
    """

    image_shape: tuple[int, int, int] = (1, 100, 100)
    glimpses: int = 8
    hidden_size: int = 256
    read_size: int = 12
    classes: int = 10

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class ConvNetConfig:
    """Which convolutional network to compare a glimpse classifier with.

    Attributes:
        image_shape: (C, H, W): channels, height and width of an image.
        classes: How many classes there are.
        layers: ``"two"``, ``"coarse"`` or ``"fine"``: see `drawnet.baselines`.

    Raises:
        ValueError: If a size is out of its range.
    """

    image_shape: tuple[int, int, int] = (1, 100, 100)
    classes: int = 10
    layers: Literal["two", "coarse", "fine"] = "two"

    def __post_init__(self) -> None:
        _check(self)


def check_types(record: Any, prefix: str = "") -> None:
    """Raise a `ValueError` if a value of a dataclass is not of its field's type."""
    for field in fields(record):
        value = getattr(record, field.name)
        if not _fits(value, field.type):
            if get_origin(field.type) is Literal:
                wanted = " or ".join(map(repr, get_args(field.type)))
            else:
                kind = field.type
                wanted = f"of type {kind.__name__ if isinstance(kind, type) else kind}"
            raise ValueError(f"{prefix}{field.name} must be {wanted}, got {value!r}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type. A list also counts as a tuple, as in YAML and JSON."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is tuple:
        same = isinstance(value, tuple | list) and len(value) == len(inner)
        return same and all(map(_fits, value, inner))
    if origin is list:
        return isinstance(value, list) and all(_fits(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items()
        )
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def _check(config: Any, may_be_zero: Sequence[str] = ()) -> None:
    """Refuse a configuration with a value of the wrong type or out of range."""
    if not _fits(config.image_shape, tuple[int, int, int]):
        raise ValueError(f"image_shape must be (C, H, W), got {config.image_shape!r}")
    check_types(config)
    # Weights come with their configuration in JSON, which has lists and no tuples.
    object.__setattr__(config, "image_shape", tuple(config.image_shape))
    sizes = dict(zip(("channels", "height", "width"), config.image_shape, strict=True))
    ours = next(kind for kind in type(config).__mro__ if kind.__module__ == __name__)
    named = {field.name: getattr(config, field.name) for field in fields(ours)}
    sizes |= {name: size for name, size in named.items() if isinstance(size, int)}
    for name, size in sizes.items():
        most = _MOST.get(name, 65_536)
        least = 0 if name in may_be_zero else 1
        if not least <= size <= most:
            raise ValueError(f"{name} must be an integer from {least} to {most}, got {size!r}")
