"""The table: all timings of one run, as text and as JSON."""

import json
import platform
import statistics
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import torch

from drawnet import __version__
from drawnet.benchmark.cases import Case, Prepare, cores, operations, plan
from drawnet.benchmark.turns import Timing, take_turns
from drawnet.processor import processor
from drawnet.progress import Progress

BUSY = 0.95
"""A machine is busy if a thread that always works gets less than this share of a processor."""

COLUMNS = (
    "threads",
    "ms",
    "+-",
    "CPU ms",
    "images/s",
    "/ floor",
    "plain /",
    "1 thr. /",
    "MiB",
    "first s",
)

KEY = """\
ms: median of the rounds, in which the rows of a part take turns; +-: half the distance between the
quartiles; CPU ms: CPU time of all threads together; / floor: ms divided by those of the products
alone; plain /: ms of the plain code divided by these; 1 thr. /: ms on one thread divided by these;
MiB: the most memory used, beyond importing torch; first s: the first call, with compilation."""


@dataclass(frozen=True)
class Machine:
    """The machine that the figures hold for. `gpu` is None if it has none."""

    processor: str
    instructions: str
    cores: int
    gpu: str | None
    torch: str
    python: str


@dataclass(frozen=True)
class Report:
    """All timings of one run, with the machine and the date."""

    version: str
    date: str
    machine: Machine
    timings: tuple[Timing, ...]


def benchmark(
    *,
    quick: bool = False,
    device: str | None = None,
    parts: Collection[str] = (),
    plain: Prepare | None = None,
    progress: Progress | None = None,
) -> Report:
    """Time training, evaluation and generation at the paper's sizes for MNIST, and at others.

    The measuring processes import the main program, so a script must call this and `measure` under
    ``if __name__ == "__main__":``.

    Args:
        quick: Whether to use chains of at most 8 glimpses, few rounds and few sizes, which takes
            only a minute or two.
        device: The device to run on; by default the GPU if there is one.
        parts: The parts of the table to measure, by name; by default all.
        plain: Prepares the plain code to compare with; by default its rows are left out.
        progress: Called with what is being timed, the number of cases done, and that of all cases.

    Raises:
        ValueError: If there is no part with such a name.
        RuntimeError: If the process of a case fails.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cases = plan(device, quick=quick, with_plain=plain is not None)
    known = list(dict.fromkeys(case.part for case in cases))
    for part in parts:
        if part not in known:
            raise ValueError(f"part must be one of {', '.join(known)}, got {part!r}")
    cases = [case for case in cases if not parts or case.part in parts]
    return measure(cases, rounds=3 if quick else 15, plain=plain, progress=progress)


def measure(
    cases: Sequence[Case],
    *,
    rounds: int,
    plain: Prepare | None = None,
    progress: Progress | None = None,
) -> Report:
    """Time cases; those of a part take turns.

    Args:
        cases: The cases to time, part by part.
        rounds: How many turns each case has, >= 1.
        plain: As for `benchmark`.
        progress: As for `benchmark`.

    Raises:
        RuntimeError: If the process of a case fails.
    """
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as cache:  # a new one, so that the first compilation is cold
        for part, group in groupby(cases, key=lambda case: case.part):
            if progress is not None:
                progress(part, len(timings), len(cases))
            timings += take_turns(list(group), rounds, plain, Path(cache))
    if progress is not None:
        progress("all", len(cases), len(cases))
    date = datetime.now(UTC).isoformat(timespec="minutes")
    return Report(__version__, date, machine(), tuple(timings))


def machine() -> Machine:
    """This machine."""
    return Machine(
        processor=processor(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        cores=cores(),
        gpu=gpu(),
        torch=torch.__version__,
        python=platform.python_version(),
    )


def gpu() -> str | None:
    """The GPU, and whether its products round to TF32, which they do not by default in torch."""
    if not torch.cuda.is_available():
        return None
    rounded = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return f"{torch.cuda.get_device_name()}, TF32 {'on' if rounded else 'off'}"


def to_json(report: Report) -> str:
    """The report as JSON, with every round of every case."""
    facts = asdict(report)
    for timing, row in zip(report.timings, facts["timings"], strict=True):
        row |= {"median": timing.median, "spread": timing.spread}
    return json.dumps(facts, indent=1)


def text(report: Report) -> str:
    """The report as a readable table."""
    on = report.machine
    lines = [
        f"drawnet {report.version}, {report.date}, torch {on.torch}, Python {on.python}",
        f"{on.processor}, {on.cores} cores, {on.instructions}; {on.gpu or 'no GPU'}",
        *KEY.splitlines(),
    ]
    alone = [t for t in report.timings if (t.case.device, t.case.threads) == ("cpu", 1)]
    shares = [sum(timing.processors) / sum(timing.seconds) for timing in alone]
    if shares and (got := statistics.median(shares)) < BUSY:
        lines.append(f"THE MACHINE WAS BUSY: a thread got {got:.0%} of a processor.")
    for part, group in groupby(report.timings, key=lambda timing: timing.case.part):
        timings = list(group)
        facts = [_facts(timing.case) for timing in timings]
        same = set.intersection(*map(set, facts))
        lines += ["", f"{part}: {', '.join(fact for fact in facts[0] if fact in same)}"]
        lines.append(_line("", COLUMNS))
        for timing, own in zip(timings, facts, strict=True):
            label = ", ".join(fact for fact in own if fact not in same) or timing.case.code
            lines.append(_line(label, _numbers(timing)))
    for timing in report.timings:
        if timing.case.code == "products alone":
            case, rate = timing.case, operations(timing.case) / timing.median / 1e9
            lines += ["", f"products alone, threads {case.threads}: {rate:.0f} GFLOP/s"]
    return "\n".join(lines)


def _facts(case: Case) -> list[str]:
    config = case.config
    channels, height, width = config.image_shape
    return [
        case.task,
        case.code,
        f"{channels}x{height}x{width}",
        f"T = {config.glimpses}",
        f"{config.enc_size}/{config.dec_size}/{config.z_size}",
        f"N = {config.read_size}/{config.write_size}",
        f"batch {case.batch}",
        f"on {case.device}",
    ]


def _numbers(timing: Timing) -> list[str]:
    case, seconds = timing.case, timing.median
    return [
        str(case.threads),
        f"{1e3 * seconds:.2f}",
        f"{1e3 * timing.spread:.2f}",
        f"{1e3 * statistics.median(timing.processors):.2f}",
        f"{case.batch / seconds:.0f}",
        "" if timing.floor is None else f"{seconds / timing.floor:.2f}",
        "" if timing.plain is None else f"{timing.plain / seconds:.2f}",
        "" if timing.one_thread is None else f"{timing.one_thread / seconds:.2f}",
        "" if timing.memory is None else f"{timing.memory / 2**20:.0f}",
        f"{timing.first:.2f}",
    ]


def _line(label: str, cells: Sequence[str]) -> str:
    return f"  {label:20}" + "".join(f"{cell:>10}" for cell in cells)
