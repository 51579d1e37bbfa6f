"""How to run a chain fast: ways for a machine to compute the few matrix products of a glimpse.

The model stays the same. `accelerate` only chooses how its numbers are computed.
`docs/performance.md` has the measurements behind each choice.
"""

import ctypes
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils._triton import has_triton
from torch.utils.checkpoint import checkpoint

from drawnet.classify import GlimpseClassifier
from drawnet.model import DRAW
from drawnet.weights import Pretrained


def accelerate(
    model: Pretrained,
    *,
    compile: Literal["auto", "on", "off"] = "auto",
    products: Literal["auto", "fp32", "bf16"] = "fp32",
    onednn: bool = True,
    recompute: bool = False,
) -> list[str]:
    """Choose the fast path of a model on its device.

    On a CPU this also does, for the whole process, what `keep_freed_memory`, `flush_denormals` and
    `route_to_onednn` do, and no later call undoes it. So call this before you work on large
    tensors.

    Args:
        model: The model, already on the device that it will run on. One without glimpses is left as
            it is.
        compile: Compile the step for training with `torch.compile`, which takes 20 to 30 seconds
            once and is cached on disk. ``"auto"`` compiles if there is a compiler.
        products: ``"bf16"`` rounds the operands and the results of the matrix products to
            bfloat16, and nothing else. They take about half the time on a processor that has
            bfloat16, and add 0.1 % of noise to the gradient. ``"auto"`` rounds on a CPU that has
            it. The transforms of `torch.func` need ``"fp32"``; second derivatives also need
            ``compile="off"``.
        onednn: Let oneDNN compute the products of a CPU where that is exact. MKL, torch's default,
            takes slower paths on processors that are not Intel's.
        recompute: Keep only the state after each glimpse, and compute the rest again in the
            backward pass: a third or a quarter of the memory for half as much time again. For
            large images and long chains.

    Returns:
        What was chosen, one line each, for a program to print.

    Raises:
        ValueError: If a choice is none of those above.
    """
    for name, value, choices in (
        ("compile", compile, ("auto", "on", "off")),
        ("products", products, ("auto", "fp32", "bf16")),
    ):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    device = next(model.parameters()).device.type
    said: list[str] = []
    if device == "cpu":
        keep_freed_memory()
        flush_denormals()
    if not isinstance(model, DRAW | GlimpseClassifier):
        return said
    if products == "auto":
        products = "bf16" if device == "cpu" and has_bfloat16() else "fp32"
    model.precision = torch.bfloat16 if products == "bf16" else None
    if products == "bf16":
        said.append("matrix products in bfloat16")
    # With bf16 as well, for those products on a CPU that are not rounded.
    if device == "cpu" and onednn and route_to_onednn() and products == "fp32":
        said.append("matrix products by oneDNN")
    model.step = model.plain_step()  # undoes an earlier choice
    if compile == "on" or (compile == "auto" and has_compiler(device)):
        model.step = Compiled(model.step)
        said.append("step compiled (20 to 30 s the first time)")
    elif compile == "auto":
        needs = {"cpu": "C++ compiler", "cuda": "Triton or C compiler"}.get(device)
        missing = f"no {needs} found, or no Python headers (python3-dev)"
        said.append(
            f"{missing if needs else f'on {device}'}: "
            "step not compiled, which is slower but gives the same numbers"
        )
    if recompute:
        model.step = partial(recomputed, model.step)
        said.append("each glimpse computed again in the backward pass, for less memory")
    return said


class Compiled:
    """The step, compiled where gradients are wanted; elsewhere compiling would not pay.

    It is compiled once for each batch size. A copy or a pickle holds the plain step and compiles it
    anew.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        self.fast = torch.compile(step, dynamic=False)
        # By default torch stops compiling a function after 8 variants, and to it the steps of all
        # models and batch sizes of a process are variants of one function.
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, 64)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self.fast if torch.is_grad_enabled() else self.step)(*args, **kwargs)

    def __reduce__(self) -> tuple[type, tuple[Callable[..., Any]]]:
        return Compiled, (self.step,)


def recomputed(step: Callable[..., Any], *args: Any) -> Any:
    """Run the step so that the backward pass computes its inner values again, instead of keeping
    them."""
    if not torch.is_grad_enabled():
        return step(*args)
    return checkpoint(step, *args, use_reentrant=False, preserve_rng_state=False)


def has_compiler(device: str) -> bool:
    """Whether `torch.compile` has what it needs to build code for a device, such as cuda:1."""
    kind = torch.device(device).type
    if kind == "cpu":
        names = ("cl",) if sys.platform == "win32" else ("g++", "clang++")
        compilers: tuple[str | None, ...] = (os.environ.get("CXX"), *names)
    elif kind == "cuda" and has_triton():  # Triton compiles the launchers of its kernels
        compilers = (os.environ.get("CC"), "gcc", "clang")
    else:
        return False
    found = any(shutil.which(name) for name in compilers if name)
    # Apple's Python has its headers elsewhere, where torch looks for them.
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return found and (headers.exists() or sys.platform == "darwin")


def has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; if not, that is slower than single precision."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next step, instead of handing it back to the system.

    Every training step frees what the backward pass needed, some tens of megabytes. By default that
    memory goes back to the system, which clears it page by page when the next step asks for it
    again. This takes a tenth of the time of a step.

    Returns:
        Whether there is a glibc that does so.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if not mallopt(mmap_threshold, 2**30):
        mallopt(mmap_threshold, 2**25)  # the most that older versions take
    return bool(mallopt(trim_threshold, 2**31 - 1))


def flush_denormals() -> bool:
    """Let the processor treat numbers closer to zero than 1e-38 as zero.

    The tails of Gaussian filters, and products of them, are such *denormal* numbers, for which an
    Intel processor takes a hundred times as long as for others. What they would add to a result
    is far below its rounding.

    This applies to the current thread and those that it starts. torch starts its threads at the
    first large operation, so call this, or `accelerate`, before that.

    Returns:
        Whether the processor can do this.
    """
    return torch.set_flush_denormal(True)


def route_to_onednn() -> bool:
    """Let oneDNN compute this process's products in single precision, if it does so exactly.

    torch's switch for this also allows oneDNN to round to bfloat16, which it does only on
    processors that have matrix units for that (AMX). So one product is tried first, and the switch
    is taken back if the result is not exact.

    While the switch is on, `torch.get_float32_matmul_precision`, which Lightning calls on a GPU,
    raises a `RuntimeError`. ``torch.backends.mkldnn.matmul.fp32_precision = "none"`` turns it off.

    Returns:
        Whether oneDNN computes them now.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if not torch.backends.mkldnn.is_available():
        return False
    a = torch.linspace(-1, 1, 128 * 256, dtype=torch.float64).view(128, 256)
    b = torch.linspace(1, -2, 256 * 512, dtype=torch.float64).view(256, 512).sin()
    matmul.fp32_precision = "bf16"
    exact = a @ b
    error = (a.float() @ b.float() - exact).norm() / exact.norm()
    if error > 1e-6:
        matmul.fp32_precision = before
        return False
    return True
