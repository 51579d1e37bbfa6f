"""The Python of the README and of the documentation runs as it stands, and tables are right."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from pages import PAGES, ROOT, blocks, commands, run

from drawnet import DRAW, DRAWConfig, cli, training
from drawnet.cli.arguments import Plain
from drawnet.recipe import OptimConfig, TrainerConfig

OTHERS = [page for page in PAGES if blocks(page) and page.stem != "extend"]  # see test_extend.py


@pytest.mark.filterwarnings("ignore")  # of other people's code
@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
def test_it_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWNET_DATA", str(tmp_path / "nothing"))
    torch.set_default_dtype(torch.float32)
    # What `make quickstart` leaves behind.
    DRAW(DRAWConfig(glimpses=12, enc_size=32, dec_size=32)).save_pretrained("out/run/weights")
    run(page)
    if page.stem == "attention":  # which says `97% right`
        printed = re.search(r"([\d.]+)% right", capsys.readouterr().out)
        assert printed is not None
        assert float(printed[1]) > 95


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: page.stem)
def test_its_commands_can_be_given(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where work would begin: their options are read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "train", Mock(side_effect=Begun))
    parse_args = Plain.parse_args

    def parse_and_stop(*given: Any) -> None:
        parse_args(*given)
        raise Begun

    monkeypatch.setattr(Plain, "parse_args", parse_and_stop)
    for command in commands(page):
        for file in [word for word in command if word.endswith(".yaml")]:
            Path(file).write_text("network: classifier" if "classifier" in file else "")
        if "--resume" in command:
            out = Path(command[command.index("--out") + 1])
            out.mkdir(parents=True, exist_ok=True)
            (out / "recipe.yaml").touch()
        with pytest.raises(Begun):
            cli.VERBS[command[0]](command[1:])


class Begun(Exception):
    """Work would begin now."""


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
