"""Trainings of classifiers: what differs from those of networks that draw."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from trainings import (
    COUNT,
    EPOCHS,
    IMAGES,
    RECIPE,
    STEPS_PER_EPOCH,
    VALID,
    assert_same,
    final_state,
    rows,
)

from drawnet import DRAW
from drawnet.baselines import ConvNet
from drawnet.classify import GlimpseClassifier
from drawnet.config import ClassifierConfig, ConvNetConfig
from drawnet.data import Images
from drawnet.evaluate import evaluate_classifier
from drawnet.recipe import OptimConfig, Recipe
from drawnet.training import Interrupted, Validation, train
from drawnet.training.checkpoint import CheckpointError
from drawnet.training.hindsight import hindsight
from drawnet.training.module import Training
from drawnet.training.run import _foresee
from drawnet.training.tasks import Classifying, Given

GLIMPSES = ClassifierConfig(
    image_shape=(1, 12, 11), glimpses=3, hidden_size=13, read_size=4, classes=2
)
CONVOLUTIONS = ConvNetConfig(image_shape=(1, 12, 11), classes=2)


def labelled(split: str, count: int, classes: tuple[str, ...] = ("left", "right")) -> Images:
    """Which half of each image is white, and noise."""
    generator = torch.Generator().manual_seed(count)
    y = torch.randint(2, (count,), generator=generator)
    pixels = torch.randint(100, (count, 1, 12, 11), generator=generator, dtype=torch.uint8)
    pixels[y == 0, ..., :5] += 150
    pixels[y == 1, ..., 6:] += 150
    return Images(pixels, y, "halves", split, "halves, for tests", classes)


LEARN, CHECK = labelled("train", COUNT), labelled("valid", VALID)


def recipe(model: ClassifierConfig | ConvNetConfig, **changes: object) -> Recipe:
    optim = replace(RECIPE.optim, **{"window_lr": 0.1, **changes})  # type: ignore[arg-type]
    return replace(RECIPE, model=model, optim=optim)


def run(out: Path, recipe: Recipe, images: Images = LEARN, **options: bool) -> Validation:
    return train(recipe, out, images=(images, CHECK), bar=False, **options)


@pytest.mark.parametrize(
    ("model", "network"), [(GLIMPSES, GlimpseClassifier), (CONVOLUTIONS, ConvNet)]
)
def test_the_weights_that_are_kept_make_the_errors_that_are_told(
    tmp_path: Path,
    model: ClassifierConfig | ConvNetConfig,
    network: type[GlimpseClassifier] | type[ConvNet],
) -> None:
    best = run(tmp_path, recipe(model, epochs=8))
    assert best.error is not None
    assert best.error < 0.2
    kept = network.from_pretrained(tmp_path / "weights").double()
    assert evaluate_classifier(kept, CHECK).error == best.error
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["validation_error"] == best.error
    assert provenance["validation_nats"] == best.loss
    assert provenance["classes"] == ["left", "right"]
    valid = [row for row in rows(tmp_path) if row["valid_loss"]]
    assert min((float(row["valid_error"]), float(row["valid_loss"])) for row in valid) == (
        best.error,
        best.loss,
    )
    assert {row["valid_kl"] for row in valid} == {""}


def test_a_training_goes_on_exactly(tmp_path: Path) -> None:
    class Stopping:
        calls = 0

        def __call__(self, pixels: Tensor, *args: object) -> tuple[Tensor, Tensor | None]:
            Stopping.calls += 1
            if Stopping.calls == 14:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)
            return LEARN.view(pixels, *args)  # type: ignore[arg-type]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, recipe(GLIMPSES))
    with pytest.raises(Interrupted):
        run(broken, recipe(GLIMPSES), replace(LEARN, view=Stopping()))
    run(broken, recipe(GLIMPSES), resume=True)
    assert_same(final_state(whole), final_state(broken))


def test_a_lower_loss_beats_fewer_errors() -> None:
    few, many = Validation(2.0, 8, 1, error=0.01), Validation(1.0, 8, 1, error=0.02)
    assert many.beats(few)
    assert not few.beats(many)
    assert not few.beats(few)
    assert few._replace(glimpses=9).beats(many)
    assert not many._replace(loss=float("nan")).beats(few)


def test_errors_are_told_in_percent() -> None:
    assert str(Validation(0.5, 8, 1, error=0.125)) == "12.50 % wrong (0.5000 nats)"
    assert str(Validation(1.5, 8, 1, kl=0.25)) == "1.500 nats (KL 0.250)"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (replace(LEARN, labels=None, classes=()), "model.classes is 2, but halves has no labels"),
        (labelled("train", COUNT, tuple("abc")), "model.classes must be 3, as halves has, got 2"),
    ],
)
def test_images_without_these_classes_are_refused(
    tmp_path: Path, images: Images, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", recipe(GLIMPSES), images)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("network", [GlimpseClassifier(GLIMPSES), DRAW(RECIPE.model)])
def test_windows_learn_at_their_own_rate(network: GlimpseClassifier | DRAW) -> None:
    optim = OptimConfig(lr=0.02, window_lr=0.25)
    module = Training(Recipe(model=network.config, optim=optim), network, 10)
    adam = module.configure_optimizers()["optimizer"]  # type: ignore[index,call-overload]
    rates = {id(p): group["initial_lr"] for group in adam.param_groups for p in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == (0.005 if "window" in name else 0.02)


@pytest.mark.parametrize("network", [GlimpseClassifier(GLIMPSES), DRAW(RECIPE.model)])
def test_biases_and_initial_states_do_not_decay(network: GlimpseClassifier | DRAW) -> None:
    optim = OptimConfig(lr=0.02, window_lr=0.25, weight_decay=0.5, warmup_steps=0)
    module = Training(Recipe(model=network.config, optim=optim), network, 10)
    adam = module.configure_optimizers()["optimizer"]  # type: ignore[index,call-overload]
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    adam.step()
    for name, weight in network.named_parameters():
        lr = 0.005 if "window" in name else 0.02
        left = 1 - 0.5 * lr if name.endswith(".weight") else 1
        torch.testing.assert_close(weight, left * before[name])


class Counting(GlimpseClassifier):
    """It counts how often it was trained with."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def logits(self, x: Tensor, *, glimpses: int | None = None) -> Tensor:
        if self.training:
            self.calls += 1
        return super().logits(x, glimpses=glimpses)


def test_what_a_network_gathers_in_training_is_kept_and_validation_is_no_training(
    tmp_path: Path,
) -> None:
    best = train(recipe(GLIMPSES), tmp_path, images=(LEARN, CHECK), network=Counting, bar=False)
    assert best.step > 0
    assert Counting.from_pretrained(tmp_path / "weights").calls == best.step


def test_begin_with_weights(tmp_path: Path) -> None:
    """At a rate of almost nothing, they stay what they were."""
    run(tmp_path / "first", recipe(GLIMPSES))
    begun = tmp_path / "first" / "weights"
    still = recipe(replace(GLIMPSES, glimpses=2), lr=1e-30, epochs=1)
    run(tmp_path / "second", replace(still, start=str(begun)))
    before = GlimpseClassifier.from_pretrained(begun)
    after = GlimpseClassifier.from_pretrained(tmp_path / "second")
    assert after.config.glimpses == 2
    for name, weight in after.state_dict().items():
        assert torch.equal(weight, before.state_dict()[name])
    provenance = json.loads((tmp_path / "second" / "provenance.json").read_text())
    described = json.loads((begun / "config.json").read_text())
    assert provenance["start_sha256"] == described["sha256"]


def test_weights_of_other_sizes_are_no_beginning(tmp_path: Path) -> None:
    GlimpseClassifier(GLIMPSES).save_pretrained(tmp_path / "weights")
    wider = replace(recipe(replace(GLIMPSES, hidden_size=14)), start=str(tmp_path / "weights"))
    with pytest.raises(ValueError, match=r"model must be as in .*hidden_size=13"):
        run(tmp_path / "run", wider)
    drawing = replace(RECIPE, start=str(tmp_path / "weights"))
    with pytest.raises(ValueError, match="expected weights of a DRAW, got GlimpseClassifier"):
        train(drawing, tmp_path / "run", images=IMAGES, bar=False)


def test_epochs_end_where_the_recipe_says(tmp_path: Path) -> None:
    run(tmp_path, recipe(GLIMPSES))
    assert rows(tmp_path)[-1]["epoch"] == str(EPOCHS - 1)


def stored(folder: Path, network: GlimpseClassifier | ConvNet) -> str:
    network.save_pretrained(folder)
    return str(folder)


def sure_of_left(config: ClassifierConfig) -> GlimpseClassifier:
    """To it everything is of the first class."""
    network = GlimpseClassifier(config)
    with torch.no_grad():
        network.answer.bias[0] = 30
    return network


def test_a_share_of_what_is_learned_is_the_mean_answer_of_the_teachers() -> None:
    model, teachers = GlimpseClassifier(GLIMPSES), [sure_of_left(GLIMPSES), ConvNet(CONVOLUTIONS)]
    index = torch.arange(9)
    x, y = LEARN.batch(index, torch.Generator())
    assert y is not None
    log_p = model.logits(x)[-1].log_softmax(-1)
    q = (teachers[0].logits(x)[-1].softmax(-1) + teachers[1].logits(x)[-1].softmax(-1)) / 2
    labels, answers = -log_p[index, y].mean(), -(q * log_p).sum(1).mean()
    for share in (0.0, 0.25, 1.0):
        task = Classifying(2, teachers=teachers, distillation=share)
        given = Given(x, y, None, 3)
        loss, means = task.minimised(model, given)
        torch.testing.assert_close(loss, (1 - share) * labels + share * answers)
        torch.testing.assert_close(means, task.losses(model, given).mean(1).detach())


def test_who_answers_as_the_teacher_has_nothing_to_learn_from_it() -> None:
    model = GlimpseClassifier(GLIMPSES)
    teacher = copy.deepcopy(model).requires_grad_(False)
    task = Classifying(2, teachers=[teacher], distillation=1.0)
    x, y = LEARN.batch(torch.arange(9), torch.Generator())
    task.minimised(model, Given(x, y, None, 3))[0].backward()
    for weight in model.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max() < 1e-6


def test_train_by_hindsight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = Mock(wraps=hindsight)
    monkeypatch.setattr("drawnet.training.tasks.hindsight", searched)
    assert run(tmp_path / "without", recipe(GLIMPSES, epochs=1)).error is not None
    searched.assert_not_called()
    assert run(tmp_path / "with", recipe(GLIMPSES, epochs=8, hindsight=1.0)).error < 0.2
    assert searched.call_count == 8 * STEPS_PER_EPOCH


@pytest.mark.parametrize(("window_lr", "warned"), [(1.0, True), (0.1, False)])
def test_a_rate_at_which_windows_get_lost_is_told(
    caplog: pytest.LogCaptureFixture, window_lr: float, warned: bool
) -> None:
    _foresee(recipe(GLIMPSES, epochs=1, window_lr=window_lr), 500, 0)
    assert ("learn best at a tenth of the rate" in caplog.text) == warned


def test_train_by_teachers(tmp_path: Path) -> None:
    """Who learns from one that says "left" to all says so too, unless it learns from labels."""
    teacher = stored(tmp_path / "teacher", sure_of_left(replace(GLIMPSES, glimpses=1)))
    taught = replace(recipe(GLIMPSES, epochs=8, distillation=1.0), teachers=[teacher])
    learned = replace(taught, optim=replace(taught.optim, distillation=0.0))
    assert run(tmp_path / "learned", learned).error < 0.2
    assert CHECK.labels is not None
    assert run(tmp_path / "taught", taught).error == CHECK.labels.double().mean()
    provenance = json.loads((tmp_path / "taught" / "provenance.json").read_text())
    described = json.loads((tmp_path / "teacher" / "config.json").read_text())
    assert provenance["teachers"] == {teacher: described["sha256"]}
    with pytest.raises(CheckpointError, match="these differ: teachers"):
        run(tmp_path / "taught", replace(taught, teachers=[]), resume=True)
    stored(tmp_path / "teacher", GlimpseClassifier(GLIMPSES))
    with pytest.raises(CheckpointError, match=r"was taught by other weights .*teacher"):
        run(tmp_path / "taught", taught, resume=True)


def test_teachers_of_other_images_or_classes_are_refused(tmp_path: Path) -> None:
    wide = stored(tmp_path / "wide", ConvNet(replace(CONVOLUTIONS, image_shape=(1, 12, 13))))
    many = stored(tmp_path / "many", GlimpseClassifier(replace(GLIMPSES, classes=3)))
    DRAW(RECIPE.model).save_pretrained(tmp_path / "draws")
    for teacher, message in (
        (wide, r"model.image_shape must be \(1, 12, 13\), as teacher .*wide has, got"),
        (many, "model.classes must be 3, as teacher .*many has, got 2"),
        (str(tmp_path / "draws"), "expected weights of a GlimpseClassifier, got DRAW"),
    ):
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", replace(recipe(GLIMPSES), teachers=[teacher]))
        assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="teachers must be none for a network that draws"):
        replace(RECIPE, teachers=[wide])
