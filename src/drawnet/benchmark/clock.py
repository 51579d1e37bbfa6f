"""What a call takes: time and memory."""

import time
from collections.abc import Callable
from pathlib import Path

import torch


def timed(call: Callable[[], object], device: str, repeats: int = 1) -> tuple[float, float]:
    """Seconds of one call, by the clock and of this process's processors.

    Args:
        call: What to time.
        device: Where it works; its work is waited for.
        repeats: Calls to average over.
    """
    finish(device)
    clock, processors = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    finish(device)
    clock, processors = time.perf_counter() - clock, time.process_time() - processors
    return clock / repeats, processors / repeats


def finish(device: str) -> None:
    """Wait until a device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory(device: str) -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not tell."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # resource.getrusage counts what its parent had, too
    lines = status.read_text().splitlines() if status.is_file() else []
    kib = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((int(count) * 1024 for count in kib), None)
