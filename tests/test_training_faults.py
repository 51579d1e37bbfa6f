"""What can go wrong in a training, and what it must leave behind then."""

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from trainings import (
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

from drawnet import DRAW, data
from drawnet.data.images import plain
from drawnet.disk import sweep
from drawnet.recipe import DataConfig
from drawnet.training import CheckpointError, Diverged, Interrupted, checkpoint, run_folder, train
from drawnet.training import run as run_module
from drawnet.training.checkpoint import AtomicCheckpointIO
from drawnet.training.log import MetricsCSV, TensorBoard
from drawnet.training.resume import sha256_of_images
from drawnet.training.run_folder import RunFolder

STEPS = EPOCHS * STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float64)
    out = tmp_path_factory.mktemp("unbroken")
    run(out)
    return out


@pytest.fixture
def broken(unbroken: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to spoil."""
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [13, 20])
def test_interrupted_and_resumed_equals_unbroken(
    unbroken: Path, tmp_path: Path, number: signal.Signals, step: int
) -> None:
    with pytest.raises(Interrupted) as stop:
        run(tmp_path, Spy(kill=step - 1, number=number))
    assert stop.value.signal == number
    assert checkpoints(tmp_path)[-1].name == f"step-{step:09d}.ckpt", "of the step under way"
    run(tmp_path, resume=True)
    assert_same(final_state(tmp_path), final_state(unbroken))
    assert rows(tmp_path) == rows(unbroken)
    weights = "weights/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (unbroken / weights).read_bytes()


def test_handlers_of_signals_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Interrupted):
        run(tmp_path, Spy(kill=3))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    class Twice(Spy):
        def __call__(self, *args: Any) -> Any:
            batch = super().__call__(*args)
            if len(self.seen) == 15:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return batch

    with pytest.raises(SystemExit) as stop:
        run(tmp_path, Twice())
    assert stop.value.code == 130
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000010.ckpt"]
    checkpoint.load(checkpoints(tmp_path)[0])


def test_trained_on_for_longer(unbroken: Path, broken: Path) -> None:
    longer = replace(RECIPE, optim=replace(RECIPE.optim, epochs=EPOCHS + 1))
    run(broken, recipe=longer, resume=True)
    assert final_state(broken)["global_step"] == STEPS + STEPS_PER_EPOCH
    assert [row for row in rows(broken) if int(row["step"]) <= STEPS] == rows(unbroken)


def test_a_finished_run_has_nothing_to_resume(
    unbroken: Path, broken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = run(broken, resume=True)
    assert f"nothing is left to train: the checkpoint is of step {STEPS}" in caplog.text
    assert best.step == STEPS
    assert_same(final_state(broken), final_state(unbroken))


def test_a_run_cut_short_before_its_first_checkpoint_begins_anew(
    unbroken: Path, tmp_path: Path
) -> None:
    RunFolder(tmp_path).begin(RECIPE, overwrite=False)
    with pytest.raises(ValueError, match="holds a run"):
        run(tmp_path)
    run(tmp_path, resume=True)
    assert_same(final_state(tmp_path), final_state(unbroken))


def test_what_was_given_from_python_must_be_given_again(broken: Path) -> None:
    fewer = IMAGES[0].subset(torch.arange(COUNT - 1)), IMAGES[1]
    others = replace(IMAGES[0], pixels=255 - IMAGES[0].pixels), IMAGES[1]
    for images, count in (fewer, COUNT - 1), (others, COUNT):
        said = rf"is of a DRAW on {COUNT} images of halves .*, this is a DRAW on {count} images"
        with pytest.raises(CheckpointError, match=said):
            train(RECIPE, broken, images=images, resume=True, bar=False)
    with pytest.raises(CheckpointError, match="this is one on the images of the recipe"):
        train(RECIPE, broken, resume=True, bar=False, data_dir="nowhere")

    class Own(DRAW):
        """Another network, of the same configuration."""

    with pytest.raises(CheckpointError, match="this is a Own on"):
        train(RECIPE, broken, images=IMAGES, network=Own, resume=True, bar=False)


def test_images_are_known_by_all_that_is_in_them() -> None:
    index = torch.arange(COUNT)
    labelled = replace(IMAGES[0], labels=index % 2, classes=("a", "b"))
    sets = (
        IMAGES[0],
        replace(IMAGES[0], pixels=255 - IMAGES[0].pixels),
        labelled,
        replace(labelled, labels=(index + 1) % 2),
        IMAGES[0].subset(index.flip(0)),
    )
    sums = {
        sha256_of_images(pair) for each in sets for pair in ((each, IMAGES[1]), (sets[0], each))
    }
    assert len(sums) == 2 * len(sets)


def test_pictures_that_have_changed_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a folder: files of other sets are known by their sha256."""
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, grey in ((before, 0), (after, 90)):
        folder.mkdir()
        for number in range(60):
            Image.new("L", (9, 9), grey + number).save(folder / f"{number}.png")
    model = replace(RECIPE.model, image_shape=(1, 9, 9))
    wanted = DataConfig("folder", {"size": 9, "channels": 1})
    recipe = replace(RECIPE, model=model, data=wanted)
    asked = Mock(wraps=data.load)
    monkeypatch.setattr(data, "load", asked)
    train(recipe, tmp_path / "run", data_dir=before, bar=False)
    assert [call.args[:2] for call in asked.call_args_list] == [
        ("folder", "train"),
        ("folder", "valid"),
    ], "the test images are for the end"
    longer = replace(recipe, optim=replace(RECIPE.optim, epochs=EPOCHS + 1))
    with pytest.raises(
        CheckpointError, match=r"this is a DRAW on .*begin a new run with its weights"
    ):
        train(longer, tmp_path / "run", data_dir=after, resume=True, bar=False)
    shutil.copytree(before, tmp_path / "moved")
    train(longer, tmp_path / "run", data_dir=tmp_path / "moved", resume=True, bar=False)


def test_images_that_do_not_do_are_refused_before_anything_is_removed(broken: Path) -> None:
    wide = replace(IMAGES[1], pixels=torch.zeros(VALID, 1, 9, 9, dtype=torch.uint8))
    with pytest.raises(
        ValueError, match=r"must be \(1, 9, 9\), the shape of halves \(valid\), got"
    ):
        train(RECIPE, broken, images=(IMAGES[0], wide), overwrite=True, bar=False)
    with pytest.raises(TypeError, match=r"expected drawnet.data.Images, got \[.*from_dataset"):
        train(RECIPE, broken, images=([1], IMAGES[1]), overwrite=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a training and a validation set, got <62 images"):
        train(RECIPE, broken, images=IMAGES[0], overwrite=True)  # type: ignore[arg-type]
    assert checkpoints(broken)


def test_the_best_is_that_of_the_weights_kept(unbroken: Path, broken: Path) -> None:
    for part in ("weights", "checkpoints"):
        shutil.rmtree(broken / part)
        shutil.copytree(unbroken / part, broken / part)
    slow = replace(RECIPE, optim=replace(RECIPE.optim, lr=1e-9))
    best = run(broken, recipe=slow, resume=checkpoints(broken)[0])
    provenance = json.loads((unbroken / "provenance.json").read_text())
    assert best.loss == provenance["validation_nats"], "the branch gone back on was better"
    assert (best.step, best.kl) == (provenance["steps"], provenance["validation_kl"])
    kept = "weights/model.safetensors"
    assert (broken / kept).read_bytes() == (unbroken / kept).read_bytes()


def test_the_number_of_threads_is_given_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    used = []

    class Threads(Spy):
        def __call__(self, *args: Any) -> Any:
            used.append(torch.get_num_threads())
            return super().__call__(*args)

    recipe = replace(RECIPE, trainer=replace(RECIPE.trainer, threads=before + 1))
    run(tmp_path, Threads(), recipe=recipe)
    assert used[-1] == before + 1
    assert torch.get_num_threads() == before


def test_a_folder_with_a_run_is_refused_or_overwritten(unbroken: Path, broken: Path) -> None:
    (broken / "metrics.csv").write_text("as it was")
    with pytest.raises(ValueError, match="holds a run"):
        run(broken)
    assert (broken / "metrics.csv").read_text() == "as it was"
    run(broken, overwrite=True)
    assert rows(broken) == rows(unbroken)


def test_nothing_is_left_of_a_run_that_is_overwritten(broken: Path) -> None:
    (broken / "tensorboard").mkdir()
    with pytest.raises(Interrupted):
        run(broken, Spy(kill=3), overwrite=True)
    left = {path.name for path in broken.iterdir()}
    assert left == {"recipe.yaml", "starts.jsonl", "metrics.csv", "checkpoints", ".lock"}


def test_two_trainings_do_not_share_a_folder(unbroken: Path, broken: Path) -> None:
    with RunFolder(broken).held():
        for again in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match=f"another training is running in {broken}"):
                run(broken, **again)
    assert_same(final_state(broken), final_state(unbroken))
    run(broken, resume=True)


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (errno.ENOLCK, errno.EACCES):
        failing = Mock(side_effect=OSError(number, os.strerror(number)))
        monkeypatch.setattr(run_folder.FileLock, "acquire", failing)
        if number == errno.ENOLCK:
            run(tmp_path / "run")
            assert "this disk has no locks" in caplog.text
        else:
            with pytest.raises(OSError, match=r"cannot save .*\.lock: Permission denied"):
                run(tmp_path / "other")


def test_who_was_overtaken_does_not_begin(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the data of one training were read, another began and ended."""
    network = run_module._network
    out = tmp_path / "run"

    def overtaken(*given: Any, **options: Any) -> Any:
        if not out.exists():
            shutil.copytree(unbroken, out)
        return network(*given, **options)

    monkeypatch.setattr(run_module, "_network", overtaken)
    with pytest.raises(ValueError, match=r"another training has written to .* meanwhile"):
        run(out)
    assert_same(final_state(out), final_state(unbroken))


def test_a_copy_of_a_checkpoint_is_left_alone(unbroken: Path, broken: Path) -> None:
    earlier = checkpoints(broken)[0]
    copy = earlier.with_name(f"{earlier.stem}_kept.ckpt")
    for path, target in ((earlier, copy), (sum_of(earlier), sum_of(copy))):
        shutil.copy(path, target)
    run(broken, resume=copy)
    assert copy.exists()
    assert_same(final_state(broken), final_state(unbroken))


def sum_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@pytest.mark.parametrize("damaged", ['{"step": 0', "[]", '{"time": 0}', "\udcff"])
def test_a_damaged_list_of_starts_is_gone_on_with(broken: Path, damaged: str) -> None:
    with (broken / "starts.jsonl").open("a", errors="surrogateescape") as file:
        file.write(damaged + "\n")
    run(broken, resume=True)
    assert [each["step"] for each in starts(broken)] == [0, STEPS]


def test_what_is_no_log_is_not_written_over(broken: Path, tmp_path: Path) -> None:
    (broken / "metrics.csv").write_text("a,b\n1,2\n")
    before = checkpoints(broken)
    with pytest.raises(ValueError, match=r"metrics\.csv: expected a log with the columns step, "):
        run(broken, resume=before[0])
    assert (broken / "metrics.csv").read_text() == "a,b\n1,2\n"
    assert checkpoints(broken) == before
    assert len(starts(broken)) == 1
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected a log with the columns"):
        run(tmp_path)
    assert not RunFolder(tmp_path).holds_a_run()


def test_weights_that_do_not_say_how_good_they_are_are_replaced(
    broken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    DRAW.from_pretrained(broken / "weights").save_pretrained(broken / "weights")
    with pytest.raises(CheckpointError, match="nothing is left to train"):
        run(broken, resume=True)
    longer = replace(RECIPE, optim=replace(RECIPE.optim, epochs=EPOCHS + 1))
    best = run(broken, recipe=longer, resume=True)
    assert "no record of the weights kept ('validation_nats')" in caplog.text
    assert best.step == STEPS + STEPS_PER_EPOCH


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_checkpoint(
    unbroken: Path,
    broken: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    newest = checkpoints(broken)[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.raises(CheckpointError, match=f"{newest} is damaged"):
        run(broken, resume=newest)
    run(broken, resume=True)
    assert "is damaged" in caplog.text
    assert "taking the one before" in caplog.text
    assert_same(final_state(broken), final_state(unbroken))


def test_another_rate_counts_after_a_resume(broken: Path) -> None:
    optim = replace(RECIPE.optim, epochs=EPOCHS + 1, lr=0.004, betas=(0.5, 0.75), final_lr=0.5)
    run(broken, recipe=replace(RECIPE, optim=optim), resume=True)
    (group,) = final_state(broken)["optimizer_states"][0]["param_groups"]
    assert group["lr"] == pytest.approx(0.5 * 0.004)
    assert (group["initial_lr"], group["betas"]) == (0.004, (0.5, 0.75))


def starts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]


def test_each_start_is_written_down_with_what_it_changed(broken: Path) -> None:
    optim = replace(RECIPE.optim, epochs=EPOCHS + 1, betas=(0.5, 0.75))
    run(broken, recipe=replace(RECIPE, optim=optim), resume=True)
    first, second = starts(broken)
    assert (first["step"], first["changed"]) == (0, {})
    changed = {"optim.epochs": EPOCHS + 1, "optim.betas": [0.5, 0.75]}
    assert (second["step"], second["changed"]) == (STEPS, changed)
    assert set(first) == {"step", "time", "commit", "changed"}
    run(broken, overwrite=True)
    (only,) = starts(broken)
    assert (only["step"], only["changed"]) == (0, {})


def test_other_weights_to_begin_with_are_another_recipe(broken: Path) -> None:
    with pytest.raises(CheckpointError, match=r"these differ: start$"):
        run(broken, recipe=replace(RECIPE, start="mnist"), resume=True)


def test_a_new_folder_gets_weights_of_its_own(broken: Path, tmp_path: Path) -> None:
    """The best validation so far is of weights that lie elsewhere."""
    path, finished = checkpoints(broken)
    out = tmp_path / "new"
    with pytest.raises(CheckpointError, match="nothing is left to train"):
        run(out, resume=finished)
    best = run(out, resume=path)
    assert best.step == STEPS
    assert DRAW.from_pretrained(out / "weights").config == RECIPE.model


def test_a_log_cut_off_in_a_row_is_gone_on_with(unbroken: Path, broken: Path) -> None:
    with (broken / "metrics.csv").open("a") as file:
        file.write("12,1,4\n\0\0,1,2,3\n1")
    run(broken, resume=True)
    assert rows(broken) == rows(unbroken)


def test_a_metric_that_the_log_has_no_column_for_is_left_out(tmp_path: Path) -> None:
    log = MetricsCSV(tmp_path / "metrics.csv", 0)
    log.log_metrics({"fid": 1.0, "loss": 2.0}, 10)
    (row,) = rows(tmp_path)
    assert (row["step"], row["loss"]) == ("10", "2.0")
    assert "fid" not in row


@pytest.mark.parametrize("option", ["window_lr", "weight_decay"])
def test_what_a_resumed_optimiser_cannot_change_is_refused(broken: Path, option: str) -> None:
    optim = replace(RECIPE.optim, **{option: 0.125})  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=rf"these differ: optim\.{option}$"):
        run(broken, recipe=replace(RECIPE, optim=optim), resume=True)


def test_gone_back_on_the_later_checkpoints_are_gone(unbroken: Path, broken: Path) -> None:
    before, after = checkpoints(broken)
    with pytest.raises(Interrupted):
        run(broken, Spy(kill=2), resume=before)
    left = [path.name for path in checkpoints(broken)]
    assert left == [before.name, f"step-{STEPS - STEPS_PER_EPOCH + 3:09d}.ckpt"]
    assert [each["step"] for each in starts(broken)] == [0, STEPS - STEPS_PER_EPOCH]
    assert not after.with_name(f"{after.name}.sha256").exists()
    run(broken, resume=True)
    assert_same(final_state(broken), final_state(unbroken))


def test_time_is_up_again_after_a_resume(tmp_path: Path) -> None:
    optim = replace(RECIPE.optim, epochs=10**6)
    recipe = replace(RECIPE, optim=optim, trainer=replace(RECIPE.trainer, max_time="00:00:00:01"))
    steps = []
    for resume in (False, True):
        run(tmp_path, recipe=recipe, resume=resume)
        steps.append(final_state(tmp_path)["global_step"])
    assert steps[1] > steps[0] + 1, "a limit that is used up lets one step through"
    few = replace(recipe, optim=replace(optim, epochs=1 + steps[1] // STEPS_PER_EPOCH))
    with warnings.catch_warnings(action="error"):
        run(tmp_path, recipe=replace(few, trainer=RECIPE.trainer), resume=True)


def test_a_run_goes_on_without_the_weights_that_it_began_with(
    unbroken: Path, tmp_path: Path
) -> None:
    start = Path(shutil.copytree(unbroken / "weights", tmp_path / "start"))
    recipe, out = replace(RECIPE, start=str(start)), tmp_path / "run"
    with pytest.raises(Interrupted):
        run(out, Spy(kill=4), recipe=recipe)
    begun = json.loads((start / "config.json").read_text())["sha256"]
    shutil.rmtree(start)
    run(out, recipe=recipe, resume=True)
    provenance = json.loads((out / "provenance.json").read_text())
    assert (provenance["start"], provenance["start_sha256"]) == (str(start), begun)


def test_the_commit_is_that_of_the_code_that_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = iter(["running", "made meanwhile"])
    monkeypatch.setattr(run_module, "software_and_machine", lambda: {"commit": next(commits)})
    run(tmp_path)
    assert json.loads((tmp_path / "provenance.json").read_text())["commit"] == "running"


def test_resumed_or_overwritten_but_not_both(broken: Path) -> None:
    with pytest.raises(ValueError, match="either resume or overwrite"):
        run(broken, resume=True, overwrite=True)


def test_a_signal_in_the_last_step_does_not_cost_the_last_validation(
    unbroken: Path, tmp_path: Path
) -> None:
    run(tmp_path, Spy(kill=STEPS - 1))
    assert_same(final_state(tmp_path), final_state(unbroken))


def test_no_whole_checkpoint(broken: Path) -> None:
    for path in checkpoints(broken):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no checkpoint to go on from .*is damaged"):
        run(broken, resume=True)
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint nowhere\.ckpt"):
        run(broken, resume="nowhere.ckpt")


class Code:
    """Unpickling this would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.ckpt"
    AtomicCheckpointIO().save_checkpoint({"drawnet": Code(tmp_path / "made")}, path)
    with pytest.raises(CheckpointError, match="carries code: refused"):
        checkpoint.load(path)
    assert not (tmp_path / "made").exists()


def test_checkpoints_of_something_else(unbroken: Path, tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of drawnet"):
        checkpoint.load(path)
    theirs = torch.load(checkpoints(unbroken)[-1], weights_only=True)
    facts = theirs.pop("drawnet")
    first = {name: fact for name, fact in facts.items() if name != "origin"}
    second = {**facts, "origin": {"network": "DRAW", "images": ("halves", COUNT)}}
    for other in (first, second, {**facts, "format": checkpoint.FORMAT + 1}):
        AtomicCheckpointIO().save_checkpoint({**theirs, "drawnet": other}, path)
        with pytest.raises(CheckpointError, match=r"another version of drawnet; .* by --start"):
            checkpoint.load(path)
        with pytest.raises(CheckpointError, match=r"no checkpoint to go on from .*another version"):
            checkpoint.newest(tmp_path)


def test_a_checkpoint_of_another_recipe(broken: Path) -> None:
    other = replace(RECIPE, model=replace(RECIPE.model, z_size=6, dec_size=12), seed=1)
    with pytest.raises(CheckpointError, match=r"differ: model.dec_size, model.z_size, seed"):
        run(broken, recipe=other, resume=True)
    binary = DataConfig("mnist", {"binarize": True})
    other = replace(RECIPE, data=binary, optim=replace(RECIPE.optim, batch_size=5))
    with pytest.raises(CheckpointError, match=r"differ: data.name, data.options, optim.batch_size"):
        run(broken, recipe=other, resume=True)


def test_one_step_that_is_not_finite_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drawnet.training.log.EVERY", 10)
    run(tmp_path, Spy(nan=range(4, 5)))
    state = final_state(tmp_path)
    for weight in state["state_dict"].values():
        assert weight.isfinite().all()
    assert {adam["step"].item() for adam in state["optimizer_states"][0]["state"].values()} == {
        STEPS - 1
    }
    assert [row["skipped"] for row in rows(tmp_path) if row["loss"]] == ["1", "1", "1"]
    assert caplog.text.count("not finite") == 1


def test_a_skipped_step_changes_nothing(tmp_path: Path) -> None:
    """The weights after nine spoilt steps are those after none."""
    with pytest.raises(Interrupted):
        run(tmp_path / "clean", Spy(kill=3))
    with pytest.raises(Interrupted):
        run(tmp_path / "spoilt", Spy(nan=range(4, 13), kill=12))
    clean, spoilt = (final_state(tmp_path / name) for name in ("clean", "spoilt"))
    for name, weight in clean["state_dict"].items():
        if name.startswith("model."):
            assert torch.equal(weight, spoilt["state_dict"][name])
    assert_same(clean["optimizer_states"][0]["state"], spoilt["optimizer_states"][0]["state"])


def test_ten_steps_in_a_row_that_are_not_finite_end_the_training(tmp_path: Path) -> None:
    """However often it is tried, the checkpoint of before is left."""
    for resume in (False, True, True):
        with pytest.raises(Diverged, match="10 steps in a row"):
            run(tmp_path, Spy(nan=range(0 if resume else STEPS_PER_EPOCH, STEPS)), resume=resume)
        left = [path.name for path in checkpoints(tmp_path)]
        assert left[0] == f"step-{STEPS_PER_EPOCH:09d}.ckpt"
    state = checkpoint.load(checkpoints(tmp_path)[0])
    for weight in state["state_dict"].values():
        assert weight.isfinite().all()


def test_ten_steps_count_wherever_they_lie(tmp_path: Path) -> None:
    """The training looks every ten steps."""
    with pytest.raises(Diverged, match="10 steps in a row"):
        run(tmp_path / "ten", Spy(nan=range(13, 23)))
    run(tmp_path / "nine", Spy(nan=range(13, 22)))


def test_a_loss_that_was_never_finite(tmp_path: Path) -> None:
    def spoilt(*args: Any) -> Any:
        x, y = plain(*args)
        return x * torch.nan, y

    nowhere = replace(IMAGES[1], view=spoilt)

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 12

    for callbacks in ([], [Stop()]):
        out = tmp_path / str(len(callbacks))
        with pytest.raises(Diverged, match="the validation loss was never finite") as stop:
            train(RECIPE, out, images=(IMAGES[0], nowhere), bar=False, callbacks=callbacks)
        assert stop.value.ended == (not callbacks)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than that of temporary files, where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def test_killed_while_saving(other_disk: Path) -> None:
    """25 times, and until it was; whatever lies under the name of a checkpoint is whole."""
    content = {
        "drawnet": {"format": checkpoint.FORMAT, "origin": {"found": None}},
        "weights": torch.ones(200_000),
    }
    random.seed(0)
    for attempt in range(500):
        if attempt >= 25 and list(other_disk.glob(".*.tmp")):
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if child == 0:
            for step in range(1000):
                path = checkpoint.path_of(other_disk, 1000 * attempt + step)
                AtomicCheckpointIO().save_checkpoint(content, path)
        deadline = time.monotonic() + 60
        while not checkpoint.path_of(other_disk, 1000 * attempt).exists():
            assert time.monotonic() < deadline
        time.sleep(random.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for path in checkpoint.saved(other_disk):
            checkpoint.load(path)
            AtomicCheckpointIO().remove_checkpoint(path)
    orphans = list(other_disk.glob(".*.tmp"))
    assert orphans, "it was never killed while saving"
    sweep(other_disk)
    assert not any(orphan.exists() for orphan in orphans)


def test_orphans_are_swept_at_the_start(broken: Path) -> None:
    orphans = [broken / ".recipe.yaml.1.tmp", broken / "checkpoints" / ".step-000000031.ckpt.2.tmp"]
    users = broken / ".notes.tmp"
    for path in (*orphans, users):
        path.touch()
    run(broken, resume=True)
    assert not any(orphan.exists() for orphan in orphans)
    assert users.exists()


@pytest.fixture
def small_disk() -> Iterator[Callable[[], None]]:
    """Files can grow to 8 kB, from when it is called."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full(tmp_path: Path, small_disk: Callable[[], None]) -> None:
    class Filling(Spy):
        def __call__(self, *args: Any) -> Any:
            if len(self.seen) == 15:
                small_disk()
            return super().__call__(*args)

    with pytest.raises(OSError, match=r"cannot save .*: disk full"):
        run(tmp_path, Filling())
    (left,) = checkpoints(tmp_path)
    assert left.name == "step-000000010.ckpt"
    checkpoint.load(left)
    assert not list(tmp_path.rglob("*.tmp"))
    sum_beside = left.with_name(f"{left.name}.sha256").read_text().split()[0]
    assert hashlib.sha256(left.read_bytes()).hexdigest() == sum_beside


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spy = Spy()
    with pytest.raises(OSError, match=r"cannot save .*file/run/.lock: Not a directory"):
        run(tmp_path / "file" / "run", spy)
    assert not spy.seen, "before the first step"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot save .*file/.lock: .*file is not a folder"):
        run(tmp_path / "file")


def test_a_full_disk_and_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = TensorBoard(tmp_path, name="", version="log")
    logger.log_metrics({"loss": 1.0}, 50)
    with monkeypatch.context() as patch:
        patch.setattr(SummaryWriter, "add_scalar", fail)
        patch.setattr(SummaryWriter, "flush", fail)
        with pytest.raises(OSError, match=r"cannot save .*/log: disk full"):
            logger.log_metrics({"loss": 1.0}, 100)
        with pytest.raises(OSError, match=r"cannot save .*/log: disk full"):
            logger.finalize("success")
        logger.finalize("failed")  # another error is on its way
    with pytest.raises(ValueError, match="not supported"):
        logger.log_metrics({"loss": "high"}, 150)  # type: ignore[dict-item]
    logger.finalize("success")
