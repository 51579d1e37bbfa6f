"""The order of the images, and the noise, as pure functions of the seed and the step.

No random state is carried from step to step. The batch of a step depends only on (seed, step), so
a resumed training sees exactly the batches that an unbroken one would have seen, even in the middle
of an epoch and on any number of processes.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
import torch

from drawnet.data import Images
from drawnet.data.images import Batch


class Stream(IntEnum):
    """What random numbers are used for. Streams for different purposes are independent."""

    WEIGHTS = 0
    ORDER = 1
    IMAGES = 2
    LATENTS = 3
    VALIDATION = 4
    REDRAWN = 5


def reseed(generator: torch.Generator, seed: int, stream: Stream, *place: int) -> torch.Generator:
    """Seed a generator for one purpose at one point of the training.

    Args:
        generator: Any generator; it is changed in place and returned.
        seed: The seed of the recipe.
        stream: What the numbers are for.
        place: The point in the training, such as a step and a rank; integers >= 0.
    """
    words = np.random.SeedSequence(seed, spawn_key=(stream, *place)).generate_state(2)
    return generator.manual_seed(int(words[0]) << 32 | int(words[1]))


class Batches:
    """All batches of a training, from the first step to the last, as one resumable iterable.

    The set is in memory on the device, so a batch is one indexing operation and needs no worker
    processes. Each epoch has its own permutation of the images, given by (seed, epoch). Each
    process takes its own slice of each batch. Images at the end of an epoch that do not fill a
    batch are left out.

    Args:
        images: The training set, on the device that computes.
        batch_size: Images per step, B, over all processes together; a multiple of `world_size`.
        epochs: Passes over the set.
        seed: The seed of the recipe.
        rank: The number of this process, counted from 0.
        world_size: Number of processes.

    Raises:
        ValueError: If the set is smaller than a batch, or `batch_size` is not a multiple of
            `world_size`.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        epochs: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size > len(images):
            raise ValueError(
                f"optim.batch_size must be at most the {len(images)} training images, "
                f"got {batch_size}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"optim.batch_size must be a multiple of the {world_size} processes, "
                f"got {batch_size}"
            )
        self.images = images
        self.batch_size = batch_size
        self.steps_per_epoch = len(images) // batch_size
        self.steps = epochs * self.steps_per_epoch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = 0

    def __len__(self) -> int:
        """The number of steps in the whole training, including those already done."""
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the images ``(B / world_size, C, H, W)`` of each step from `position` on, with
        their labels or None."""
        shuffle, draw = torch.Generator(), torch.Generator(self.images.pixels.device)
        share = self.batch_size // self.world_size
        epoch, order = -1, torch.empty(0)
        while self.position < self.steps:
            step = self.position
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                reseed(shuffle, self.seed, Stream.ORDER, epoch)
                order = torch.randperm(len(self.images), generator=shuffle)
                order = order.to(self.images.pixels.device)
            first = step % self.steps_per_epoch * self.batch_size + self.rank * share
            reseed(draw, self.seed, Stream.IMAGES, step, self.rank)
            batch = self.images.batch(order[first : first + share], draw)
            self.position = step + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The number of the next step."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, which may come from another number of processes."""
        self.position = state["position"]
