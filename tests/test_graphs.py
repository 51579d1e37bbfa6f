"""A recorded step is the same step. PyTorch's recorder stands on a GPU; what stands in for it here
keeps inputs, outputs and gradients in memory that every run overwrites, as the real one does."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from passes import gradients, losses, step
from tiny import B, T, images, noise, tiny_model
from torch import Tensor
from trainings import RECIPE, Spy, rows, run

from drawnet import graphs
from drawnet.classify import GlimpseClassifier, nll
from drawnet.config import ClassifierConfig
from drawnet.graphs import graphed
from drawnet.training import Interrupted, hindsight
from drawnet.training.tasks import searched


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=lambda text, name=name: name + text)


class Recorder:
    """Stands for `torch.cuda.make_graphed_callables`, without its three calls to warm up."""

    def __init__(self) -> None:
        self.recordings = self.copies = 0

    def __call__(
        self, function: Callable[..., Tensor], sample: tuple[Tensor, ...], allow_unused_input: bool
    ) -> Callable[..., Tensor]:
        self.recordings += 1
        learn = [tensor for tensor in sample if tensor.requires_grad]

        def compute(*grads: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
            with torch.enable_grad():
                found = function(*sample)
                results = found if isinstance(found, tuple) else (found,)
                seeds = grads or [torch.ones_like(result) for result in results]
                return tuple(result.detach() for result in results), torch.autograd.grad(
                    results, learn, seeds, allow_unused=allow_unused_input
                )

        outputs, memory = compute()

        class Graphed(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, ...]:
                for mine, theirs in zip(sample, given, strict=True):
                    assert mine.requires_grad <= theirs.requires_grad
                    if mine.data_ptr() != theirs.data_ptr():
                        mine.copy_(theirs)
                        self.copies += 1
                pairs = zip(outputs, compute()[0], strict=True)
                return tuple(old.copy_(new).detach() for old, new in pairs)

            @staticmethod
            def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
                for old, new in zip(memory, compute(*grads)[1], strict=True):
                    if old is not None and new is not None:
                        old.copy_(new)
                left = iter(memory)
                both = (next(left) if tensor.requires_grad else None for tensor in sample)
                return tuple(None if grad is None else grad.detach() for grad in both)

        def graphed(*args: Tensor) -> Any:
            found = Graphed.apply(*args)
            return found if len(outputs) > 1 else found[0]

        return graphed


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
    monkeypatch.setattr(graphs, "has_graphs", lambda device: True)
    return recorder


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("size", [2, None])
def test_a_recorded_step_is_the_same_step(recorder: Recorder, prior: str, size: int | None) -> None:
    model = tiny_model(prior=prior, read_size=size, write_size=size)
    recorded = graphed(losses)
    first, second = (images(), noise()), (images() / 2, 1 - noise())
    for batch in (first, second):
        assert_close(step(recorded, model, *batch), step(losses, model, *batch))
    assert torch.equal(first[0], images())
    assert recorder.recordings == 1
    assert recorder.copies == 4  # of images and noise; weights are used where they are


def test_a_classifier_can_be_recorded(recorder: Recorder) -> None:
    def answers(model: GlimpseClassifier, x: Tensor, y: Tensor, glimpses: int) -> Tensor:
        return nll(model.logits(x, glimpses=glimpses), y)[None]

    model = GlimpseClassifier(ClassifierConfig((3, 11, 8), 4, hidden_size=9, read_size=2))
    recorded, x = graphed(answers), images()
    for y in (torch.arange(B), torch.arange(B) + 2):
        for glimpses in (4, 2):
            args = (model, x, y, glimpses)
            assert_close(step(recorded, *args), step(answers, *args))
    assert recorder.recordings == 4


def test_another_search_can_be_recorded(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hindsight, "WRONG", -math.inf)
    monkeypatch.setattr(hindsight, "RIGHT", math.inf)
    model = GlimpseClassifier(ClassifierConfig((3, 11, 8), 4, hidden_size=9, read_size=2))
    recorded, x = graphed(searching), images()
    for y in (torch.arange(B), torch.arange(B) + 2):
        assert_close(step(recorded, model, x, y, 4), step(searching, model, x, y, 4))
    assert recorder.recordings == 1


def searching(model: GlimpseClassifier, x: Tensor, y: Tensor, glimpses: int) -> Tensor:
    logits, miss = searched(model, x, y, glimpses)
    return (nll(logits, y) + miss)[None]


def test_what_is_new_is_recorded_anew(recorder: Recorder) -> None:
    model, recorded = tiny_model(), graphed(losses)

    def count(*args: Any) -> int:
        before = recorder.recordings
        assert_close(step(recorded, *args), step(losses, *args))
        return recorder.recordings - before

    assert count(model, images(), noise()) == 1
    assert count(model, images(), noise()) == 0
    assert count(model, images(), noise(glimpses=T + 1)) == 1
    assert count(model, images(3), noise(3)) == 1
    assert count(model, images(3), noise(3), 2.0) == 1
    assert count(model, images(3), noise(3), 2.0) == 0
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
    assert count(model, images(3), noise(3), 2.0) == 0
    model.patch.requires_grad_(False)
    assert count(model, images(3), noise(3), 2.0) == 1
    other = copy.deepcopy(model)
    other.load_state_dict({name: value / 2 for name, value in model.state_dict().items()})
    assert count(other, images(3), noise(3), 2.0) == 1


def test_only_learning_is_recorded(recorder: Recorder) -> None:
    model, recorded = tiny_model(), graphed(losses)
    with torch.no_grad():
        assert torch.equal(recorded(model, images(), noise()), losses(model, images(), noise()))
    x = images().requires_grad_()
    recorded(model, x, noise()).sum().backward()
    assert x.grad is not None
    model.requires_grad_(False)
    recorded(model, images(), noise())
    assert recorder.recordings == 0


def test_a_cpu_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", None)
    model = tiny_model()
    found = step(graphed(losses), model, images(), noise())
    assert_close(found, step(losses, model, images(), noise()))
    assert graphs.has_graphs(torch.device("cuda", 1))
    assert not graphs.has_graphs(torch.device("cpu"))


def test_gradients_add_up_and_results_stay(recorder: Recorder) -> None:
    model, recorded = tiny_model(), graphed(losses)
    kept = recorded(model, images(), noise())
    kept[0].sum().backward()
    before = kept.detach().clone()
    recorded(model, images() / 3, noise())[0].sum().backward()
    found = {name: gradient.clone() for name, gradient in gradients(model).items()}
    assert torch.equal(kept, before)

    model.zero_grad()
    for x in (images(), images() / 3):
        losses(model, x, noise())[0].sum().backward()
    assert_close(found, gradients(model))


def test_what_was_overwritten_is_not_used(recorder: Recorder) -> None:
    model, recorded = tiny_model(), graphed(losses)
    first, second = (recorded(model, x, noise()).sum() for x in (images(), images() / 2))
    second.backward(retain_graph=True)
    for late in (first, second):
        with pytest.raises(RuntimeError, match="one backward after each forward"):
            late.backward()


SCHEDULE = replace(
    RECIPE,
    model=replace(RECIPE.model, prior="learned"),
    optim=replace(RECIPE.optim, glimpse_schedule={0: 2, 1: 4}, kl_warmup_epochs=2.0, redraw=0.5),
    trainer=replace(RECIPE.trainer, graphs=True),
)


def test_a_training_of_recorded_steps_is_the_same_training(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With steps that are not finite, a longer chain, and from a checkpoint on."""
    monkeypatch.setattr("drawnet.training.log.EVERY", 10)
    plain = replace(SCHEDULE, trainer=replace(SCHEDULE.trainer, graphs=False))
    run(tmp_path / "plain", Spy(nan=range(4, 6)), plain)
    assert recorder.recordings == 0
    with pytest.raises(Interrupted):
        run(tmp_path / "graphs", Spy(nan=range(4, 6), kill=12), SCHEDULE)
    assert recorder.recordings == 4  # to draw again and to learn, with either number of glimpses
    run(tmp_path / "graphs", Spy(), SCHEDULE, resume=True)
    assert recorder.recordings == 6
    found, expected = rows(tmp_path / "graphs"), rows(tmp_path / "plain")
    assert [row["skipped"] for row in found] == [row["skipped"] for row in expected]
    assert {row["skipped"] for row in found} == {"", "2"}  # "": of validation
    for one, other in zip(found, expected, strict=True):
        for column in ("loss", "kl", "grad_norm", "valid_loss"):
            assert one[column] == other[column] or float(one[column]) == pytest.approx(
                float(other[column]), rel=1e-6
            )


def test_a_training_without_a_gpu_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "drawnet")
    run(tmp_path / "asked", recipe=SCHEDULE)
    assert "no CUDA graphs: they need an NVIDIA GPU" in caplog.messages
    run(tmp_path / "plain", recipe=replace(SCHEDULE, trainer=RECIPE.trainer))
    assert rows(tmp_path / "asked") == rows(tmp_path / "plain")
