"""DRAW, the deep recurrent attentive writer of Gregor et al. (ICML 2015), in PyTorch."""

__version__ = "0.1.0"
