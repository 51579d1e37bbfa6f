"""The cases to time, and how each is prepared."""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from drawnet import objective
from drawnet.benchmark.clock import timed
from drawnet.config import DRAWConfig
from drawnet.data import Images
from drawnet.data.views import binarized
from drawnet.fast import accelerate, has_compiler, route_to_onednn
from drawnet.graphs import graphed
from drawnet.model import DRAW

Task: TypeAlias = Literal["train", "evaluate", "generate", "load"]
Code: TypeAlias = Literal[
    "plain", "eager", "compiled", "compiled, bf16", "graphs", "graphs, bf16", "products alone"
]


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        part: The part of the table that it belongs to. The cases of a part take turns.
        task: ``"train"``: a step, including Adam; ``"evaluate"``: the bound of a batch, without
            gradients; ``"generate"``: a batch from the prior; ``"load"``: a batch of stored images,
            binarized afresh.
        code: ``"plain"`` is other code to compare with; ``"compiled, bf16"`` rounds the operands
            of its matrix products; ``"graphs"`` uses CUDA graphs of steps, which are compiled if
            there is a compiler; ``"products alone"`` is the floor.
        config: The sizes of the network.
        batch: Images at a time.
        threads: The number of CPU threads.
        device: The device that it runs on.
    """

    part: str
    task: Task
    code: Code
    config: DRAWConfig = DRAWConfig()
    batch: int = 128
    threads: int = 1
    device: str = "cpu"


Call: TypeAlias = Callable[[], object]
Prepare: TypeAlias = Callable[[Case], Call]
"""A function that prepares a case and returns the call to time; it must be importable by name."""


def plan(device: str, *, quick: bool = False, with_plain: bool = False) -> list[Case]:
    """The cases of the table, part by part.

    Args:
        device: The device to run on.
        quick: Whether to use only chains of at most 8 glimpses, one thread and few sizes.
        with_plain: Whether there is plain code to compare with.
    """
    config = DRAWConfig(glimpses=8 if quick else 64)
    compiles = has_compiler(device)
    plain: list[Code] = ["plain"] if with_plain else []
    fast: list[Code] = ["compiled", "compiled, bf16"] if compiles else []
    best: Code = "compiled" if compiles and not quick else "eager"
    if device.startswith("cuda"):
        fast += ["graphs", "graphs, bf16"]
        best = "graphs"
    base = Case("training step", "train", best, config, device=device)
    cases = [
        replace(base, code=code, threads=threads)
        for threads in ([1] if quick or device != "cpu" or cores() < 2 else [1, 2])
        for code in (*plain, "eager", *fast, "products alone")
    ]
    if compiles:
        cases.append(replace(base, part="compiled before", code="compiled"))
    cases += [
        replace(base, part="without gradients", task=task, code=code)
        for task in ("evaluate", "generate")
        for code in (*plain, "eager")  # only training is compiled
    ]
    cases.append(replace(base, part="images", task="load", code="eager"))
    for glimpses in [2, 8] if quick else [8, 16, 32, 64]:
        sizes = replace(config, glimpses=glimpses)
        cases.append(replace(base, part="scaling in the chain", config=sizes))
    if quick:
        return cases
    for batch in [32, 64, 128, 256, 512] + [1024] * (device != "cpu"):
        cases.append(replace(base, part="scaling in the batch", batch=batch))
    for side in [28, 64, 100]:
        sizes = replace(config, image_shape=(1, side, side))
        cases.append(replace(base, part="scaling in the image", config=sizes))
    for size in [2, 5, 12]:
        sizes = replace(config, read_size=size, write_size=size)
        cases.append(replace(base, part="scaling in the window", config=sizes))
    return cases


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ours(case: Case) -> Call:
    """Prepare a case with the code of this package."""
    if case.code == "products alone":
        return products_alone(case)
    device, shape = torch.device(case.device), case.config.image_shape
    if case.task == "load":
        pixels = torch.randint(256, (10_000, *shape), dtype=torch.uint8, device=device)
        stored = Images(pixels, None, "noise", "train", "noise", view=binarized)
        return lambda: stored.batch(torch.randint(len(stored), (case.batch,), device=device))
    model = DRAW(case.config).to(device)
    code, _, rounded = case.code.partition(", ")
    accelerate(
        model,
        compile="off" if code == "eager" else "auto",
        products="bf16" if rounded else "fp32",
    )
    x = torch.rand(case.batch, *shape, device=device)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def losses(model: DRAW, x: Tensor, noise: Tensor) -> Tensor:
        return -objective.elbo(x, model(x, noise=noise, record="last"))

    learn = graphed(losses) if code == "graphs" else losses

    def train() -> None:
        noise = torch.randn(case.config.glimpses, case.batch, case.config.z_size, device=device)
        adam.zero_grad()
        learn(model, x, noise).mean().backward()
        adam.step()

    @torch.no_grad()
    def evaluate() -> Tensor:
        return objective.elbo(x, model(x, record="last"))

    @torch.no_grad()
    def generate() -> Tensor:
        return model.generate(case.batch).mean

    calls: dict[Task, Call] = {"train": train, "evaluate": evaluate, "generate": generate}
    return calls[case.task]


def products_alone(case: Case) -> Call:
    """Prepare the matrix products of a training step in single precision, and nothing else.

    For each matrix these are the forward product, the gradient of the input and the gradient of the
    weight, T times. On a CPU, each product is computed by MKL or oneDNN, whichever is faster in
    five tries. On a GPU, cuBLAS computes them all in one CUDA graph.
    """
    device, matmul = torch.device(case.device), torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    libraries = [matmul.fp32_precision]
    if device.type == "cpu" and route_to_onednn():
        libraries.append(matmul.fp32_precision)

    def multiply(a: Tensor, b: Tensor, out: Tensor, library: str) -> None:
        matmul.fp32_precision = library
        for _ in range(case.config.glimpses):
            torch.mm(a, b, out=out)

    def median(a: Tensor, b: Tensor, out: Tensor, library: str) -> float:
        tries = (timed(lambda: multiply(a, b, out, library), device.type) for _ in range(5))
        return statistics.median(seconds for seconds, _ in tries)

    chosen = []
    for outputs, inputs in shapes(case.config):
        weight = torch.randn(outputs, inputs, device=device)
        x = torch.randn(case.batch, inputs, device=device)
        gradient = torch.randn(case.batch, outputs, device=device)
        for a, b in [(x, weight.t()), (gradient, weight), (gradient.t(), x)]:
            out = a @ b
            fastest = min(libraries, key=lambda library: median(a, b, out, library))
            chosen.append((a, b, out, fastest))

    def all_of_them() -> None:
        for product in chosen:
            multiply(*product)

    if device.type != "cuda":
        return all_of_them
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        all_of_them()

    def replay() -> None:
        assert chosen  # the graph does not keep its operands
        graph.replay()

    return replay


def shapes(config: DRAWConfig) -> list[tuple[int, int]]:
    """The sizes (outputs, inputs) of the matrices that a step multiplies by."""
    with torch.device("meta"):
        fused = DRAW(config).fuse()
    products = (fused.encoder, fused.latent, fused.decoder, fused.heads)
    return [(len(product.weight), product.weight.shape[1]) for product in products]


def operations(case: Case) -> int:
    """How many multiplications and additions the matrix products of a training step take."""
    once = sum(outputs * inputs for outputs, inputs in shapes(case.config))
    return 2 * 3 * once * case.batch * case.config.glimpses
