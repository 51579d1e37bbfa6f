"""Training on Lightning, made exact: see `train`.

Lightning brings the loop, the progress bar, many devices and many machines. This package adds what
it lacks: batches and noise that are functions of the seed and the step (`loader`), checkpoints that
nothing can spoil (`checkpoint`), and a watch that validates, saves and stops in order (`watch`).
Everything in drawnet that imports Lightning is here.
"""

from drawnet.training.checkpoint import CheckpointError
from drawnet.training.run import train
from drawnet.training.validate import Validation
from drawnet.training.watch import Diverged, Interrupted

__all__ = ["CheckpointError", "Diverged", "Interrupted", "Validation", "train"]
