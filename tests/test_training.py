"""A training: what it sees, what it leaves behind, and that it replays."""

import csv
import hashlib
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback
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
    assert_same,
    checkpoints,
    final_state,
    rows,
    run,
)

from drawnet import DRAW, fast, objective
from drawnet.data import Images
from drawnet.data.images import Batch
from drawnet.data.views import fresh
from drawnet.training import Interrupted, checkpoint, train
from drawnet.training.loader import Batches, Stream, reseed
from drawnet.training.module import Training
from drawnet.training.run import _network


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float64)
    out = tmp_path_factory.mktemp("unbroken")
    run(out)
    return out


def batches(**changes: int) -> Batches:
    settings = {"batch_size": BATCH, "epochs": EPOCHS, "seed": 3, **changes}
    return Batches(IMAGES[0], **settings)


def images_of(loader: Batches) -> list[Tensor]:
    return [x for x, _ in loader]


def test_each_image_is_seen_once_an_epoch_in_an_order_of_its_own() -> None:
    spy = Spy()
    loader = Batches(replace(IMAGES[0], view=spy), BATCH, EPOCHS, seed=3)
    assert len(list(loader)) == len(loader) == EPOCHS * STEPS_PER_EPOCH
    epochs = torch.cat(spy.seen).view(EPOCHS, STEPS_PER_EPOCH * BATCH)
    for order in epochs:
        assert len(order.unique()) == COUNT - COUNT % BATCH
    assert not torch.equal(epochs[0], epochs[1])
    other = Spy()
    list(Batches(replace(IMAGES[0], view=other), BATCH, EPOCHS, seed=4))
    assert not torch.equal(torch.cat(other.seen), torch.cat(spy.seen))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch(world_size: int) -> None:
    shares = [images_of(batches(rank=r, world_size=world_size)) for r in range(world_size)]
    for whole, *parts in zip(images_of(batches()), *shares, strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_what_is_random_about_images_is_so_at_every_step_in_every_process() -> None:
    def chances(pixels: Tensor, labels: Tensor | None, index: Tensor, generator: Any) -> Batch:
        return fresh(index, 1, generator), None

    images = replace(IMAGES[0], view=chances)
    loaders = [
        Batches(images, BATCH, EPOCHS, seed, rank, world_size=2)
        for seed, rank in ((3, 0), (3, 1), (4, 0))
    ]
    numbers = torch.cat([x for loader in loaders for x in images_of(loader)])
    assert len(numbers.unique()) == len(numbers) == 3 * EPOCHS * STEPS_PER_EPOCH * BATCH // 2


def test_the_noise_of_every_step_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    noise = Training._noise

    def note(self: Training, *sizes: int) -> Tensor | None:
        drawn = noise(self, *sizes)
        assert drawn is not None
        seen.append(drawn)
        return drawn

    monkeypatch.setattr(Training, "_noise", note)
    run(tmp_path)
    assert len(seen) == EPOCHS * STEPS_PER_EPOCH
    for step, drawn in enumerate(seen):
        generator = reseed(torch.Generator(), RECIPE.seed, Stream.LATENTS, step)
        assert torch.equal(drawn, torch.randn(drawn.shape, generator=generator))


def test_a_loader_goes_on_in_the_middle_of_an_epoch() -> None:
    whole = images_of(batches())
    loader = batches()
    loader.load_state_dict({"position": 13, "world_size": 1})
    assert len(loader) == len(whole)
    assert torch.equal(torch.stack(images_of(loader)), torch.stack(whole[13:]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": COUNT + 1}, f"at most the {COUNT} training images, got {COUNT + 1}"),
        ({"world_size": 4}, f"multiple of the 4 processes, got {BATCH}"),
    ],
)
def test_batches_that_cannot_be(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(**changes)


def test_streams_differ_by_seed_purpose_and_place() -> None:
    places = [(0, Stream.ORDER, 1), (1, Stream.ORDER, 1), (0, Stream.LATENTS, 1)]
    generator = torch.Generator()
    numbers = [torch.rand((), generator=reseed(generator, *place)).item() for place in places]
    numbers += [torch.rand((), generator=reseed(generator, 0, Stream.ORDER, 1, 0)).item()]
    assert len(set(numbers)) == len(numbers)
    again = torch.rand((), generator=reseed(generator, *places[0])).item()
    assert again == numbers[0]


def test_what_a_run_leaves_behind(unbroken: Path) -> None:
    steps = EPOCHS * STEPS_PER_EPOCH
    assert {path.name for path in unbroken.iterdir()} == {
        ".lock",
        "checkpoints",
        "metrics.csv",
        "provenance.json",
        "recipe.yaml",
        "starts.jsonl",
        "weights",
    }
    kept = [f"step-{step:09d}.ckpt" for step in (steps - STEPS_PER_EPOCH, steps)]
    assert [path.name for path in checkpoints(unbroken)] == kept
    for path in checkpoints(unbroken):
        digest, name = path.with_name(f"{path.name}.sha256").read_text().split()
        assert (digest, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
    valid = [row for row in rows(unbroken) if row["valid_loss"]]
    assert [int(row["step"]) for row in valid] == [10, 20, 30]
    provenance = json.loads((unbroken / "provenance.json").read_text())
    assert provenance["data"] == "halves, for tests"
    assert provenance["seed"] == 7
    assert provenance["data_name"] is None, "though there might be a set of that name"
    assert (provenance["data_options"], provenance["processes"]) == ({}, 1)
    best = min(valid, key=lambda row: float(row["valid_loss"]))
    assert provenance["steps"] == int(best["step"])
    assert provenance["validation_nats"] == float(best["valid_loss"])


def test_the_kept_weights_are_the_averaged_ones_and_give_the_logged_bound(unbroken: Path) -> None:
    model = DRAW.from_pretrained(unbroken)
    last = final_state(unbroken)["state_dict"]
    provenance = json.loads((unbroken / "provenance.json").read_text())
    assert provenance["steps"] == EPOCHS * STEPS_PER_EPOCH, "the last must be the best here"
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, last[f"average.{name}"])
        assert not torch.equal(weight, last[f"model.{name}"])
    total, generator = 0.0, torch.Generator()
    for number, index in enumerate(torch.arange(VALID).split(BATCH)):
        reseed(generator, 0, Stream.VALIDATION, number)
        x, _ = IMAGES[1].batch(index, generator)
        with torch.no_grad():
            total -= objective.elbo(x, model(x, generator=generator)).sum().item()
    assert provenance["validation_nats"] == pytest.approx(total / VALID, rel=1e-12)


def test_the_same_seed_gives_the_same_files(unbroken: Path, tmp_path: Path) -> None:
    run(tmp_path)
    assert_same(final_state(tmp_path), final_state(unbroken))
    weights = "weights/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (unbroken / weights).read_bytes()
    other = tmp_path / "other"
    run(other, recipe=replace(RECIPE, seed=8))
    assert (other / weights).read_bytes() != (unbroken / weights).read_bytes()


def test_the_average_follows_the_weights_step_by_step(tmp_path: Path) -> None:
    class Weights(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            self.steps: list[dict[str, Tensor]] = []
            self.note(module)

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            self.note(module)

        def note(self, module: Any) -> None:
            state = module.model.state_dict()
            self.steps.append({name: weight.clone() for name, weight in state.items()})

    noted = Weights()
    optim = replace(RECIPE.optim, ema_decay=0.6)  # which comes to rule after 15 steps
    run(tmp_path, recipe=replace(RECIPE, optim=optim), callbacks=[noted])
    average, *later = noted.steps
    for before, weights in enumerate(later):
        decay = min(0.6, before / (before + 10))
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in weights}
    state = final_state(tmp_path)["state_dict"]
    for name, weight in average.items():
        torch.testing.assert_close(state[f"average.{name}"], weight)


def test_long_gradients_are_clipped_and_all_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Norms(Callback):
        def __init__(self) -> None:
            self.whole: list[float] = []
            self.clipped: list[float] = []

        def on_before_optimizer_step(self, trainer: Any, module: Any, *_: Any) -> None:
            self.whole.append(self.norm(module))

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            self.clipped.append(self.norm(module))

        def norm(self, module: Any) -> float:
            gradients = [weight.grad.flatten() for weight in module.model.parameters()]
            return torch.cat(gradients).norm().item()

    monkeypatch.setattr("drawnet.training.log.EVERY", STEPS_PER_EPOCH)
    norms, clip = Norms(), 15.0
    optim = replace(RECIPE.optim, clip=clip)
    run(tmp_path, recipe=replace(RECIPE, optim=optim), callbacks=[norms])
    assert min(norms.whole) < clip < max(norms.whole)
    assert norms.clipped == pytest.approx([min(norm, clip) for norm in norms.whole], rel=1e-5)
    logged = [row for row in rows(tmp_path) if row["loss"]]
    means = torch.tensor(norms.whole).view(EPOCHS, STEPS_PER_EPOCH).mean(1).tolist()
    assert [float(row["grad_norm"]) for row in logged] == pytest.approx(means)
    assert float(logged[-1]["lr"]) == pytest.approx(optim.lr * optim.final_lr)


def test_images_a_second_are_those_of_the_steps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_seconds = itertools.count()
    clock = Mock(perf_counter=lambda: next(half_seconds) / 2)
    monkeypatch.setattr("drawnet.training.log.time", clock)
    monkeypatch.setattr("drawnet.training.log.EVERY", STEPS_PER_EPOCH)
    with pytest.raises(Interrupted):
        run(tmp_path, Spy(kill=13))
    run(tmp_path, resume=True)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        speeds = [row["images_per_second"] for row in csv.DictReader(file) if row["loss"]]
    assert [float(speed) for speed in speeds] == [2 * BATCH] * EPOCHS


def test_validations_come_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    run(tmp_path, recipe=replace(RECIPE, trainer=replace(RECIPE.trainer, validate_every=2)))
    assert [row["step"] for row in rows(tmp_path) if row["valid_loss"]] == ["20", "30"]


def test_checkpoints_come_every_so_many_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy, path_of = Spy(), Mock(wraps=checkpoint.path_of)
    clock = Mock(monotonic=lambda: 25.0 * len(spy.seen))
    monkeypatch.setattr("drawnet.training.watch.time", clock)
    monkeypatch.setattr(checkpoint, "path_of", path_of)
    trainer = replace(RECIPE.trainer, checkpoint_minutes=1.0, validate_every=99)
    run(tmp_path, spy, recipe=replace(RECIPE, trainer=trainer))
    steps = [call.args[1] for call in path_of.call_args_list]
    assert steps == list(range(3, 31, 3)), "the first after 75 seconds"


def test_the_hours_of_a_resumed_training_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Spy(kill=11), Spy()
    clock = Mock(monotonic=lambda: 600.0 * (len(first.seen) + len(second.seen)))
    monkeypatch.setattr("drawnet.training.watch.time", clock)
    with pytest.raises(Interrupted):
        run(tmp_path, first)
    run(tmp_path, second, resume=True)
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert (provenance["hours"], provenance["epochs"]) == (5.0, EPOCHS)


def test_a_log_for_tensorboard(tmp_path: Path) -> None:
    run(tmp_path, recipe=replace(RECIPE, trainer=replace(RECIPE.trainer, tensorboard=True)))
    assert list(tmp_path.glob("tensorboard/events.*"))


def test_it_learns(unbroken: Path) -> None:
    losses = [float(row["valid_loss"]) for row in rows(unbroken) if row["valid_loss"]]
    assert losses == sorted(losses, reverse=True)


def test_time_is_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    optim = replace(RECIPE.optim, epochs=10**6)
    trainer = replace(RECIPE.trainer, max_time="00:00:00:01")
    best = run(tmp_path, recipe=replace(RECIPE, optim=optim, trainer=trainer))
    step = final_state(tmp_path)["global_step"]
    assert 0 < step < 10**6
    assert (
        f"stopped at step {step} of {10**6 * STEPS_PER_EPOCH}; to go on, resume it" in caplog.text
    )
    assert DRAW.from_pretrained(tmp_path).config.glimpses == best.glimpses


def test_glimpses_follow_their_schedule(tmp_path: Path) -> None:
    optim = replace(RECIPE.optim, glimpse_schedule={0: 2, 2: 4})
    best = run(tmp_path, recipe=replace(RECIPE, optim=optim))
    assert [row["glimpses"] for row in rows(tmp_path) if row["valid_loss"]] == ["2", "2", "4"]
    assert best.glimpses == 4
    assert DRAW.from_pretrained(tmp_path).config.glimpses == 4


def test_computing_glimpses_again_is_the_same_training(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recomputed = Mock(wraps=fast.recomputed)
    monkeypatch.setattr(fast, "recomputed", recomputed)
    best = run(tmp_path, recipe=replace(RECIPE, trainer=replace(RECIPE.trainer, recompute=True)))
    recomputed.assert_called()
    assert best.loss == pytest.approx(float(rows(unbroken)[-1]["valid_loss"]), rel=1e-9)


@pytest.mark.parametrize(
    ("compile", "products", "recompute", "onednn"),
    [("auto", "fp32", True, False), ("off", "bf16", False, True)],
)
def test_it_computes_as_the_recipe_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compile: Literal["auto", "off"],
    products: Literal["fp32", "bf16"],
    recompute: bool,
    onednn: bool,
) -> None:
    accelerate = Mock(return_value=[])
    monkeypatch.setattr("drawnet.training.module.accelerate", accelerate)
    choices = {"compile": compile, "products": products, "recompute": recompute, "onednn": onednn}
    trainer = replace(RECIPE.trainer, **choices)  # type: ignore[arg-type]
    run(tmp_path, recipe=replace(RECIPE, trainer=trainer))
    accelerate.assert_called_once()
    assert accelerate.call_args.kwargs == choices


def test_denormal_numbers_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before threads start, so before the data are loaded."""
    flush = Mock(side_effect=RuntimeError("flushed"))
    monkeypatch.setattr("drawnet.training.run.flush_denormals", flush)
    with pytest.raises(RuntimeError, match="flushed"):
        train(RECIPE, tmp_path, data_dir="nowhere")


def test_lightning_does_not_queue_a_job_again_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Mock(side_effect=RuntimeError("made"))
    monkeypatch.setattr("drawnet.training.trainer.Trainer", made)
    for cluster in (True, False):
        monkeypatch.setattr(SLURMEnvironment, "detect", lambda cluster=cluster: cluster)
        with pytest.raises(RuntimeError, match="made"):
            run(tmp_path)
        _, *more = made.call_args.kwargs["plugins"]
        assert [plugin.auto_requeue for plugin in more] == [False] * cluster
    assert made.call_args.kwargs["num_nodes"] == 1
    nodes = replace(RECIPE, trainer=replace(RECIPE.trainer, num_nodes=3, devices=2))
    with pytest.raises(RuntimeError, match="made"):
        run(tmp_path, recipe=nodes)
    assert (made.call_args.kwargs["num_nodes"], made.call_args.kwargs["devices"]) == (3, 2)


def test_a_progress_bar_changes_nothing(unbroken: Path, tmp_path: Path) -> None:
    learn, check = IMAGES
    train(RECIPE, tmp_path, images=(replace(learn, view=Spy()), check), bar=True)
    assert_same(final_state(tmp_path), final_state(unbroken))


def test_learning_rate_warms_up_and_decays() -> None:
    module = Training(RECIPE, DRAW(RECIPE.model), STEPS_PER_EPOCH)
    schedule = module.configure_optimizers()["lr_scheduler"]["scheduler"]
    factors = [schedule.lr_lambdas[0](step) for step in range(EPOCHS * STEPS_PER_EPOCH + 1)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert factors[-1] == pytest.approx(RECIPE.optim.final_lr)
    middle = (1 + RECIPE.optim.final_lr) / 2
    assert schedule.lr_lambdas[0](3 + 13.5) == pytest.approx(middle)


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    pixels = torch.zeros(COUNT, 1, 8, 9, dtype=torch.uint8)
    wrong = Images(pixels, None, "wrong", "train", "too wide")
    with pytest.raises(ValueError, match=r"model.image_shape must be \(1, 8, 9\).*got \(1, 9, 8\)"):
        train(RECIPE, tmp_path / "run", images=(wrong, wrong))
    assert not (tmp_path / "run").exists()


def test_first_canvas_is_the_mean_image() -> None:
    def first_canvas(images: Images) -> Tensor:
        model = _network(DRAW, RECIPE, images, resumes=False)
        assert isinstance(model, DRAW)
        return model.canvas

    before = torch.random.get_rng_state()
    canvas = first_canvas(IMAGES[0])
    assert torch.equal(before, torch.random.get_rng_state()), "that of the program is left alone"
    mean = (IMAGES[0].pixels.double() / 255).mean(0)
    assert torch.allclose(torch.sigmoid(canvas), mean)
    blank = replace(IMAGES[0], pixels=torch.zeros_like(IMAGES[0].pixels))
    assert first_canvas(blank).unique().item() == pytest.approx(math.log(1e-3 / 0.999))


def test_a_network_that_begins_with_weights_has_all_of_them(tmp_path: Path) -> None:
    begun = DRAW(RECIPE.model)
    begun.start_canvas(torch.rand(1, 9, 8))
    begun.save_pretrained(tmp_path)
    model = _network(DRAW, replace(RECIPE, start=str(tmp_path)), IMAGES[0], resumes=False)
    torch.testing.assert_close(dict(model.state_dict()), dict(begun.state_dict()), rtol=0, atol=0)


def test_a_loss_that_is_not_finite_has_no_finite_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the step is skipped, even where the gradient itself would be finite."""
    module = Training(RECIPE, DRAW(RECIPE.model), STEPS_PER_EPOCH)
    weight = module.model.mu.weight
    infinite = weight.sum() + math.inf, torch.zeros(2)
    monkeypatch.setattr(module.task, "minimised", lambda *_: infinite)
    module.training_step((torch.zeros(BATCH, 1, 9, 8), None), 0).backward()
    assert not weight.grad.isfinite().any()
