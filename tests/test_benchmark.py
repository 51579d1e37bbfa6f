"""The benchmark measures what it says, and says what it measured."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from commands import load_script
from tiny import CONFIG, B, T
from torch.utils.flop_counter import FlopCounterMode

from drawnet import DRAWConfig
from drawnet.benchmark import (
    Case,
    Machine,
    Report,
    Timing,
    benchmark,
    cases,
    measure,
    plan,
    text,
    to_json,
    turns,
)
from drawnet.benchmark.cases import Call, operations, ours, shapes
from drawnet.benchmark.clock import peak_memory, timed
from drawnet.benchmark.report import gpu

CASE = Case("part", "train", "eager", CONFIG, batch=B)
SPEED = Path(__file__).parents[1] / "benchmarks" / "speed.py"


def multiplied(call: Call) -> tuple[int, int]:
    """Operations of a call in products of matrices, and in products of batches of them."""
    with FlopCounterMode(display=False) as counter:
        call()
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    batched = counts.pop("aten.bmm", 0)
    return sum(counts.values()), batched


def test_the_matrices_of_the_papers_network() -> None:
    assert shapes(DRAWConfig()) == [
        (4 * 256, 2 * 2 * 2 + 256 + 256),
        (2 * 100, 256),
        (4 * 256, 100 + 256),
        (5 + 5 + 25, 256),
    ]


def test_the_floor_is_the_products_of_a_training_step() -> None:
    alone, batched = multiplied(ours(replace(CASE, code="products alone")))
    assert alone == operations(CASE)
    assert batched == 0
    training, attention = multiplied(ours(CASE))
    outputs, inputs = shapes(CONFIG)[-1]  # and what is read off the state before the first glimpse
    assert training == operations(CASE) + 3 * 2 * B * outputs * inputs
    assert attention > 0


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, read_size=None, prior="learned")])
def test_every_task_does_its_work(config: DRAWConfig) -> None:
    case = replace(CASE, config=config)
    assert multiplied(ours(replace(case, task="evaluate")))[0] < multiplied(ours(case))[0] / 2
    for task, shape in {"evaluate": (B,), "generate": (B, *config.image_shape)}.items():
        found = ours(replace(case, task=task))()
        assert isinstance(found, torch.Tensor)
        assert found.shape == shape
        assert not found.requires_grad
    x, _ = ours(replace(case, task="load"))()
    assert x.shape == (B, *config.image_shape)
    assert set(x.unique().tolist()) == {0, 1}


def slow(case: Case) -> Call:
    """Stands for plain code: this module is imported by the processes that measure."""
    if case.batch == 1:
        raise ValueError("one is not a batch")
    if case.batch == 2:
        os._exit(3)
    return lambda: sum(range(2_000_000))


def test_measuring_in_turns() -> None:
    lines = [CASE, replace(CASE, code="plain"), replace(CASE, code="products alone")]
    other = replace(CASE, part="other", task="load")
    heard: list[tuple[str, int, int]] = []
    report = measure(
        [*lines, other], rounds=3, plain=slow, progress=lambda *said: heard.append(said)
    )
    assert [timing.case for timing in report.timings] == [*lines, other]
    assert heard == [("part", 0, 4), ("other", 3, 4), ("all", 4, 4)]
    eager, plain, floor, load = report.timings
    for timing in report.timings:
        assert len(timing.seconds) == len(timing.processors) == 3
        assert 0 < min(timing.seconds) <= timing.median <= max(timing.seconds)
        assert (timing.memory is None) == (peak_memory("cpu") is None)
        assert timing.one_thread is None
    for timing in (eager, plain, floor):
        assert (timing.floor, timing.plain) == (floor.median, plain.median)
    assert load.floor is load.plain is None
    assert eager.first > eager.median > floor.median

    facts = json.loads(to_json(report))
    assert facts["machine"]["torch"] == torch.__version__
    assert facts["timings"][0]["median"] == eager.median
    assert facts["timings"][0]["case"]["config"]["glimpses"] == T
    assert f"{1e3 * eager.median:.2f}" in text(report)


def test_a_call_among_several_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Mock(perf_counter=Mock(side_effect=[1, 9]), process_time=Mock(side_effect=[2, 6]))
    monkeypatch.setattr("drawnet.benchmark.clock.time", clocks)
    call = Mock()
    assert timed(call, "cpu", repeats=4) == (2, 1)
    assert call.call_count == 4


def test_memory_is_what_was_taken_beyond_importing_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setattr(turns, "peak_memory", Mock(side_effect=[10, 30]))
    pipe = Mock(recv=Mock(side_effect=[True, False]))
    turns._work(pipe, CASE, lambda case: lambda: None, tmp_path)
    first, turn, memory = (call.args[0] for call in pipe.send.call_args_list)
    assert first > 0
    assert len(turn) == 2
    assert memory == 20


def test_two_threads_are_compared_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def worker(case: Case, *_: Any) -> Iterator[turns._Worker]:
        seconds = (4.0 if case.code == "eager" else 2.0) / case.threads
        heard = [9.0, (seconds, 5.0), (seconds, 5.0), 7]
        yield turns._Worker(case, Mock(), Mock(recv=Mock(side_effect=heard)))

    monkeypatch.setattr(turns, "_worker", worker)
    alone = replace(CASE, code="products alone")
    lines = [CASE, alone, *(replace(case, threads=2) for case in (CASE, alone))]
    found = turns.take_turns(lines, 2, None, Path())
    assert [timing.median for timing in found] == [4, 2, 2, 1]
    assert [timing.floor for timing in found] == [2, 2, 1, 1]
    assert [timing.one_thread for timing in found] == [None, None, 4, 2]
    assert {(timing.first, timing.memory) for timing in found} == {(9, 7)}


@pytest.mark.parametrize(("batch", "message"), [(1, "one is not a batch"), (2, "code 3")])
def test_a_case_that_fails(batch: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        measure([replace(CASE, code="plain", batch=batch)], rounds=1, plain=slow)


def timing(case: Case, *seconds: float) -> Timing:
    return Timing(case, seconds, 2.0, 3 * 2**20, tuple(s * case.threads for s in seconds))


def test_the_table() -> None:
    two = replace(CASE, threads=2)
    timings = (
        replace(timing(CASE, 0.04, 0.05, 0.08), floor=0.02, plain=0.1),
        replace(timing(two, 0.025), floor=None, one_thread=0.05),
        timing(replace(CASE, part="chain", config=replace(CONFIG, glimpses=2)), 0.01),
        timing(replace(CASE, part="chain", config=replace(CONFIG, glimpses=4)), 0.02),
        timing(replace(CASE, part="floor", code="products alone"), operations(CASE) / 5e9),
    )
    on = Machine("A processor", "SOME", 2, None, "2.13.0", "3.11.7")
    quiet = text(Report("1.2.3", "2025-01-02T03:04+00:00", on, timings)).splitlines()
    assert quiet[:2] == [
        "drawnet 1.2.3, 2025-01-02T03:04+00:00, torch 2.13.0, Python 3.11.7",
        "A processor, 2 cores, SOME; no GPU",
    ]
    rows = [" ".join(line.split()) for line in quiet if line.startswith("  ")]
    assert [row for row in rows if not row.startswith("threads")] == [
        "eager 1 50.00 10.00 50.00 100 2.50 2.00 3 2.00",
        "eager 2 25.00 0.00 50.00 200 2.00 3 2.00",
        "T = 2 1 10.00 0.00 10.00 500 3 2.00",
        "T = 4 1 20.00 0.00 20.00 250 3 2.00",
        f"products alone 1 {operations(CASE) / 5e6:.2f} 0.00 {operations(CASE) / 5e6:.2f} "
        f"{B * 5e9 / operations(CASE):.0f} 3 2.00",
    ]
    assert "chain: train, eager, 3x11x8, 10/9/7, N = 2/4, batch 5, on cpu" in quiet
    assert quiet[-1] == "products alone, threads 1: 5 GFLOP/s"
    assert not any("BUSY" in line for line in quiet)

    shared = tuple(replace(t, processors=tuple(s / 2 for s in t.seconds)) for t in timings)
    busy = text(Report("1.2.3", "2025-01-02T03:04+00:00", replace(on, gpu="A GPU"), shared))
    assert "THE MACHINE WAS BUSY: a thread got 50% of a processor." in busy
    assert "; A GPU\n" in busy


def codes(planned: list[Case]) -> set[str]:
    return {case.code for case in planned}


def test_a_gpu_says_how_it_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (gpu() is None) == (not torch.cuda.is_available())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert gpu() == "Some GPU, TF32 off"
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        assert gpu() == "Some GPU, TF32 on"
    finally:
        matmul.fp32_precision = before


def test_the_plan_compares_like_with_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "has_compiler", lambda device: True)
    monkeypatch.setattr(cases, "cores", lambda: 8)
    full = plan("cpu", with_plain=True)
    assert len(set(full)) == len(full)
    step = [case for case in full if case.part == "training step"]
    assert {(case.code, case.threads) for case in step} == {
        (code, threads)
        for code in ("plain", "eager", "compiled", "compiled, bf16", "products alone")
        for threads in (1, 2)
    }
    assert {(case.config, case.batch) for case in step} == {(DRAWConfig(), 128)}
    assert codes(plan("cpu")) == codes(full) - {"plain"}
    assert max(case.batch for case in full) == 512

    quick = plan("cpu", quick=True, with_plain=True)
    assert codes(quick) == codes(full)
    assert max(case.config.glimpses for case in quick) == 8

    on_gpu = plan("cuda")
    assert {case.threads for case in on_gpu} == {1}
    assert max(case.batch for case in on_gpu) == 1024
    assert codes(on_gpu) == codes(plan("cpu")) | {"graphs", "graphs, bf16"}
    for case in on_gpu:
        assert case.device == "cuda"
        assert case.task == "train" or case.code == "eager"
        assert case.code == "graphs" or "scaling" not in case.part

    monkeypatch.setattr(cases, "has_compiler", lambda device: False)
    assert codes(plan("cpu")) == {"eager", "products alone"}
    assert codes(plan("cuda")) == {"eager", "graphs", "graphs, bf16", "products alone"}


@pytest.fixture
def speed() -> ModuleType:
    return load_script(SPEED)


def test_the_plain_code_is_asked_for_the_same_work(speed: ModuleType) -> None:
    training, attention = multiplied(speed.plain(CASE))
    assert training >= operations(CASE)
    assert attention > 0
    assert speed.plain(replace(CASE, task="evaluate"))().shape == (B,)
    drawn = speed.plain(replace(CASE, task="generate"))()
    assert len(drawn) == T
    assert drawn[-1].shape == (B, *CONFIG.image_shape)


def test_a_part_of_the_table_by_name() -> None:
    report = benchmark(quick=True, device="cpu", parts=["images"])
    assert [timing.case.part for timing in report.timings] == ["images"]
    with pytest.raises(ValueError, match=r"part must be one of training step, .*, got 'image'"):
        benchmark(parts=["image"])
