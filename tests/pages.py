"""The pages of the documentation, and the Python on them."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

from drawnet import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    """The blocks of Python on a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def run(page: Path) -> dict[str, Any]:
    """Run a page from its first block to its last: the names that they leave behind."""
    names: dict[str, Any] = {"__name__": "page"}
    compared = 0
    for block in blocks(page):
        if "demo.launch(" not in block:  # which serves until it is interrupted
            exec(compile(block, str(page), "exec"), names)
            compared += check_shapes(block, names)
    assert compared or page.stem not in ("README", "attention", "model", "pictures")
    return names


def check_shapes(block: str, names: dict[str, Any]) -> int:
    """Compare the shapes in the comments of a block that has run, such as ``x = f()  # (2, 3)``,
    and count them."""
    count = 0
    commented = re.compile(r"(?:(\w+) = )?(\S.*?)  # ((?:\([\d, ]+\)(?:, )?)+)")
    for line in block.splitlines():
        if found := commented.match(line):
            name, expression, told = found.groups()
            value = eval(name or expression, names)
            shape = tuple(getattr(value, "shape", value))
            assert shape == ast.literal_eval(told.rstrip(", ")), line
            count += 1
    return count


def commands(page: Path) -> list[list[str]]:
    """The `drawnet` commands in the shell blocks of a page, without "drawnet"."""
    shells = re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    text = "\n".join(shells).replace("\\\n", " ").replace("$resume", "")
    words = [
        shlex.split(found[1], comments=True)
        for line in text.splitlines()
        if (found := re.search(rf"(?:^|\W)drawnet ((?:{'|'.join(cli.VERBS)})(?: [^|]*|$))", line))
    ]
    return [[word for word in command if word != "..."] for command in words]
