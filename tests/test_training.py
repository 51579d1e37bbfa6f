"""A training: what it sees, what it leaves behind, and that it replays."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
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
from drawnet.training.loader import Batches, Stream, reseed


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


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch(world_size: int) -> None:
    shares = [images_of(batches(rank=r, world_size=world_size)) for r in range(world_size)]
    for whole, *parts in zip(images_of(batches()), *shares, strict=True):
        assert torch.equal(whole, torch.cat(parts))


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
        "checkpoints",
        "metrics.csv",
        "provenance.json",
        "recipe.yaml",
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


@pytest.mark.parametrize("onednn", [True, False])
def test_onednn_can_be_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onednn: bool
) -> None:
    asked = Mock(return_value=False)
    monkeypatch.setattr(fast, "route_to_onednn", asked)
    run(tmp_path, recipe=replace(RECIPE, trainer=replace(RECIPE.trainer, onednn=onednn)))
    assert asked.call_count == onednn


def test_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    from drawnet.training.module import Training

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
        run_with(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def run_with(out: Path, images: Images) -> None:
    from drawnet.training import train

    train(RECIPE, out, images=(images, images))


def test_first_canvas_is_the_mean_image(tmp_path: Path) -> None:
    from drawnet.training.run import _network

    def first_canvas(images: Images) -> Tensor:
        model = _network(DRAW, RECIPE, images, resumes=False)
        assert isinstance(model, DRAW)
        return model.canvas

    canvas = first_canvas(IMAGES[0])
    mean = (IMAGES[0].pixels.double() / 255).mean(0)
    assert torch.allclose(torch.sigmoid(canvas), mean)
    blank = replace(IMAGES[0], pixels=torch.zeros_like(IMAGES[0].pixels))
    assert first_canvas(blank).unique().item() == pytest.approx(math.log(1e-3 / 0.999))
