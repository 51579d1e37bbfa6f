"""A recipe: everything that decides what a training does, in one frozen record.

A recipe names the model, the data, the optimiser and the machine. With the same recipe, machine,
versions and number of threads, a training gives the same weights to the last bit. Recipes are
written in YAML (those that come with the package are in ``drawnet/recipes``), read by the command
`drawnet train --recipe NAME`, and saved with every run, so that a run can be repeated from its
folder alone.

Every value is checked when its record is made: an impossible one raises a `ValueError` that names
the field, its range and the value it got, before anything is allocated.
"""

import glob
import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import yaml

from drawnet.config import (
    MOST_GLIMPSES,
    ClassifierConfig,
    ConvNetConfig,
    DRAWConfig,
    check_types,
)

RECIPES = Path(__file__).parent / "recipes"

NetworkConfig: TypeAlias = DRAWConfig | ClassifierConfig | ConvNetConfig
NETWORKS: Mapping[str, type[NetworkConfig]] = MappingProxyType(
    {"draw": DRAWConfig, "classifier": ClassifierConfig, "convnet": ConvNetConfig}
)
"""What a recipe can train, by the value of ``network`` in its YAML (default: ``draw``)."""


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from.

    Args:
        name: A data set that `drawnet.data.load` knows, such as ``folder`` for your own images.
        options: The options of that data set, for example ``{size: 32, channels: 1}`` for a folder
            of pictures.
    """

    name: str = "digits"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self, "data.")


@dataclass(frozen=True)
class OptimConfig:
    """How to learn: Adam, warmed up, then decayed along half a cosine, with averaged weights.

    Args:
        lr: The highest learning rate, in (0, 1].
        window_lr: The learning rate of the layers that place the windows (of all parameters with
            "window" in their names), as a fraction of `lr`, in (0, 1]. A classifier needs less than
            1: see `drawnet.classify`.
        warmup_steps: Steps over which the learning rate rises from 0, linearly.
        final_lr: The learning rate at the last step, as a fraction of `lr`, in [0, 1].
        betas: Adam's two decay rates, in [0, 1).
        weight_decay: Decoupled decay (AdamW) of the layers' weights, >= 0: each step shrinks
            them by this fraction times the learning rate. Biases and initial states do not decay.
            At 0 this is Adam.
        clip: Largest allowed norm of the whole gradient, > 0. Larger ones are scaled down to it.
        ema_decay: Decay per step of the exponential moving average of the weights, in [0, 1). The
            averaged weights are the ones that are validated, kept and evaluated.
        batch_size: Images per step, over all processes together.
        epochs: Passes over the training set. Images that do not fill a batch at the end of a pass
            are left out of it; which ones differs from pass to pass.
        glimpse_schedule: How many glimpses from which epoch on (counted from 0), such as
            ``{0: 16, 20: 64}``, ending with `model.glimpses`. Empty: `model.glimpses` throughout.
            No weight depends on the number of glimpses, so most of a training can run on a short
            chain, at a fraction of the cost. The optimiser's state is kept when the number changes.
        free_bits: Nats of each glimpse's latents, >= 0, that cost nothing in training: the
            glimpse's KL, averaged over the batch, is not pushed below that. For networks that draw.
        kl_warmup_epochs: Epochs, >= 0, over which the weight of the KL in training rises from 0 to
            1, linearly. For networks that draw.
        redraw: The share, in [0, 1], of each training batch that is replaced by images which the
            network, with its current weights, samples from its own reconstructions. See
            `drawnet.training.tasks.Drawing`. For networks that draw.
        distillation: The share of the teachers' answers in what is learned, in [0, 1]; the labels
            have the rest. Without `teachers` in the recipe this does nothing.
        hindsight: The weight, >= 0, of what the windows learn from another search of the images
            that were answered worst: see `drawnet.training.hindsight`. For networks that classify
            by glimpses.
    """

    lr: float = 1e-3
    window_lr: float = 1.0
    warmup_steps: int = 200
    final_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 10.0
    ema_decay: float = 0.999
    batch_size: int = 100
    epochs: int = 100
    glimpse_schedule: dict[int, int] = field(default_factory=dict)
    free_bits: float = 0.0
    kl_warmup_epochs: float = 0.0
    redraw: float = 0.0
    distillation: float = 0.5
    hindsight: float = 0.0

    def __post_init__(self) -> None:
        check_types(self, "optim.")
        _require(0 < self.lr <= 1, "optim.lr", "in (0, 1]", self.lr)
        _require(0 < self.window_lr <= 1, "optim.window_lr", "in (0, 1]", self.window_lr)
        _require(0 <= self.warmup_steps <= 10**9, "optim.warmup_steps", ">= 0", self.warmup_steps)
        _require(0 <= self.final_lr <= 1, "optim.final_lr", "in [0, 1]", self.final_lr)
        _require(all(0 <= b < 1 for b in self.betas), "optim.betas", "in [0, 1)", self.betas)
        finite_decay = 0 <= self.weight_decay < math.inf
        _require(finite_decay, "optim.weight_decay", ">= 0 and finite", self.weight_decay)
        _require(0 < self.clip < math.inf, "optim.clip", "> 0 and finite", self.clip)
        _require(0 <= self.ema_decay < 1, "optim.ema_decay", "in [0, 1)", self.ema_decay)
        _require(1 <= self.batch_size <= 10**6, "optim.batch_size", "1 to 10^6", self.batch_size)
        _require(1 <= self.epochs <= 10**6, "optim.epochs", "1 to 10^6", self.epochs)
        for epoch, glimpses in self.glimpse_schedule.items():
            _require(epoch >= 0, "optim.glimpse_schedule", "epochs >= 0", epoch)
            counts = f"1 to {MOST_GLIMPSES} glimpses"
            _require(1 <= glimpses <= MOST_GLIMPSES, "optim.glimpse_schedule", counts, glimpses)
        for name in ("free_bits", "kl_warmup_epochs", "hindsight"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, f"optim.{name}", ">= 0 and finite", value)
        for name in ("redraw", "distillation"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"optim.{name}", "in [0, 1]", value)


@dataclass(frozen=True)
class TrainerConfig:
    """What to run on, and how. The first four go to Lightning's Trainer.

    Args:
        accelerator: ``cpu``, ``cuda``, ..., or ``auto``: an NVIDIA GPU where there is one, and the
            CPU elsewhere.
        devices: Devices per machine: a number, or ``auto`` for all there are.
        num_nodes: Machines.
        strategy: How several devices share the work: ``auto``, ``ddp``, ...
        max_time: Stop after this time, as ``DD:HH:MM:SS`` (quoted in YAML). Every time that a
            training is resumed, it has this time again.
        validate_every: Epochs between two validations.
        checkpoint_minutes: Minutes between two checkpoints; every validation also saves one.
        threads: Threads per process for torch; by default torch decides.
        compile: Compile the step of the model: ``on``, ``off``, or ``auto``, where there is a
            compiler.
        products: Matrix products in ``fp32``, or rounded to ``bf16``, or ``auto``: rounded on a CPU
            that is faster with it.
        onednn: Let oneDNN, instead of MKL, compute the matrix products of a CPU, where that is
            exact.
        recompute: Compute the inner values of each glimpse again in the backward pass instead of
            keeping them, which takes less memory and more time.
        graphs: Run each step on an NVIDIA GPU as a CUDA graph, which is recorded at the first step
            and whenever the number of glimpses changes. Elsewhere this does nothing.
        tensorboard: Write a log for TensorBoard beside ``metrics.csv``.
    """

    accelerator: str = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = 1
    strategy: str = "auto"
    max_time: str | None = None
    validate_every: int = 1
    checkpoint_minutes: float = 5.0
    threads: int | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    products: Literal["auto", "fp32", "bf16"] = "fp32"
    onednn: bool = True
    recompute: bool = False
    graphs: bool = False
    tensorboard: bool = True

    def __post_init__(self) -> None:
        check_types(self, "trainer.")
        if isinstance(self.devices, int):
            _require(1 <= self.devices <= 1024, "trainer.devices", "1 to 1024", self.devices)
        _require(1 <= self.num_nodes <= 10**5, "trainer.num_nodes", ">= 1", self.num_nodes)
        _require(self.validate_every >= 1, "trainer.validate_every", ">= 1", self.validate_every)
        minutes = self.checkpoint_minutes
        _require(0 < minutes < math.inf, "trainer.checkpoint_minutes", "> 0 and finite", minutes)
        if self.max_time is not None:
            form = re.fullmatch(r"\d+:[0-2]\d:[0-5]\d:[0-5]\d", self.max_time)
            some = form is not None and form[0].strip("0:") != ""
            _require(some, "trainer.max_time", "DD:HH:MM:SS, > 0", self.max_time)
        if self.threads is not None:
            _require(1 <= self.threads <= 1024, "trainer.threads", "1 to 1024", self.threads)


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Args:
        model: The network. The type of its configuration says which one it is.
        data: The images.
        optim: The optimiser and its schedules.
        trainer: The machine.
        seed: Decides the initial weights, the order of the images and the noise, in [0, 2^32).
        start: Weights to begin with, instead of random ones: whatever `from_pretrained` takes. The
            sizes must be the same; only the number of glimpses may differ.
        teachers: Weights of classifiers of the same images. Their mean answer is learned along with
            the labels; this is called distillation (Hinton et al., 2015, arXiv 1503.02531). For
            classifiers.
    """

    model: NetworkConfig = field(default_factory=DRAWConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 0
    start: str | None = None
    teachers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_types(self)
        _require(0 <= self.seed < 2**32, "seed", "in [0, 2^32)", self.seed)
        if schedule := self.optim.glimpse_schedule:
            final, whole = schedule[max(schedule)], self._most_glimpses
            wanted = f"a schedule that ends with model.glimpses, which is {whole}"
            _require(final == whole, "optim.glimpse_schedule", wanted, schedule)
        if not isinstance(self.model, DRAWConfig):
            for name in ("free_bits", "kl_warmup_epochs", "redraw"):
                value = getattr(self.optim, name)
                _require(value == 0, f"optim.{name}", "0 for a network that does not draw", value)
        elif self.teachers:
            raise ValueError(f"teachers must be none for a network that draws, got {self.teachers}")
        if not isinstance(self.model, ClassifierConfig):
            wanted = "0 for a network that does not classify by glimpses"
            _require(self.optim.hindsight == 0, "optim.hindsight", wanted, self.optim.hindsight)

    @property
    def network(self) -> str:
        """What is trained, one of `NETWORKS`."""
        return next(name for name, kind in NETWORKS.items() if isinstance(self.model, kind))

    def glimpses(self, epoch: int) -> int:
        """The number of glimpses T in an epoch of the training, by `optim.glimpse_schedule`."""
        begun = [start for start in self.optim.glimpse_schedule if start <= epoch]
        return self.optim.glimpse_schedule[max(begun)] if begun else self._most_glimpses

    @property
    def _most_glimpses(self) -> int:
        """`model.glimpses`, or 1 for a network without glimpses."""
        return 1 if isinstance(self.model, ConvNetConfig) else self.model.glimpses


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def find(name: str) -> Path:
    """The file of a shipped recipe, or of your own.

    Args:
        name: A shipped name such as ``mnist``, or the path of a YAML file.

    Raises:
        ValueError: If there is neither.
    """
    if name in shipped():
        return shipped()[name]
    if Path(name).is_file():
        return Path(name)
    raise ValueError(f"recipe must be a YAML file or one of {', '.join(shipped())}, got {name!r}")


def read(name: str | Path) -> Recipe:
    """Read a shipped recipe, or one in a file, such as the ``recipe.yaml`` of a run.

    Args:
        name: A shipped name such as ``mnist``, or the path of a YAML file.

    Raises:
        ValueError: If there is neither, or it is not a recipe.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    file = find(str(name))
    parser = ArgumentParser(exit_on_error=False)
    add_fields(parser, file)
    try:
        return recipe_of(parser.parse_args([]))
    except ArgumentError as error:
        raise ValueError(f"{file}: {error}") from error


_PARTS = {"data": DataConfig, "optim": OptimConfig, "trainer": TrainerConfig}


def add_fields(parser: Any, file: Path) -> None:
    """Let a parser of jsonargparse take the fields of a recipe. Their defaults come from a file.

    Raises:
        ValueError: If the file is not YAML of a recipe's form, or names an unknown network.
    """
    network = network_in(file)  # which decides what options there are
    parser.add_argument("--network", choices=[network], default=network, help="as the recipe says")
    for part, kind in {"model": NETWORKS[network], **_PARTS}.items():
        parser.add_class_arguments(kind, part)
    parser.add_class_arguments(Recipe, skip={"model", *_PARTS})
    parser.default_config_files = [glob.escape(str(file.absolute()))]  # it takes patterns


def recipe_of(values: Any) -> Recipe:
    """The recipe in the values that such a parser has read."""
    return Recipe(
        NETWORKS[values.network](**vars(values.model)),
        DataConfig(**vars(values.data)),
        OptimConfig(**vars(values.optim)),
        TrainerConfig(**vars(values.trainer)),
        values.seed,
        values.start,
        values.teachers,
    )


class _Once(yaml.SafeLoader):
    """YAML in which nothing is said twice; of two pairs with one name the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def network_in(file: Path) -> str:
    """What the recipe in a YAML file trains, one of `NETWORKS`.

    Raises:
        ValueError: If the file is not YAML of a recipe's form, says something twice, or names an
            unknown network.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Once)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: not a recipe in YAML: {error}") from error
    content = {} if content is None else content
    parts = {"a recipe": content}
    if isinstance(content, dict):
        known = ["network", *(each.name for each in fields(Recipe))]
        for name in content:
            first = str(name).split(".")[0]
            if first not in known:
                raise ValueError(f"{file}: a recipe has {', '.join(known)}, got {name}")
            if first != name and first in content:
                raise ValueError(f"{file}: expected {first} or {name}, got both")
        names = ("model", *_PARTS)
        parts |= {name: content[name] for name in names if name in content}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise ValueError(f"{file}: {name} must be pairs, 'name: value', got {part!r:.50}")
    network = str(content.get("network", "draw"))
    if network not in NETWORKS:
        raise ValueError(f"{file}: network must be one of {', '.join(NETWORKS)}, got {network!r}")
    return network


def _require(holds: bool, name: str, wanted: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, got {got}")
