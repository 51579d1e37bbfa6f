"""A split of a data set, held in memory as bytes.

Everything here is small enough to stay on the device for the whole training: 50,000 binary digits
are 39 MB as `uint8`. Whatever is random about a batch (binarizing afresh, random crops, clutter) is
therefore not part of the stored set but of how it is viewed. A `View` is a pure function from the
stored bytes, the indices asked for and a generator to the images, vectorised, on the device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

Batch: TypeAlias = tuple[Tensor, Tensor | None]
View: TypeAlias = Callable[[Tensor, Tensor | None, Tensor, torch.Generator | None], Batch]
"""(pixels (N,C,H,W) uint8, labels (N,) | None, index (B,), generator) -> (x, y)."""

SPLITS = ("train", "valid", "test")
BLOCK = 500
"""How many images are drawn at a time where they must be the same every time."""


class DataError(ValueError):
    """Data is missing, damaged or not what it should be. Says where, and what was expected."""


def plain(
    pixels: Tensor, labels: Tensor | None, index: Tensor, generator: torch.Generator | None
) -> Batch:
    """The stored images as they are, 0..255 becoming 0..1. Nothing random."""
    return unit(pixels[index]), None if labels is None else labels[index]


def unit(pixels: Tensor) -> Tensor:
    """Map intensities 0..255 of any integer type to [0, 1], in torch's default dtype."""
    x = pixels.to(torch.get_default_dtype())
    return x.div_(x.new_full((), 255))  # by a float, CUDA would multiply by its rounded reciprocal


def check_are_images(images: object) -> None:
    """Raise a `TypeError` unless a set is an `Images`."""
    if not isinstance(images, Images):
        hint = "drawnet.data.from_dataset makes them from a dataset"
        raise TypeError(f"expected drawnet.data.Images, got {images!r:.100} ({hint})")


@dataclass(frozen=True, eq=False)
class Images:
    """One split of a data set.

    Args:
        pixels: (N, C, H, W) uint8, the images as stored.
        labels: (N,) int64, 0 .. len(classes) - 1, or None if the set has none.
        name: The name of the set, as given to `load`.
        split: "train", "valid" or "test".
        description: One line that says exactly what these images are; every result quotes it.
        classes: The names of the labels, () without labels.
        view: How a batch is made from what is stored.
        size: (H, W) of the images in a batch, if the view changes it.
        chosen: (N',) int64, which of the stored images the set consists of; None for all.
    """

    pixels: Tensor
    labels: Tensor | None
    name: str
    split: str
    description: str
    classes: tuple[str, ...] = ()
    view: View = plain
    size: tuple[int, int] | None = None
    chosen: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse pixels or labels of the wrong shape or type.

        Raises:
            DataError: Says what was expected and what it got.
        """
        pixels, labels = self.pixels, self.labels
        if pixels.dim() != 4 or pixels.dtype != torch.uint8:
            got = f"{tuple(pixels.shape)} of {pixels.dtype}"
            raise DataError(f"{self.name}: expected pixels (N, C, H, W) of uint8, got {got}")
        if labels is not None and (labels.shape != pixels.shape[:1] or labels.dtype != torch.int64):
            got = f"{tuple(labels.shape)} of {labels.dtype}"
            raise DataError(f"{self.name}: expected int64 labels ({len(pixels)},), got {got}")

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.image_shape))
        return f"<{len(self)} images of {shape}: {self.description}, {self.split}>"

    def __len__(self) -> int:
        return len(self.pixels if self.chosen is None else self.chosen)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images in a batch."""
        _, channels, height, width = self.pixels.shape
        return (channels, *(self.size or (height, width)))

    def to(self, device: torch.device | str) -> "Images":
        """The same images, kept on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        chosen = None if self.chosen is None else self.chosen.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels, chosen=chosen)

    def subset(self, index: Tensor) -> "Images":
        """Some of the images, each as it is in the whole set.

        All images stay stored: a view may make an image out of several, or use its place in the
        set.

        Args:
            index: (N',) int64, which images and in what order.
        """
        index = index.to(self.pixels.device)
        return replace(self, chosen=index if self.chosen is None else self.chosen[index])

    def for_classes(self, number: int) -> "Images":
        """The images with the labels that a network with so many classes is given.

        Args:
            number: How many classes; 0 leaves out the labels.

        Raises:
            DataError: There are no labels, or the number of classes is different.
        """
        if number == 0:
            return replace(self, labels=None, classes=())
        if self.labels is None or len(self.classes) != number:
            got = "no labels" if self.labels is None else f"labels of {len(self.classes)}"
            raise DataError(f"{self.name}: expected labels of {number} classes, got {got}")
        return self

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The images and labels at `index`.

        Args:
            index: (B,) int64, each in 0 .. N - 1.
            generator: The source of everything random about the batch, on any device; None means
                torch's global one. Two calls with generators in the same state agree to the bit.

        Returns:
            x: (B, C, H, W) in [0, 1], torch's default dtype, on the device of the set.
            y: (B,) int64, or None without labels.
        """
        index = index.to(self.pixels.device)
        if self.chosen is not None:
            index = self.chosen[index]
        return self.view(self.pixels, self.labels, index, generator)

    def in_order(
        self, batch_size: int, seed: int
    ) -> Iterator[tuple[Tensor, Tensor | None, torch.Generator]]:
        """All images in batches, each with a generator for whatever else is random about it.

        What is random about the images is drawn for `BLOCK` of them at a time, so that it depends
        only on the seed and their places. The generator also depends on where the batch begins.

        Args:
            batch_size: Images per batch, >= 1; there are never more than `BLOCK`.
            seed: >= 0. Neighbouring seeds have nothing in common.

        Raises:
            ValueError: `batch_size` is less than 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        device = self.pixels.device
        generator = torch.Generator(device)
        seed *= 0x9E3779B1  # far apart: places are added to it, and a CPU's generator takes 32 bits
        for block in range(0, len(self), BLOCK):
            index = torch.arange(block, min(block + BLOCK, len(self)), device=device)
            x, y = self.batch(index, generator.manual_seed((seed + block) % 2**32))
            for start in range(0, len(index), batch_size):
                if start:
                    generator.manual_seed((seed + block + start) % 2**32)
                part = slice(start, start + batch_size)
                yield x[part], None if y is None else y[part], generator
