"""The pages of the documentation, and the Python on them."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The blocks of Python on a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def run(page: Path) -> dict[str, Any]:
    """Run a page from its first block to its last: the names that they leave behind."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if "demo.launch(" not in block:  # which serves until it is interrupted
            exec(compile(block, str(page), "exec"), names)
            check_shapes(block, names)
    return names


def check_shapes(block: str, names: dict[str, Any]) -> None:
    """Compare the shapes in the comments of a block that has run, such as ``x = f()  # (2, 3)``."""
    commented = re.compile(r"(?:(\w+) = )?(\S.*?)  # ((?:\([\d, ]+\)(?:, )?)+)")
    for line in block.splitlines():
        if found := commented.match(line):
            name, expression, told = found.groups()
            value = eval(name or expression, names)
            shape = tuple(getattr(value, "shape", value))
            assert shape == ast.literal_eval(told.rstrip(", ")), line


def commands(page: Path) -> list[list[str]]:
    """The `drawnet` commands in the shell blocks of a page, without "drawnet"."""
    shells = re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = [line for block in shells for line in block.replace("\\\n", " ").splitlines()]
    words = [
        shlex.split(line.partition("|")[0], comments=True)[1:]
        for line in lines
        if line.startswith("drawnet ")
    ]
    return [[word for word in command if word != "..."] for command in words]
