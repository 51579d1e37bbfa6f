"""Trainings of networks that draw: labels, likelihoods, and what their latents cost."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor
from trainings import (
    BATCH,
    COUNT,
    EPOCHS,
    IMAGES,
    RECIPE,
    STEPS_PER_EPOCH,
    VALID,
    Spy,
    checkpoints,
    final_state,
    halves,
    rows,
    run,
)

from drawnet import DRAW, objective
from drawnet.data import Images
from drawnet.evaluate import evaluate
from drawnet.likelihood import Bernoulli
from drawnet.recipe import Recipe
from drawnet.training import CheckpointError, Interrupted, Validation, train
from drawnet.training.loader import Stream, reseed
from drawnet.training.module import Training
from drawnet.training.run import _foresee
from drawnet.training.tasks import Given
from drawnet.training.trainer import trainer_of

BY_CLASS = replace(RECIPE, model=replace(RECIPE.model, classes=2))


def sides(split: str, count: int) -> Images:
    """Halves, with the label of the one that is white."""
    images = halves(split, count)
    y = (images.pixels[:, 0, 0, 0] > 0).long()
    return replace(images, labels=y, classes=("right", "left"))


LABELLED = sides("train", COUNT), sides("valid", VALID)


def learn(out: Path, recipe: Recipe = BY_CLASS, images: Any = LABELLED, **how: Any) -> Validation:
    return train(recipe, out, images=images, bar=False, **how)


def validated(model: DRAW, images: Images) -> float:
    """The true bound, with the noise of validation."""
    total, generator = 0.0, torch.Generator()
    for number, index in enumerate(torch.arange(VALID).split(BATCH)):
        reseed(generator, 0, Stream.VALIDATION, number)
        x, y = images.batch(index, generator)
        y = y if model.config.classes else None
        with torch.no_grad():
            total -= objective.elbo(x, model(x, y=y, generator=generator)).sum().item()
    return total / VALID


def test_it_learns_by_class(tmp_path: Path) -> None:
    optim = replace(BY_CLASS.optim, epochs=20)
    best = learn(tmp_path, replace(BY_CLASS, optim=optim))
    model = DRAW.from_pretrained(tmp_path)
    assert best.loss == pytest.approx(validated(model, LABELLED[1]), rel=1e-12)
    drawn = model.generate(2, y=torch.tensor([0, 1])).mean[:, 0]
    left, right = drawn[..., :4].mean((1, 2)), drawn[..., 4:].mean((1, 2))
    assert right[0] > 0.9 > 0.1 > left[0]
    assert left[1] > 0.9 > 0.1 > right[1]
    assert evaluate(model, LABELLED[1]).nats < 3, "the label says all there is to say"
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["classes"] == ["right", "left"]


@pytest.mark.parametrize("which", [0, 1])
def test_there_must_be_as_many_labels_as_the_network_is_told(which: int, tmp_path: Path) -> None:
    for spoilt, message in (
        (halves("train", COUNT), "is 2, but halves has no labels"),
        (replace(LABELLED[which], classes=("a", "b", "c")), "must be 3, as halves has, got 2"),
        (replace(LABELLED[which], labels=None), "is 2, but halves has no labels"),
    ):
        images = (*LABELLED[:which], spoilt, *LABELLED[which + 1 :])
        with pytest.raises(ValueError, match=f"model.classes {message}"):
            learn(tmp_path / "run", images=images)
    stray = replace(LABELLED[0], labels=None, classes=(), name="folder")
    with pytest.raises(
        ValueError, match="folder has no labels: not all pictures lie in sub-folders"
    ):
        learn(tmp_path / "run", images=(stray, LABELLED[1]))
    assert not (tmp_path / "run").exists()


def test_labels_that_a_network_is_not_told_change_nothing(tmp_path: Path) -> None:
    told = learn(tmp_path / "labelled", RECIPE)
    bare = [replace(images, labels=None, classes=()) for images in LABELLED]
    plain = learn(tmp_path / "plain", RECIPE, bare)
    assert told == plain


def test_intensities_are_learned_too(tmp_path: Path) -> None:
    recipe = replace(RECIPE, model=replace(RECIPE.model, likelihood="logistic", components=2))
    best = run(tmp_path, recipe=recipe)
    losses = [float(row["valid_loss"]) for row in rows(tmp_path) if row["valid_loss"]]
    assert losses == sorted(losses, reverse=True)
    assert best.loss == pytest.approx(validated(DRAW.from_pretrained(tmp_path), LABELLED[1]))


def test_a_longest_chain_that_is_not_reached_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for late in (EPOCHS - 1, EPOCHS):
        optim = replace(RECIPE.optim, glimpse_schedule={0: 2, late: 4})
        _foresee(replace(RECIPE, optim=optim), 30, 0)
        told = f"{EPOCHS} epochs end with T = 2: T = 4 is not reached" in caplog.text
        assert told == (late == EPOCHS)


def test_a_rate_that_never_falls_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for warmup in (STEPS_PER_EPOCH * EPOCHS - 1, STEPS_PER_EPOCH * EPOCHS):
        assert "the learning rate rises for all" not in caplog.text
        optim = replace(RECIPE.optim, warmup_steps=warmup)
        _foresee(replace(RECIPE, optim=optim), STEPS_PER_EPOCH * EPOCHS, 0)
    assert f"the learning rate rises for all {warmup} steps" in caplog.text


@pytest.mark.parametrize("options", [{"free_bits": 0.5}, {"kl_warmup_epochs": 2.5}])
def test_validation_and_log_have_the_true_bound(
    options: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[float]] = []
    step = Training.training_step

    def note(self: Training, batch: Any, number: int) -> Tensor:
        loss = step(self, batch, number)
        steps.append([loss.item(), *self._last.tolist()])
        return loss

    monkeypatch.setattr(Training, "training_step", note)
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, **options))
    best = learn(tmp_path / "a", recipe)
    minimised, logged, spent = torch.tensor(steps).unbind(1)
    if "free_bits" in options:
        assert (minimised > logged).any()
        assert (minimised <= logged + 4 * 0.5).all()
    else:
        weight = (torch.arange(len(steps)) / STEPS_PER_EPOCH / 2.5).clamp(max=1)
        torch.testing.assert_close(minimised, logged - (1 - weight) * spent)
        assert (weight < 1).sum() == 25
    assert best.loss == pytest.approx(validated(DRAW.from_pretrained(tmp_path / "a"), LABELLED[1]))
    assert best.loss != learn(tmp_path / "b", RECIPE).loss


def test_free_bits_keep_latents_in_use(tmp_path: Path) -> None:
    """Which half is white is one bit; a chain that has more to spend for nothing spends more."""
    kept = []
    for free in (0.0, 1.0):
        optim = replace(RECIPE.optim, epochs=12, free_bits=free)
        kept.append(learn(tmp_path / str(free), replace(RECIPE, optim=optim)).kl)
    assert kept[1] > 1.2 * kept[0]


def test_the_weight_of_the_kl_rises_from_nothing() -> None:
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, kl_warmup_epochs=2.0))
    task = Training(recipe, DRAW(RECIPE.model), STEPS_PER_EPOCH).task
    model, batch = DRAW(RECIPE.model), LABELLED[0].batch(torch.arange(BATCH))
    noise = torch.randn(4, BATCH, RECIPE.model.z_size)
    for epochs, weight in ((0.0, 0.0), (0.5, 0.25), (2.0, 1.0), (9.0, 1.0)):
        loss, means = task.minimised(model, Given(*batch, noise, 4, epochs))
        nll = means[0] - means[1]
        torch.testing.assert_close(loss, nll + weight * means[1])


@pytest.mark.parametrize("recipe", [RECIPE, BY_CLASS])
@pytest.mark.parametrize("count", [0, 2, BATCH])
def test_what_is_drawn_again_is_learned_like_any_image(recipe: Recipe, count: int) -> None:
    model, (x, y) = DRAW(recipe.model), LABELLED[0].batch(torch.arange(BATCH))
    noise, told = torch.randn(4, BATCH, 5), y if recipe.model.classes else None
    given = Given(x, y, noise, 4, 0.0, count, torch.Generator().manual_seed(3))
    loss, means = Training(recipe, model, STEPS_PER_EPOCH).task.minimised(model, given)
    found = torch.autograd.grad(loss, list(model.parameters()))

    if count:
        generator = torch.Generator().manual_seed(3)
        first = None if told is None else told[:count]
        again = torch.randn(4, count, 5, generator=generator)
        mean = model(x[:count], y=first, noise=again).mean.detach()
        x = torch.cat([torch.bernoulli(mean, generator=generator), x[count:]])
        assert not torch.equal(x, given.x)
    expected = -objective.elbo(x, model(x, y=told, noise=noise)).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(means[0], expected.detach())
    torch.testing.assert_close(found, torch.autograd.grad(expected, list(model.parameters())))


class Bright(Bernoulli):
    """A likelihood of one's own, whose samples leave the range and carry gradients."""

    def sample(self, canvas: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return 1.5 * self.mean(canvas)


class Mine(DRAW):
    pass


class MineBright(DRAW):
    likelihood = Bright()


def test_what_is_drawn_again_is_an_image_and_no_part_of_the_gradient() -> None:
    model, x = MineBright(RECIPE.model), LABELLED[0].batch(torch.arange(BATCH))[0]
    noise, generator = torch.randn(4, BATCH, 5), torch.Generator().manual_seed(3)
    task = Training(RECIPE, model, STEPS_PER_EPOCH).task
    given = Given(x, None, noise, 4, 0.0, BATCH, generator)
    found = torch.autograd.grad(task.minimised(model, given)[0], list(model.parameters()))
    again = torch.randn(4, BATCH, 5, generator=generator.manual_seed(3))
    x = (1.5 * model(x, noise=again).mean).clamp(0, 1).detach()
    loss = -objective.elbo(x, model(x, noise=noise)).mean()
    torch.testing.assert_close(found, torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("processes", [1, 2, 6])
def test_the_processes_draw_the_share_of_the_whole_batch_again(
    share: float, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, redraw=share))
    seen: list[Given] = []
    drawn: list[Tensor] = []
    for step, rank in itertools.product(range(2), range(processes)):
        module = Training(recipe, DRAW(RECIPE.model), STEPS_PER_EPOCH)
        monkeypatch.setattr(Training, "global_rank", rank)
        monkeypatch.setattr(Training, "global_step", step)

        def note(_: DRAW, given: Given, *__: Any) -> tuple[Tensor, Tensor]:
            seen.append(given)
            drawn.append(torch.rand((), generator=given.generator))
            return torch.zeros(()), torch.zeros(2)

        monkeypatch.setattr(module.task, "minimised", note)
        module.training_step((torch.zeros(BATCH // processes, 1, 9, 8), None), 0)
    assert sum(given.redrawn for given in seen) == 2 * round(share * BATCH)
    assert len({each.item() for each in drawn}) == 2 * processes, "noise of its own at each step"


def test_what_cannot_be_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    train_images, valid = IMAGES
    grey = replace(train_images, pixels=train_images.pixels // 2)
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, redraw=0.5, epochs=1))
    with pytest.raises(ValueError, match=r"optim\.redraw must be 0 .* likelihood bernoulli cannot"):
        train(recipe, tmp_path / "a", images=(grey, valid), bar=False)
    with pytest.raises(ValueError, match=r"optim\.redraw must be 0"):
        train(recipe, tmp_path / "a", images=(grey, valid), bar=False, network=Mine)
    logistic = replace(recipe, model=replace(recipe.model, likelihood="logistic"))
    train(logistic, tmp_path / "b", images=(grey, valid), bar=False)


def test_drawn_again_alike_after_a_resume(tmp_path: Path) -> None:
    recipe = replace(RECIPE, optim=replace(RECIPE.optim, redraw=1.0))
    spoilt = range(4, 6)
    run(tmp_path / "whole", Spy(nan=spoilt), recipe)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", Spy(nan=spoilt, kill=12), recipe)
    run(tmp_path / "parts", recipe=recipe, resume=True)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    run(tmp_path / "without", Spy(nan=spoilt))
    assert rows(tmp_path / "without") != rows(tmp_path / "whole")
    steps = final_state(tmp_path / "whole")["drawnet"]["tally"][..., -1]
    assert steps == EPOCHS * STEPS_PER_EPOCH - len(spoilt)


def test_a_checkpoint_from_before_a_choice_was_there_goes_on(tmp_path: Path) -> None:
    from drawnet.training import checkpoint

    learn(tmp_path, RECIPE)
    path = checkpoints(tmp_path)[-1]
    saved = checkpoint.load(path)
    for later in ("likelihood", "components", "classes"):
        del saved["drawnet"]["recipe"]["model"][later]
    old = tmp_path / "old.ckpt"
    checkpoint.AtomicCheckpointIO().save_checkpoint(saved, old)
    longer = replace(RECIPE, optim=replace(RECIPE.optim, epochs=4))
    assert learn(tmp_path, longer, resume=old).step == 4 * STEPS_PER_EPOCH
    with pytest.raises(CheckpointError, match=r"these differ: model\.likelihood"):
        learn(
            tmp_path,
            replace(longer, model=replace(RECIPE.model, likelihood="logistic")),
            resume=old,
        )


def test_loggers_and_callbacks_of_ones_own(tmp_path: Path) -> None:
    class Kept(Logger):
        name, version = "kept", None

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[tuple[int | None, dict[str, float]]] = []

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self.rows.append((step, metrics))

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            """None."""

    class Seen(Callback):
        steps = 0

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            assert isinstance(module.average, DRAW)
            self.steps += 1

    kept, seen = Kept(), Seen()
    best = learn(tmp_path, loggers=[kept], callbacks=[seen])
    assert seen.steps == best.step == RECIPE.optim.epochs * STEPS_PER_EPOCH
    assert [step for step, _ in kept.rows] == [int(row["step"]) for row in rows(tmp_path)]
    assert kept.rows[-1][1]["valid_loss"] == best.loss


def test_the_number_of_threads_is_that_of_the_recipe(tmp_path: Path) -> None:
    class Lightning(Callback):  # sets its own number where it starts processes
        def setup(self, *_: Any, **__: Any) -> None:
            torch.set_num_threads(2)

        def on_train_start(self, *_: Any) -> None:
            self.seen = torch.get_num_threads()

    lightning = Lightning()
    before = torch.get_num_threads()
    run(tmp_path, callbacks=[lightning])
    assert lightning.seen == RECIPE.trainer.threads == 1
    assert torch.get_num_threads() == before


def test_processes_that_nothing_comes_back_from_are_refused(tmp_path: Path) -> None:
    forked = replace(RECIPE.trainer, devices=2, strategy="ddp_fork")
    with pytest.raises(ValueError, match="several devices need a script, not a notebook"):
        run(tmp_path, recipe=replace(RECIPE, trainer=forked))
    assert not any(tmp_path.iterdir())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What Lightning's Trainer would be asked for on a device."""

    def of(device: str) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def trainer(**settings: Any) -> SimpleNamespace:
            seen.update(settings)
            root = torch.device(device)
            return SimpleNamespace(strategy=SimpleNamespace(root_device=root, launcher=None))

        monkeypatch.setattr("drawnet.training.trainer.Trainer", trainer)
        recipe = replace(RECIPE, trainer=replace(RECIPE.trainer, accelerator="auto"))
        trainer_of(recipe, 1, None, None, False, [])  # type: ignore[arg-type]
        return seen

    return of


@pytest.mark.parametrize(
    ("slurm", "torchrun", "by_slurm"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
def test_in_a_job_of_slurm_torchrun_says_who_is_who(
    asked: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    slurm: bool,
    torchrun: bool,
    by_slurm: bool,
) -> None:
    monkeypatch.setattr(SLURMEnvironment, "detect", lambda: slurm)
    monkeypatch.setattr(TorchElasticEnvironment, "detect", lambda: torchrun)
    plugins = asked("cpu")["plugins"]
    assert any(isinstance(plugin, SLURMEnvironment) for plugin in plugins) == by_slurm


@pytest.mark.parametrize(("has_cuda", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_the_device_that_is_chosen(
    asked: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    has_cuda: bool,
    chosen: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert asked("cpu")["accelerator"] == chosen


def test_a_device_without_double_precision_is_refused(
    asked: Callable[[str], dict[str, Any]],
) -> None:
    with pytest.raises(ValueError, match=r"trainer\.accelerator must not be mps"):
        asked("mps")
