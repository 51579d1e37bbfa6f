"""Measure the time and the memory that a call takes."""

import time
from collections.abc import Callable
from pathlib import Path

import torch


def timed(call: Callable[[], object], device: str, repeats: int = 1) -> tuple[float, float]:
    """The seconds that one call takes, by the clock and in CPU time of this process.

    Args:
        call: What to time.
        device: The device that it works on; its work is waited for.
        repeats: How many calls to average over.
    """
    finish(device)
    clock, processors = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    finish(device)
    clock, processors = time.perf_counter() - clock, time.process_time() - processors
    return clock / repeats, processors / repeats


def finish(device: str) -> None:
    """Wait until a device has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_memory(device: str) -> int | None:
    """The most memory that this process has used, in bytes; None if the system does not tell."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")  # resource.getrusage also counts what its parent used
    lines = status.read_text().splitlines() if status.is_file() else []
    kib = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((int(count) * 1024 for count in kib), None)
