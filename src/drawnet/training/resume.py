"""Find the checkpoint to resume from, and check that it belongs to the same training."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from drawnet import weights
from drawnet.data import Images
from drawnet.data.images import check_are_images
from drawnet.recipe import Recipe
from drawnet.training import checkpoint
from drawnet.training.checkpoint import CheckpointError
from drawnet.training.run_folder import RunFolder

AGAIN = "what was given from Python must be given again"
ANEW = "to train on other images, begin a new run with its weights, by --start"


class Origin(TypedDict):
    """What identifies a training besides its recipe. The values are sha256 where not said."""

    network: str  # the name of its class
    images: tuple[str, int]  # name and number of the training set
    given: str | None  # of the images, if they were given from Python
    found: str | None  # of the images, if they are the user's own files
    teachers: dict[str, str]  # of the weights of each


class Begun(NamedTuple):
    """A training to resume."""

    checkpoint: Path
    step: int
    start_sha256: str | None
    origin: Origin
    changed: dict[str, Any]  # the options of the recipe that differ, by dotted name

    def check_given(self, given: str | None) -> None:
        """Raise a `CheckpointError` if it was given images from Python and now none are given."""
        if self.origin["given"] and given is None:
            raise self._another(said(self.origin), "one on the images of the recipe")

    def check(self, origin: Origin) -> None:
        """Raise a `CheckpointError` if `origin` is that of another training."""
        before = self.origin
        if said(origin) != said(before):
            files: Origin = {**before, "images": origin["images"], "found": origin["found"]}
            only_files = origin["given"] is None and said(files) == said(origin)
            raise self._another(said(before), said(origin), ANEW if only_files else AGAIN)
        if origin["teachers"] != before["teachers"]:
            names = ", ".join(origin["teachers"])
            raise CheckpointError(
                f"checkpoint {self.checkpoint} was taught by other weights {names}"
            )

    def _another(self, theirs: str, ours: str, hint: str = AGAIN) -> CheckpointError:
        return CheckpointError(
            f"checkpoint {self.checkpoint} is of {theirs}, this is {ours}: {hint}"
        )


def said(origin: Origin) -> str:
    """Describe an origin in words."""
    name, count = origin["images"]
    given, found = origin["given"], origin["found"]
    which = f" that were given (sha256 {given[:12]}...)" if given else ""
    which += f" (sha256 {found[:12]}...)" if found else ""
    return f"a {origin['network']} on {count} images of {name}{which}"


def to_resume(folder: RunFolder, recipe: Recipe, resume: Literal[True] | str | Path) -> Begun:
    """The checkpoint to resume from.

    Raises:
        CheckpointError: If it is of another recipe, or there is no undamaged one.
    """
    path = checkpoint.newest(folder.checkpoints) if resume is True else Path(resume)
    saved = checkpoint.load(path)
    before = saved["drawnet"]["recipe"]
    # Options that an older version did not have take their defaults.
    for part in ("model", "optim"):
        defaults = {each.name: each.default for each in fields(getattr(recipe, part))}
        before = {**before, part: {**defaults, **before[part]}}
    theirs, ours = _fixed(before), _fixed(asdict(recipe))
    different = [key for key in ours if theirs.get(key) != ours[key]]
    if different or theirs.keys() != ours.keys():
        names = ", ".join(different or sorted(theirs.keys() ^ ours.keys()))
        raise CheckpointError(f"checkpoint {path} is of another recipe; these differ: {names}")
    more = saved["drawnet"]
    changed = _changed(before, asdict(recipe))
    return Begun(path, saved["global_step"], more["start_sha256"], more["origin"], changed)


def _changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The options that may change and did, if both recipes have them, by dotted name."""
    theirs = {**_dotted("optim", before), **_dotted("trainer", before)}
    ours = {**_dotted("optim", now), **_dotted("trainer", now)}
    return {name: ours[name] for name in ours if ours[name] != theirs.get(name, ours[name])}


def _dotted(part: str, recipe: dict[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": value for name, value in recipe[part].items()}


def _fixed(recipe: dict[str, Any]) -> dict[str, Any]:
    """The values that must not change when a training is resumed, by dotted name."""
    fixed = {**_dotted("model", recipe), **_dotted("data", recipe)}
    for name in ("batch_size", "window_lr", "weight_decay"):
        fixed[f"optim.{name}"] = recipe["optim"][name]
    fixed["teachers"] = recipe.get("teachers", [])
    return fixed | {"seed": recipe["seed"], "start": recipe.get("start")}


def sha256_of_images(images: Sequence[Images]) -> str:
    """The sha256 of a training set and a validation set together."""
    if not isinstance(images, tuple | list) or len(images) != 2:
        raise TypeError(f"images must be a training and a validation set, got {images!r:.100}")
    digest = hashlib.sha256()
    for each in images:
        check_are_images(each)
        for tensor in (each.pixels, each.labels, each.chosen):
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def sha256_of_weights(name: str) -> str:
    """The sha256 of the weights with this name, or in this folder."""
    return str(weights.describe(weights.locate(name))["sha256"])
