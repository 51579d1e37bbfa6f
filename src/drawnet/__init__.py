"""DRAW, the deep recurrent attentive writer of Gregor et al. (ICML 2015), in PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawnet import attention, objective
    from drawnet.attention import Window
    from drawnet.config import DRAWConfig
    from drawnet.model import DRAW, Trace

__all__ = ["DRAW", "DRAWConfig", "Trace", "Window", "attention", "objective"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``drawnet --help`` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'drawnet' has no attribute {name!r}")
    home = {"DRAW": "model", "Trace": "model", "DRAWConfig": "config", "Window": "attention"}
    module = import_module(f"drawnet.{home.get(name, name)}")
    return getattr(module, name) if name in home else module


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
