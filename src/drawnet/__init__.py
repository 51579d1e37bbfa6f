"""DRAW, the deep recurrent attentive writer of Gregor et al. (ICML 2015), in PyTorch."""

from drawnet import attention, objective
from drawnet.attention import Window
from drawnet.model import DRAW, Trace
from drawnet.step import DRAWConfig

__all__ = ["DRAW", "DRAWConfig", "Trace", "Window", "attention", "objective"]
__version__ = "0.1.0"
