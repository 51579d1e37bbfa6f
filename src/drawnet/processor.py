"""The name of the processor."""

import platform
from pathlib import Path


def processor() -> str:
    """The name of the CPU, as people know it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
