"""A training so small that it takes a second, and what tests of trainings do with it."""

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drawnet import DRAWConfig
from drawnet.data import Images
from drawnet.data.images import Batch, plain
from drawnet.data.views import fresh
from drawnet.recipe import OptimConfig, Recipe, TrainerConfig
from drawnet.training import train
from drawnet.training.validate import Validation

COUNT, VALID, BATCH = 62, 23, 6
STEPS_PER_EPOCH = COUNT // BATCH  # 10, with 2 images left out
EPOCHS = 3

RECIPE = Recipe(
    model=DRAWConfig(
        image_shape=(1, 9, 8),
        glimpses=4,
        enc_size=11,
        dec_size=10,
        z_size=5,
        read_size=2,
        write_size=3,
    ),
    optim=OptimConfig(lr=0.02, warmup_steps=3, batch_size=BATCH, epochs=EPOCHS),
    trainer=TrainerConfig(accelerator="cpu", compile="off", tensorboard=False, threads=1),
    seed=7,
)


def halves(split: str, count: int) -> Images:
    """The left or the right half of each image is white."""
    left = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(count)) < 0.5
    pixels = 255 * ((torch.arange(8) < 4) == left).expand(count, 1, 9, 8).to(torch.uint8)
    return Images(pixels, None, "halves", split, "halves, for tests")


IMAGES = halves("train", COUNT), halves("valid", VALID)


class Spy:
    """A view that remembers which images were asked for, and can spoil or interrupt a batch."""

    def __init__(
        self,
        nan: range = range(0),
        kill: int | None = None,
        number: int = signal.SIGTERM,
        batch: int = BATCH,
        fresh: bool = True,
    ) -> None:
        self.seen: list[Tensor] = []
        self.nan = nan
        self.kill = kill
        self.signal = number
        self.batch = batch
        self.fresh = fresh

    def __call__(
        self, pixels: Tensor, labels: Tensor | None, index: Tensor, generator: Any
    ) -> Batch:
        x, y = plain(pixels, labels, index, generator)
        if len(index) == self.batch:  # no validation, no mean image
            call = len(self.seen)
            self.seen.append(index)
            if call in self.nan:
                x = x * torch.nan
            if call == self.kill:
                os.kill(os.getpid(), self.signal)
        if self.fresh:  # random, as cluttered or freshly binarized images are
            x = x.flip(-1) if fresh(index[:1], 1, generator) < 0.5 else x
        return x, y


def run(out: Path, spy: Spy | None = None, recipe: Recipe = RECIPE, **options: Any) -> Validation:
    learn, check = IMAGES
    return train(
        recipe, out, images=(replace(learn, view=spy or Spy()), check), bar=False, **options
    )


def checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoints/*.ckpt"))


def final_state(out: Path) -> dict[str, Any]:
    """All that the last checkpoint holds but times."""
    state: dict[str, Any] = torch.load(checkpoints(out)[-1], weights_only=True)
    for callback in state["callbacks"].values():
        callback.pop("seconds", None)
    return state


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the last bit, whatever is nested in what."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}/{number}")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key != "images_per_second"}
            for row in csv.DictReader(file)
        ]
