"""Training on Lightning, made exact: see `train`.

Lightning provides the loop, the progress bar, and several devices and machines. This package adds
what Lightning lacks: batches and noise that are functions of the seed and the step (`loader`),
checkpoints that nothing can spoil (`checkpoint`), and a callback that validates, saves and stops
cleanly (`watch`). All code in drawnet that imports Lightning is here.
"""

from drawnet.training.checkpoint import CheckpointError
from drawnet.training.run import train
from drawnet.training.validate import Validation
from drawnet.training.watch import Diverged, Interrupted

__all__ = ["CheckpointError", "Diverged", "Interrupted", "Validation", "train"]
