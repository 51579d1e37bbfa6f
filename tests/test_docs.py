"""The Python of the README and of the documentation runs as it stands, and tables are right."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from pages import PAGES, ROOT, blocks, run

from drawnet import DRAW, DRAWConfig
from drawnet.recipe import OptimConfig, TrainerConfig

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


def test_the_table_of_options_has_them_all_with_their_defaults() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `((?:optim|trainer)\.\w+)` \| `(.*?)` \|", page, re.MULTILINE))
    defaults = {
        f"{part}.{name}": list(value) if isinstance(value, tuple) else value
        for part, record in (("optim", OptimConfig()), ("trainer", TrainerConfig()))
        for name, value in vars(record).items()
    }
    assert {name: yaml.safe_load(value) for name, value in told.items()} == defaults
    assert list(told) == list(defaults)
