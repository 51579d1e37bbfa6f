"""A whole training, from a recipe to a folder with weights."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from drawnet import data
from drawnet.config import ClassifierConfig, ConvNetConfig
from drawnet.data import Images
from drawnet.fast import flush_denormals
from drawnet.likelihood import Bernoulli
from drawnet.metrics import read_rows
from drawnet.model import DRAW
from drawnet.progress import Progress
from drawnet.recipe import NetworkConfig, Recipe
from drawnet.training import checkpoint
from drawnet.training.checkpoint import CheckpointError
from drawnet.training.loader import Batches, Stream, reseed
from drawnet.training.log import Log, MetricsCSV, TensorBoard
from drawnet.training.module import Training
from drawnet.training.quiet import quiet
from drawnet.training.resume import Origin, sha256_of_images, sha256_of_weights, to_resume
from drawnet.training.run_folder import RunFolder, software_and_machine
from drawnet.training.tasks import network_of, task_of, teachers_of
from drawnet.training.trainer import trainer_of
from drawnet.training.validate import Validation
from drawnet.training.watch import Diverged, Watch, best_of
from drawnet.weights import Pretrained

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    images: tuple[Images, Images] | None = None,
    network: type[Pretrained] | None = None,
    resume: bool | str | Path = False,
    overwrite: bool = False,
    bar: bool | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Validation:
    """Train a network by a recipe, and leave its averaged weights in ``out/weights``.

    From this call on, the process flushes denormal numbers to zero
    (`drawnet.fast.flush_denormals`).

    Args:
        recipe: The network, the data, and how to train.
        out: The run folder; see `RunFolder` for what it will hold.
        data_dir: Where the data sets are; see `drawnet.data.load`.
        images: Your own training and validation sets, instead of the recipe's.
        network: Your own class of network, instead of the recipe's; made from ``recipe.model``.
        resume: True to go on from the newest undamaged checkpoint in `out`, or the path of a
            checkpoint. The resumed training equals an unbroken one bit for bit. A training that
            was stopped before its first checkpoint begins anew.
        overwrite: If `out` holds a run, remove it and begin anew.
        bar: Show a progress bar; by default only if standard error is a terminal.
        progress: Called during long preparations of the data; see `drawnet.data.load`.
        callbacks: More Lightning callbacks. The module that they get is a `Training`, whose
            ``average`` is the network with averaged weights.
        loggers: More Lightning loggers, besides ``metrics.csv`` and TensorBoard.

    Returns:
        The best validation, whose weights were kept.

    Raises:
        TypeError: If `images` are not two `Images`.
        ValueError: If the recipe does not fit the data, `out` holds a run and neither `resume` nor
            `overwrite` is given, another training is running there or has begun there while the
            data were read, or the folder's ``metrics.csv`` is no log.
        DataError: If data are missing or damaged.
        CheckpointError: If there is no undamaged checkpoint to resume from, or it is of another
            recipe or other data.
        OSError: If `out` cannot be written.
        Interrupted: After SIGTERM or SIGINT; a checkpoint has been saved.
        Diverged: If ten steps in a row were not finite (the checkpoints from before them remain),
            or if no validation loss was finite.
    """
    if resume is not False and overwrite:
        raise ValueError("expected either resume or overwrite, got both")
    flush_denormals()  # before loading the data starts threads
    folder = RunFolder(Path(out))
    on_first_node = os.environ.get("NODE_RANK", "0") == "0"  # which Lightning does not look at
    first = getattr(rank_zero_only, "rank", 0) == 0 and on_first_node
    state = folder.state() if first else []
    if resume is True and folder.was_cut_short():
        log.warning("no checkpoint yet in %s: beginning anew", out)
        resume = False
    elif first and folder.holds_a_run() and resume is False and not overwrite:
        raise ValueError(f"{out} holds a run: resume it, overwrite it, or choose another folder")
    if folder.metrics.exists() and not overwrite:
        read_rows(folder.metrics)  # or raise, before anything is written
    begun = to_resume(folder, recipe, resume) if resume is not False else None
    given = None if images is None else sha256_of_images(images)
    if begun:
        begun.check_given(given)
    if images is None:
        name, options = recipe.data.name, recipe.data.options
        images = (
            data.load(name, "train", data_dir, progress=progress, **options),
            data.load(name, "valid", data_dir, progress=progress, **options),
        )
    train_images, valid_images = images
    for each in images:
        if each.image_shape != tuple(recipe.model.image_shape):
            raise ValueError(
                f"model.image_shape must be {each.image_shape}, the shape of {each.name} "
                f"({each.split}), got {tuple(recipe.model.image_shape)}"
            )
        task_of(recipe).check(each)
    kind = network or network_of(recipe.model)
    teachers = teachers_of(recipe)
    steps_per_epoch = _steps_per_epoch(train_images, recipe)
    steps = recipe.optim.epochs * steps_per_epoch
    if begun and begun.step >= steps and best_of(folder) is None:
        raise CheckpointError(f"checkpoint {begun.checkpoint}: nothing is left to train")
    if first:
        _foresee(recipe, steps, begun.step if begun else 0)
    taught = {name: sha256_of_weights(name) for name in recipe.teachers}
    # All other sets are published ones, and never change.
    found = sha256_of_images(images) if given is None and train_images.name == "folder" else None
    origin: Origin = {
        "network": kind.__name__,
        "images": (train_images.name, len(train_images)),
        "given": given,
        "found": found,
        "teachers": taught,
    }
    if begun:
        begun.check(origin)
    with quiet(), _threads(recipe.trainer.threads):
        logs = Log()
        start_sha256 = begun.start_sha256 if begun else None
        if recipe.start is not None and not begun:
            start_sha256 = sha256_of_weights(recipe.start)
        keep = _keeper(folder, recipe, train_images, given is not None, start_sha256, taught)
        watch = Watch(valid_images, folder, keep)
        shows = sys.stderr is not None and sys.stderr.isatty() if bar is None else bar
        trainer = trainer_of(recipe, steps, watch, logs, shows, callbacks)
        device = trainer.strategy.root_device
        if device.type == "cuda":
            # Lightning asks torch for the precision of products, and cannot once `route_to_onednn`
            # has been called.
            torch.backends.mkldnn.matmul.fp32_precision = "none"  # type: ignore[attr-defined]
        watch.images = valid_images.to(device)
        batches = Batches(
            train_images.to(device),
            recipe.optim.batch_size,
            recipe.optim.epochs,
            recipe.seed,
            trainer.global_rank,
            trainer.world_size,
        )
        model = _network(kind, recipe, train_images, resumes=begun is not None)
        if recipe.optim.redraw and isinstance(model, DRAW):
            _check_can_be_redrawn(model, train_images)
        module = Training(recipe, model, steps_per_epoch, start_sha256, teachers, origin)
        step = begun.step if begun else 0
        with folder.held() if first else nullcontext():
            if first:
                if folder.state() != state:
                    raise ValueError(f"another training has written to {out} meanwhile: try again")
                folder.begin(recipe, overwrite, step, begun.changed if begun else None)
                checkpoint.remove_later(folder.checkpoints, step)
                trainer.loggers = [*_loggers(folder, recipe, step), *loggers]
            path = begun.checkpoint if begun else None
            try:
                trainer.fit(module, batches, ckpt_path=path, weights_only=True)
            except SystemExit as stop:
                # Lightning turns a Ctrl-C before the first step into exit 1.
                if isinstance(stop.__context__, KeyboardInterrupt):
                    raise KeyboardInterrupt from None
                raise
    if first and trainer.global_step < steps:
        log.warning("stopped at step %d of %d; to go on, resume it", trainer.global_step, steps)
    if watch.latest is None:
        raise ValueError("no step was trained")
    if watch.best is None:
        ended = trainer.global_step >= steps
        message = "the validation loss was never finite"
        raise Diverged(message, ended=ended, rank=trainer.global_rank)
    if first:
        log.info("best validation %s: weights in %s", watch.best, folder.weights)
    return watch.best


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use `count` threads, unless it is None, and restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _foresee(recipe: Recipe, steps: int, begun: int) -> None:
    """Warn about what is probably not meant, in a training from step `begun` to step `steps`."""
    optim = recipe.optim
    if isinstance(recipe.model, ClassifierConfig) and optim.window_lr == 1:
        log.warning("the windows of a classifier learn best at a tenth of the rate, window_lr 0.1")
    late = max(optim.glimpse_schedule, default=0)
    if late >= optim.epochs:
        line = "%d epochs end with T = %d: T = %d is not reached"
        lengths = recipe.glimpses(optim.epochs - 1), recipe.glimpses(late)
        log.warning(line, optim.epochs, *lengths)
    if optim.warmup_steps >= steps:
        line = (
            "the learning rate rises for all %d steps: use more epochs, or fewer "
            "optim.warmup_steps than %d"
        )
        log.warning(line, steps, optim.warmup_steps)
    if begun >= steps:
        log.warning("nothing is left to train: the checkpoint is of step %d", begun)


def _check_can_be_redrawn(model: DRAW, images: Images) -> None:
    """Raise a `ValueError` if images would be redrawn in black and white that have intensities."""
    generator = torch.Generator(images.pixels.device)
    for index in torch.arange(len(images)).split(1000):
        x, _ = images.batch(index, generator)
        if isinstance(model.likelihood, Bernoulli) and not model.likelihood.is_code_length(x):
            raise ValueError(
                "optim.redraw must be 0 for images with intensities between black and white, which "
                f"likelihood bernoulli cannot draw, such as {images.name}"
            )


def _steps_per_epoch(images: Images, recipe: Recipe) -> int:
    return Batches(images, recipe.optim.batch_size, 1, recipe.seed).steps_per_epoch


def _network(kind: type[Pretrained], recipe: Recipe, images: Images, resumes: bool) -> Pretrained:
    """The network to begin with, with the weights of `Recipe.start` or random ones.

    The canvas of a random DRAW starts as the mean of the training images.
    """
    state = torch.random.get_rng_state()
    reseed(torch.default_generator, recipe.seed, Stream.WEIGHTS)
    begun = None if recipe.start is None or resumes else kind.from_pretrained(recipe.start)
    model = begun or kind(recipe.model)
    torch.random.set_rng_state(state)
    if begun is not None and _with_glimpses(model.config, 1) != _with_glimpses(recipe.model, 1):
        raise ValueError(f"model must be as in {recipe.start}: {model.config}")
    if begun is not None or not isinstance(model, DRAW):
        return model
    generator = reseed(torch.Generator(), recipe.seed, Stream.IMAGES)
    total = torch.zeros(recipe.model.image_shape, dtype=torch.float64)
    for index in torch.arange(len(images)).split(1000):
        total += images.batch(index, generator)[0].sum(0)
    model.start_canvas(total / len(images))
    return model


def _with_glimpses(config: NetworkConfig, count: int) -> NetworkConfig:
    """The configuration with another number of glimpses, if its network has glimpses."""
    return config if isinstance(config, ConvNetConfig) else replace(config, glimpses=count)


def _loggers(folder: RunFolder, recipe: Recipe, step: int) -> list[Logger]:
    loggers: list[Logger] = [MetricsCSV(folder.metrics, step)]
    if recipe.trainer.tensorboard:
        loggers.append(TensorBoard(folder.path, name="", version="tensorboard"))
    return loggers


def _keeper(
    folder: RunFolder,
    recipe: Recipe,
    images: Images,
    given: bool,
    start_sha256: str | None,
    taught: dict[str, str],
) -> Callable[[Training, Validation, float], None]:
    """The function that saves the averaged weights after a validation, and their provenance."""

    ran_on = software_and_machine()  # now, since the checkout may change during the training
    origin: dict[str, Any] = {}
    if recipe.start is not None:
        origin = {"start": recipe.start, "start_sha256": start_sha256}
    if taught:
        origin["teachers"] = taught
    if recipe.model.classes:
        origin["classes"] = list(images.classes)

    def keep(module: Training, result: Validation, seconds: float) -> None:
        # The weights record the number of glimpses that they were validated with.
        kept = type(module.average)(_with_glimpses(recipe.model, result.glimpses))
        kept.load_state_dict(module.average.state_dict())
        facts = {
            "data": images.description,
            "data_name": None if given else images.name,
            "data_options": {} if given else recipe.data.options,
            "seed": recipe.seed,
            **origin,
            "epochs": result.step / module.steps_per_epoch,
            "hours": round(seconds / 3600, 4),
            "processes": module.trainer.world_size,
            **result.facts(),
            **ran_on,
        }
        kept.save_pretrained(folder.weights, **facts)
        folder.write_provenance(facts)

    return keep
