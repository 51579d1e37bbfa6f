"""Time cases in processes that take turns."""

import contextlib
import multiprocessing
import os
import statistics
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from drawnet.benchmark.cases import Case, Prepare, ours
from drawnet.benchmark.clock import peak_memory, timed

SHORTEST = 0.1
"""The shortest turn in seconds; short calls are repeated to fill it."""


@dataclass(frozen=True)
class Timing:
    """How long a case took.

    Attributes:
        case: What was run.
        seconds: The seconds per call, for each round.
        first: The seconds of the first call, including compilation if there is any.
        memory: The most memory that the case took, in bytes. On a CPU this is the memory of its
            process beyond importing torch, which for compiled code includes the compiler. None if
            the system does not tell.
        processors: The seconds of CPU time per call, for each round: of all threads together, and
            without the time that other programs took.
        floor: The seconds of the matrix products alone in the same rounds, if they were measured.
        plain: The seconds of the plain code, likewise.
        one_thread: The seconds of the same code on one thread, likewise.
    """

    case: Case
    seconds: tuple[float, ...]
    first: float
    memory: int | None
    processors: tuple[float, ...]
    floor: float | None = None
    plain: float | None = None
    one_thread: float | None = None

    @property
    def median(self) -> float:
        """The median over the rounds of the seconds per call."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the rounds, in seconds per call."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2


def take_turns(
    cases: Sequence[Case], rounds: int, plain: Prepare | None, cache: Path
) -> list[Timing]:
    """Time cases, each in a process of its own, round by round.

    Args:
        cases: The cases to time.
        rounds: How many turns each case has, >= 1.
        plain: Prepares the cases of plain code.
        cache: The folder to keep compiled code in.

    Raises:
        RuntimeError: If the process of a case fails.
    """
    with contextlib.ExitStack() as stack:
        workers, firsts = [], []
        for case in cases:  # one after another, so that no first call disturbs another
            prepare = plain if case.code == "plain" and plain is not None else ours
            workers.append(stack.enter_context(_worker(case, prepare, cache)))
            firsts.append(workers[-1].hear())
        turns = [[worker.turn() for worker in workers] for _ in range(rounds)]
        timings = []
        for worker, first, mine in zip(workers, firsts, zip(*turns, strict=True), strict=True):
            clock, processors = zip(*mine, strict=True)
            worker.pipe.send(False)
            timings.append(Timing(worker.case, clock, first, worker.hear(), processors))
    medians = {timing.case: timing.median for timing in timings}
    return [
        replace(
            timing,
            floor=medians.get(replace(timing.case, code="products alone")),
            plain=medians.get(replace(timing.case, code="plain")),
            one_thread=medians.get(replace(timing.case, threads=1))
            if timing.case.threads > 1
            else None,
        )
        for timing in timings
    ]


class _Worker(NamedTuple):
    case: Case
    process: BaseProcess
    pipe: "Connection[Any, Any]"

    def turn(self) -> tuple[float, float]:
        """Let it work for a round; return the seconds per call, by the clock and in CPU time."""
        self.pipe.send(True)
        clock, processors = self.hear()
        return clock, processors

    def hear(self) -> Any:
        """Wait for its next message, and return it."""
        try:
            answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            answer = f"its process ended with code {self.process.exitcode}"
        if isinstance(answer, str):
            raise RuntimeError(f"{self.case} failed: {answer}")
        return answer


@contextlib.contextmanager
def _worker(case: Case, prepare: Prepare, cache: Path) -> Iterator[_Worker]:
    """Run a process that prepares a case, calls it a first time, and waits for its turns."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, case, prepare, cache))
    process.start()
    there.close()
    try:
        yield _Worker(case, process, here)
    finally:
        here.close()  # this ends the process
        process.join()


def _work(pipe: "Connection[Any, Any]", case: Case, prepare: Prepare, cache: Path) -> None:
    """Do the work of a worker's process."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    try:
        if (device := torch.device(case.device)).type == "cuda":
            torch.cuda.set_device(device.index or 0)  # CUDA graphs use the current device
        before = peak_memory(case.device)
        call = prepare(case)
        first, _ = timed(call, case.device)
        timed(call, case.device)
        second, _ = timed(call, case.device)
        repeats = max(1, round(SHORTEST / second))
        pipe.send(first)
        while pipe.recv():
            pipe.send(timed(call, case.device, repeats))
        after = peak_memory(case.device)
        pipe.send(None if before is None or after is None else after - before)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # nobody is listening any more
    except Exception:
        pipe.send(traceback.format_exc())
