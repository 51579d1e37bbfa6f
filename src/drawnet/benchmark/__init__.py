"""How fast the network is on this machine, compared with the best that the machine could do.

A training step is compared with its *floor*: the time of its matrix products alone, forward and
backward, with each shape in the fastest library available. Nothing that computes the same numbers
takes less time, so what a step takes beyond its floor is all that can still be saved.

The speed of a machine varies: its clock rises and falls, and other programs come and go. So the
cases that are to be compared take turns, round by round, and the median of the rounds counts. Every
case runs in a process of its own. Its choice of libraries and threads does not affect the others,
the peak of memory is that of one case, and a compiler starts as cold as it does for a user.

`docs/performance.md` explains the figures.
"""

from drawnet.benchmark.cases import Case, plan
from drawnet.benchmark.report import Machine, Report, benchmark, measure, text, to_json
from drawnet.benchmark.turns import Timing

__all__ = [
    "Case",
    "Machine",
    "Report",
    "Timing",
    "benchmark",
    "measure",
    "plan",
    "text",
    "to_json",
]
