"""How long-running work reports its progress."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being worked on, how much of it is done, and how much there is in all."""
