"""On an NVIDIA GPU: `pytest -m gpu`. Elsewhere these tests are skipped."""

import gc
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import pytest
import torch
from passes import losses, step, worst
from tiny import B, C, H, T, W, Z, images, noise, tiny_model
from torch import Tensor
from trainings import COUNT, EPOCHS, RECIPE, STEPS_PER_EPOCH, Spy, final_state, rows, run

from drawnet import DRAW, DRAWConfig
from drawnet.benchmark.cases import Case, ours
from drawnet.classify import GlimpseClassifier, nll
from drawnet.config import ClassifierConfig
from drawnet.fast import accelerate, has_compiler
from drawnet.graphs import graphed
from drawnet.objective import elbo
from drawnet.training import Interrupted, hindsight
from drawnet.training.tasks import Classifying, Given, searched

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
    pytest.mark.filterwarnings("ignore"),  # compilers and recorders warn of what is theirs
]


@pytest.fixture(autouse=True)
def _single_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(**changes: Any) -> tuple[DRAW, Tensor, Tensor]:
    """A network with images and noise for it."""
    model = tiny_model(**changes).float().cuda()
    return model, images().float().cuda(), noise().float().cuda()


def test_a_gpu_computes_what_a_cpu_does() -> None:
    model, x, eps = on_gpu(prior="learned")
    found = step(losses, model, x, eps)
    assert worst(found, step(losses, model.cpu(), x.cpu(), eps.cpu())) < 1e-4


@pytest.mark.parametrize("products", ["fp32", "bf16"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_a_recorded_step_is_the_same_step(
    prior: str, recompute: bool, products: Literal["fp32", "bf16"]
) -> None:
    model, x, eps = on_gpu(prior=prior)
    accelerate(model, compile="off", products=products, recompute=recompute)
    recorded = graphed(losses)
    for glimpses in (T, 1, 2, T):
        for scale in (1.0, 0.5):
            args = (model, scale * x, eps[:glimpses])
            expected = step(losses, *args)
            assert worst(step(recorded, *args), expected) < 1e-6


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
@pytest.mark.parametrize("size", [None, 2])
def test_without_attention_and_for_intensities(size: int | None, likelihood: str) -> None:
    args = on_gpu(read_size=size, write_size=size, likelihood=likelihood)
    assert worst(step(graphed(losses), *args), step(losses, *args)) < 1e-6


def test_labels_are_seen() -> None:
    model, x, eps = on_gpu(classes=4)
    y = torch.arange(B, device="cuda") % 4

    def told(model: DRAW, x: Tensor, eps: Tensor, y: Tensor) -> Tensor:
        return -elbo(x, model(x, y=y, noise=eps, record="last"))

    recorded = graphed(told)
    for labels in (y, 3 - y):
        found, expected = recorded(model, x, eps, labels), told(model, x, eps, labels)
        assert worst({"": found.detach()}, {"": expected.detach()}) < 1e-6


def test_another_search_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hindsight, "WRONG", -math.inf)
    monkeypatch.setattr(hindsight, "RIGHT", math.inf)
    model = GlimpseClassifier(ClassifierConfig((C, H, W), 4, hidden_size=9, read_size=3)).cuda()
    x, y = images().float().cuda(), torch.arange(B, device="cuda")

    def searching(model: GlimpseClassifier, x: Tensor, y: Tensor) -> Tensor:
        logits, miss = searched(model, x, y, 4)
        return (nll(logits, y) + miss)[None]

    recorded = graphed(searching)
    for labels in (y, y + 1):
        assert worst(step(recorded, model, x, labels), step(searching, model, x, labels)) < 1e-6


def test_a_teacher_is_heard_beside_what_is_recorded() -> None:
    config = ClassifierConfig((C, H, W), 4, hidden_size=9, read_size=3)
    model, teacher = GlimpseClassifier(config).cuda(), GlimpseClassifier(config).cuda()
    teacher.requires_grad_(False)
    x, y = images().float().cuda(), torch.arange(B, device="cuda")
    plain, recorded = (
        partial(taught, Classifying(config.classes, graphs, [teacher])) for graphs in (False, True)
    )
    for labels in (y, y + 1):
        assert worst(step(recorded, model, x, labels), step(plain, model, x, labels)) < 1e-6


def taught(task: Classifying, model: GlimpseClassifier, x: Tensor, y: Tensor) -> Tensor:
    """What a step minimises, as the losses of one image."""
    return task.minimised(model, Given(x, y, None, 4))[0][None]


@pytest.mark.skipif(not has_compiler("cuda"), reason="no Triton or no compiler here")
@pytest.mark.parametrize("recompute", [False, True])
def test_a_compiled_step_can_be_recorded(recompute: bool) -> None:
    model, x, eps = on_gpu()
    plain = step(losses, model, x, eps)
    accelerate(model, compile="on", recompute=recompute)
    compiled = step(losses, model, x, eps)
    assert worst(compiled, plain) < 1e-5
    recorded = graphed(losses)
    for scale in (1.0, 0.5, 1.0):
        found = step(recorded, model, scale * x, eps)
    assert worst(found, compiled) < 1e-6


def test_gradients_add_up_and_results_stay() -> None:
    model, x, eps = on_gpu()
    recorded = graphed(losses)
    expected = step(losses, model, torch.cat([x, x / 3]), eps.repeat(1, 2, 1))
    model.zero_grad()
    first = recorded(model, x, eps)
    first[0].mean().div(2).backward()
    kept = first.detach().clone()
    recorded(model, x / 3, eps)[0].mean().div(2).backward()
    assert torch.equal(first, kept)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    del expected["losses"]
    assert worst(found, expected) < 1e-5


def test_what_was_overwritten_is_not_used() -> None:
    model, x, eps = on_gpu()
    recorded = graphed(losses)
    first, second = (recorded(model, part, eps).sum() for part in (x, x / 2))
    second.backward()
    with pytest.raises(RuntimeError, match="one backward after each forward"):
        first.backward()


def test_recordings_that_are_not_needed_leave_the_memory() -> None:
    model, x, eps = on_gpu()
    recorded = graphed(losses)

    def recordings() -> int:
        return sum(type(thing) is torch.cuda.CUDAGraph for thing in gc.get_objects())

    step(recorded, model, x, eps)
    others = recordings() - 2  # forward and backward
    assert others >= 0
    for glimpses in (1, 2, T):
        step(recorded, model, x, eps[:glimpses])
        assert recordings() == others + 2


def test_a_recording_outlives_another() -> None:
    model, x, eps = on_gpu()
    expected = step(losses, model, x, eps)
    kept, lost = graphed(losses), graphed(losses)
    step(kept, model, x, eps)
    for glimpses in (1, 2, T):  # each time one that was made after the other goes
        step(lost, model, x, eps[:glimpses])
        torch.cuda.empty_cache()
        assert worst(step(kept, model, x, eps), expected) < 1e-6


def test_weights_that_learned_elsewhere_are_seen() -> None:
    """A network that was replayed, validated, loaded from a file and replayed again."""
    model, x, eps = on_gpu()
    recorded = graphed(losses)
    step(recorded, model, x, eps)
    with torch.no_grad():
        recorded(model, x, eps)
        model.load_state_dict({name: value / 2 for name, value in model.state_dict().items()})
    assert worst(step(recorded, model, x, eps), step(losses, model, x, eps)) < 1e-6


GPU = replace(
    RECIPE,
    optim=replace(RECIPE.optim, glimpse_schedule={0: 2, 1: 4}),
    trainer=replace(RECIPE.trainer, accelerator="gpu", graphs=True),
)
PLAIN = replace(GPU, trainer=replace(GPU.trainer, graphs=False))


def assert_same_training(one: Path, other: Path) -> None:
    """As many steps skipped, and weights that agree to rounding."""
    steps = [final_state(out)["drawnet"]["tally"][..., -1] for out in (one, other)]
    assert torch.equal(*steps)  # those that were finite
    found, expected = final_state(one)["state_dict"], final_state(other)["state_dict"]
    assert worst(found, expected) < 1e-3
    assert float(rows(one)[-1]["valid_loss"]) == pytest.approx(
        float(rows(other)[-1]["valid_loss"]), rel=1e-4
    )


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_a_training_of_recorded_steps_is_the_same_training(
    tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a longer chain on the way, and steps that are not finite."""
    record = Mock(wraps=torch.cuda.make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    recipe = replace(GPU, trainer=replace(GPU.trainer, strategy=strategy))
    recipe = replace(recipe, optim=replace(GPU.optim, free_bits=0.1, kl_warmup_epochs=1.0))
    plain = replace(PLAIN, optim=recipe.optim)
    run(tmp_path / "plain", Spy(nan=range(4, 6)), plain)
    assert not record.called
    run(tmp_path / "graphs", Spy(nan=range(4, 6)), recipe)
    assert record.call_count == len(GPU.optim.glimpse_schedule)
    tally = final_state(tmp_path / "plain")["drawnet"]["tally"]
    assert tally[..., -1] == EPOCHS * STEPS_PER_EPOCH - 2
    assert_same_training(tmp_path / "graphs", tmp_path / "plain")


def test_what_is_drawn_again_by_a_recording_is_what_is_drawn_without(tmp_path: Path) -> None:
    """One step, as pixels at random turn on differences of rounding."""
    optim = replace(RECIPE.optim, batch_size=COUNT, epochs=1, redraw=0.5)
    for recipe in (PLAIN, GPU):
        run(tmp_path / str(recipe.trainer.graphs), Spy(batch=COUNT), replace(recipe, optim=optim))
    assert_same_training(tmp_path / "True", tmp_path / "False")


def test_a_resumed_training_of_recorded_steps_is_the_unbroken_one(tmp_path: Path) -> None:
    run(tmp_path / "unbroken", Spy(), GPU)
    with pytest.raises(Interrupted):
        run(tmp_path / "resumed", Spy(kill=12), GPU)
    run(tmp_path / "resumed", Spy(), GPU, resume=True)
    assert_same_training(tmp_path / "resumed", tmp_path / "unbroken")


@pytest.mark.parametrize("recipe", [PLAIN, GPU], ids=["eager", "graphs"])
def test_no_step_waits_for_the_gpu(tmp_path: Path, recipe: Any) -> None:
    """PyTorch raises an error where one does. Validations and the log may wait."""

    class Impatient(Spy):
        def __call__(self, pixels: Tensor, *args: Any) -> Any:
            steps = len(self.seen)
            torch.cuda.set_sync_debug_mode("error" if 12 <= steps < 18 else "default")
            return super().__call__(pixels, *args)

    run(tmp_path, Impatient(fresh=False), recipe)


@pytest.mark.parametrize("code", ["graphs", "graphs, bf16", "products alone"])
def test_what_the_benchmark_times(code: Any) -> None:
    config = DRAWConfig((C, H, W), T, 10, 9, Z, 2, 4)
    call = ours(Case("part", "train", code, config, batch=B, device="cuda"))
    for _ in range(3):
        call()
    torch.cuda.synchronize()
