"""The pages of the documentation, and the Python on them."""

import re
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
    return names
