"""The Python of the README and of the documentation runs as it stands, page by page."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from drawnet import DRAW, DRAWConfig

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if BLOCK.search(page.read_text("utf-8")) and page.stem != "extend"  # see test_extend.py
]


@pytest.mark.filterwarnings("ignore")  # of other people's code
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWNET_DATA", str(tmp_path / "nothing"))
    torch.set_default_dtype(torch.float32)
    # What `make quickstart` leaves behind.
    DRAW(DRAWConfig(glimpses=12, enc_size=32, dec_size=32)).save_pretrained("out/run/weights")
    names: dict[str, Any] = {"__name__": "page"}
    for block in BLOCK.findall(page.read_text("utf-8")):
        if "demo.launch(" not in block:  # which serves until it is interrupted
            exec(compile(block, str(page), "exec"), names)
