"""The Python of the README and of the documentation runs as it stands, page by page."""

from pathlib import Path

import pytest
import torch
from pages import PAGES, blocks, run

from drawnet import DRAW, DRAWConfig

OTHERS = [page for page in PAGES if blocks(page) and page.stem != "extend"]  # see test_extend.py


@pytest.mark.filterwarnings("ignore")  # of other people's code
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
def test_it_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWNET_DATA", str(tmp_path / "nothing"))
    torch.set_default_dtype(torch.float32)
    # What `make quickstart` leaves behind.
    DRAW(DRAWConfig(glimpses=12, enc_size=32, dec_size=32)).save_pretrained("out/run/weights")
    run(page)
