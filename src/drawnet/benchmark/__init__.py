"""How fast the network is on this machine, beside what the machine could do at best.

The yardstick of a training step is its *floor*: the time of its matrix products alone, forward and
backward, each shape by itself in the fastest library at hand. Nothing that computes the same
numbers takes less; what a step takes beyond it is what may still be saved.

Machines have moods: clocks rise and fall, other programs come and go. So what is to be compared
takes turns, round by round, and the median of the rounds counts. Every case runs in a process of
its own: libraries and pools of threads are switched there without a trace in the others, the peak
of memory is that of one case, and a compiler starts as cold as it does for a user.

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
