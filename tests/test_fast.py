"""The fast path computes the same numbers as the plain one."""

import copy
import pickle
import resource
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from passes import gradients, worst
from tiny import CONFIG, DEC, ENC, WRITE, B, C, H, T, W, Z, images, noise, tiny_model
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from drawnet import DRAW, DRAWConfig, fast
from drawnet.fast import accelerate
from drawnet.objective import elbo
from drawnet.product import TOGETHER

MATMUL = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]

needs_compiler = pytest.mark.skipif(not fast.has_compiler("cpu"), reason="no C++ compiler here")


def numbers(model: DRAW) -> dict[str, Tensor]:
    """The bounds of a batch, its canvases, and the gradient of every parameter."""
    model.zero_grad()
    x = images().to(model.canvas.dtype)
    trace = model(x, noise=noise().to(x.dtype))
    bounds = elbo(x, trace)
    bounds.mean().backward()
    return {"elbo": bounds.detach(), "drawn": trace.canvas.detach(), **gradients(model)}


def assert_the_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@needs_compiler
@pytest.mark.filterwarnings("ignore")  # the compiler warns itself, and an error would break it
@pytest.mark.parametrize(
    ("dtype", "error"),
    [
        (torch.float32, 1e-6),
        pytest.param(torch.float64, 1e-12, marks=pytest.mark.slow),
    ],
    ids=["single", "double"],
)
def test_the_compiled_step_is_the_same_step(dtype: torch.dtype, error: float) -> None:
    torch.set_default_dtype(dtype)
    model = tiny_model()
    plain_step, plain = model.step, numbers(model)
    said = accelerate(model, compile="on", onednn=False)
    assert any("compiled" in line for line in said)
    assert model.step is not plain_step
    assert worst(numbers(model), plain) < error

    with torch.no_grad():  # which is not worth compiling
        compiled = model(images().to(dtype), noise=noise().to(dtype)).canvas
        model.step = plain_step
        assert torch.equal(compiled, model(images().to(dtype), noise=noise().to(dtype)).canvas)


@pytest.mark.parametrize("products", ["fp32", "bf16"])
def test_a_glimpse_computed_again_has_the_same_gradient(products: Literal["fp32", "bf16"]) -> None:
    model = tiny_model(prior="learned")
    accelerate(model, compile="off", products=products)
    plain = numbers(model)
    said = accelerate(model, compile="off", products=products, recompute=True)
    assert said[-1] == "each glimpse computed again in the backward pass, for less memory"
    assert worst(numbers(model), plain) < 1e-14
    with torch.no_grad():
        canvas = model(images(), noise=noise()).canvas
    assert torch.equal(canvas, plain["drawn"])


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_glimpse_computed_again_has_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.set_default_dtype(torch.float32)
    model = tiny_model()
    plain, kept = numbers(model), kept_for_backward(model, T)
    accelerate(model, compile="on", onednn=False, recompute=True)
    assert worst(numbers(model), plain) < 1e-6
    assert kept_for_backward(model, T) < kept


def kept_for_backward(model: DRAW, glimpses: int) -> int:
    """Numbers in memory between forward and backward: what autograd saves and every state."""
    kept: dict[int, Tensor] = {}
    step = model.step

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def watched(*args: Any) -> Any:
        *state, view = args[2]
        for tensor in (*state, *view):
            keep(tensor)
        return step(*args)

    model.step = watched
    x = images().to(model.canvas.dtype)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trace = model(x, noise=noise(glimpses=glimpses).to(x.dtype), record="last")
        bounds = elbo(x, trace)
    model.step = step
    assert bounds.requires_grad
    return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in kept.values())


def test_when_glimpses_are_computed_again_memory_grows_by_the_state_alone() -> None:
    model = tiny_model()
    per_glimpse = (kept_for_backward(model, T) - kept_for_backward(model, 1)) / (T - 1)
    accelerate(model, compile="off", recompute=True)
    again = (kept_for_backward(model, T) - kept_for_backward(model, 1)) / (T - 1)
    heads = 5 + 5 + C * WRITE**2
    state, latent = C * H * W + 2 * ENC + 2 * DEC + heads, 3 * Z
    assert again == B * (state + latent)
    assert again < per_glimpse / 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_fast_network_can_be_copied(copied: Any) -> None:
    model = tiny_model()
    accelerate(model, compile="on", recompute=True)
    copies = copied(model)
    with torch.no_grad():
        found = copies(images(), noise=noise()).canvas
        assert torch.equal(found, model(images(), noise=noise()).canvas)


def test_off_changes_no_bit() -> None:
    model = tiny_model()
    plain = numbers(model)
    assert not any("compile" in line for line in accelerate(model, compile="off"))
    assert isinstance(model.step, partial)
    assert_the_same(numbers(model), plain)

    torch.set_default_dtype(torch.float32)
    model = tiny_model()
    plain = numbers(model)
    assert accelerate(model, compile="off", onednn=False) == []
    assert_the_same(numbers(model), plain)


def test_without_a_compiler_it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    model = tiny_model()
    plain = numbers(model)
    said = accelerate(model, onednn=False)
    assert len(said) == 1
    assert "no C++ compiler found" in said[0]
    assert isinstance(model.step, partial)
    assert_the_same(numbers(model), plain)


def test_where_nothing_is_compiled_it_says_so() -> None:
    assert accelerate(tiny_model().to("meta"))[0].startswith("on meta: step not compiled")


@pytest.mark.filterwarnings("ignore")
def test_many_models_of_a_process_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    count = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count))
    for size in range(1, 11):
        model = DRAW(DRAWConfig((1, 3, 4), 1, enc_size=size, dec_size=2, z_size=2))
        accelerate(model, compile="on", onednn=False)
        model(torch.zeros(1, 1, 3, 4))
    assert count.frame_count == 10


def test_where_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not fast.has_compiler("cpu")
    assert not fast.has_compiler("mps")
    for name in ("my-compiler", "g++", "clang++"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(stat.S_IRWXU)
        assert fast.has_compiler("cpu") == (name != "my-compiler")
        monkeypatch.setenv("CXX", name)
        assert fast.has_compiler("cpu")
        monkeypatch.delenv("CXX")
        (tmp_path / name).unlink()


@pytest.mark.skipif(sys.platform == "darwin", reason="the headers are elsewhere")
def test_a_compiler_needs_the_headers_of_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "g++").write_text("")
    (tmp_path / "g++").chmod(stat.S_IRWXU)
    monkeypatch.setattr(fast.sysconfig, "get_path", lambda _: str(tmp_path))
    assert not fast.has_compiler("cpu")
    (tmp_path / "Python.h").write_text("")
    assert fast.has_compiler("cpu")


def test_the_compiler_for_a_gpu_is_looked_for_without_lightning() -> None:
    code = (
        "import sys, drawnet.fast as f; f.has_compiler('cuda:1'); print('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("choice", [{"compile": "yes"}, {"products": "bfloat16"}])
def test_choices_that_are_none(choice: Any) -> None:
    (name,) = choice
    with pytest.raises(ValueError, match=f"{name} must be one of auto, .*, got '{choice[name]}'"):
        accelerate(tiny_model(), **choice)


def test_rounded_products_give_nearly_the_same_gradient() -> None:
    """Of a network as it starts, in single precision; errors of 8 bits, which mostly cancel."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    model = DRAW(CONFIG)
    exact = numbers(model)
    said = accelerate(model, compile="off", products="bf16")
    assert said == ["matrix products in bfloat16"]
    switch = MATMUL.fp32_precision  # of those that are not rounded
    assert switch == ("bf16" if fast.route_to_onednn() else switch)
    rounded = numbers(model)
    a, b = (torch.cat([n[name].flatten() for name in model.state_dict()]) for n in (rounded, exact))
    assert 1e-5 < (a - b).norm() / b.norm() < 0.01
    assert 0 < worst({"": rounded["elbo"]}, {"": exact["elbo"]}) < 1e-3


@pytest.mark.parametrize("network", ["DRAW", "Twice"])
def test_rounded_products_refuse_second_derivatives(network: str) -> None:
    """Which would lack terms, since the rounded weight is a constant to torch."""
    torch.manual_seed(0)
    model, weights = {"DRAW": DRAW, "Twice": Twice}[network](CONFIG), ["mu.weight", "h_dec"]
    named = dict(model.named_parameters())
    for precision in (None, torch.float64):
        model.precision = precision
        loss = elbo(images(), model(images(), noise=noise())).mean()
        wanted = [named[name] for name in weights]
        if precision is None:
            first = torch.autograd.grad(loss, wanted, create_graph=True)
            assert all(grad.requires_grad for grad in first)
        else:
            with pytest.raises(RuntimeError, match="lower precision have no second derivatives"):
                torch.autograd.grad(loss, wanted, create_graph=True)


class Twice(DRAW):
    """Uses each of its products twice at a glimpse."""

    def plain_step(self) -> Any:
        return partial(twice, super().plain_step())


def twice(step: Any, products: Any, x: Tensor, state: Any, *latents: Any) -> Any:
    state, _ = step(products, x, state, *latents)
    return step(products, x, state, *latents)


@pytest.mark.parametrize("network", [DRAW, Twice])
def test_the_gradient_of_a_weight_is_that_of_all_glimpses(network: type[DRAW]) -> None:
    """Products rounded to double precision are exact, but take the way of rounded ones."""
    torch.manual_seed(0)
    model, length = network(CONFIG), TOGETHER + 2
    x, eps = images(), noise(glimpses=length)

    def found() -> dict[str, Tensor]:
        model.zero_grad()
        elbo(x, model(x, noise=eps)).mean().backward()
        return gradients(model)

    exact = found()
    model.precision = torch.float64
    assert worst(found(), exact) < 1e-12


def test_every_choice_can_be_taken_back() -> None:
    model = tiny_model()
    plain = numbers(model)
    accelerate(model, compile="on" if fast.has_compiler("cpu") else "off", products="bf16")
    accelerate(model, compile="off", products="bf16", recompute=True)
    accelerate(model, compile="off", products="fp32")
    assert isinstance(model.step, partial)
    assert_the_same(numbers(model), plain)


@pytest.mark.parametrize("has", [False, True])
def test_products_are_rounded_by_themselves_only_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    monkeypatch.setattr(fast, "has_bfloat16", lambda: has)
    model = tiny_model()
    accelerate(model, compile="off", products="auto")
    assert model.precision == (torch.bfloat16 if has else None)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_onednn_is_exact_or_not_used() -> None:
    torch.set_default_dtype(torch.float32)
    before, model = MATMUL.fp32_precision, tiny_model()
    plain = numbers(model)
    said = accelerate(model, compile="off")
    routed = said == ["matrix products by oneDNN"]
    assert MATMUL.fp32_precision == ("bf16" if routed else before)
    assert worst(numbers(model), plain) < 1e-6


def test_onednn_that_rounds_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors with matrix units: here, single precision keeps 8 bits when it is asked."""
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "float", lambda x: to(to(x, torch.bfloat16), torch.float32))
    before = MATMUL.fp32_precision
    assert not fast.route_to_onednn()
    assert MATMUL.fp32_precision == before
    assert accelerate(tiny_model(), compile="off") == []


def test_torch_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    before = MATMUL.fp32_precision
    assert not fast.route_to_onednn()
    assert MATMUL.fp32_precision == before


def page_faults(rounds: int = 8) -> int:
    """How often the system had to give a page, while 16 MB were taken and freed so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(2**24, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is of Linux")
def test_freed_memory_is_kept_and_nothing_else_changes() -> None:
    model = tiny_model()
    plain = numbers(model)
    if not fast.keep_freed_memory():
        pytest.skip("this Linux has no glibc")
    page_faults()
    assert page_faults() < 1000  # of 8 * 4096 pages
    assert_the_same(numbers(model), plain)


def test_denormal_numbers_are_flushed_in_every_thread() -> None:
    """In a process of its own, for it counts for the threads that start after it."""
    program = """
import torch
from drawnet import fast
torch.set_num_threads(2)
can = fast.flush_denormals()
tiny = torch.full((2_000_000,), 1e-30) * 1e-10
print(can, tiny.count_nonzero().item())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    can, left = done.stdout.split()
    if can == "False":
        pytest.skip("this processor cannot flush denormal numbers")
    assert left == "0", done.stderr


def test_elsewhere_freed_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not fast.keep_freed_memory()
