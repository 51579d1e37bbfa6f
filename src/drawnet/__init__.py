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

_MODULES = {
    *("attention", "baselines", "benchmark", "classify", "complete", "config", "data", "demo"),
    *("evaluate", "explore", "fast", "figures", "graphs", "likelihood", "model", "objective"),
    *("recipe", "step", "training", "visualise", "weights"),
}
_HOMES = {"DRAW": "model", "Trace": "model", "DRAWConfig": "config", "Window": "attention"}


def __getattr__(name: str) -> Any:
    """Import a public name or module when it is first used, so that ``drawnet --help`` needs no
    torch."""
    if name in _HOMES:
        return getattr(import_module(f"drawnet.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"drawnet.{name}")
    raise AttributeError(f"module 'drawnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__) | _MODULES)
