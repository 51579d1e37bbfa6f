"""Weights on disk come back as they were, or not at all."""

import errno
import json
import os
import sys
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from tiny import Z, images, seeded, tiny_model

from drawnet import DRAW
from drawnet.weights import WeightsError, class_names, shipped


def test_weights_come_back_from_disk(tmp_path: Path) -> None:
    model = tiny_model(prior="learned", read_size=None)
    model.save_pretrained(tmp_path / "a", steps=12)
    again = DRAW.from_pretrained(tmp_path / "a")
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert torch.equal(
        model(images(), generator=seeded(5)).canvas, again(images(), generator=seeded(5)).canvas
    )


def test_weights_from_before_there_was_a_choice_of_likelihood(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    description = tmp_path / "config.json"
    facts = json.loads(description.read_text())
    for later in ("likelihood", "components"):
        del facts["config"][later]
    description.write_text(json.dumps(facts))
    again = DRAW.from_pretrained(tmp_path)
    assert again.config == model.config
    assert torch.equal(
        model(images(), generator=seeded(5)).mean, again(images(), generator=seeded(5)).mean
    )


def test_weights_are_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        tiny_model(prior="learned").save_pretrained(tmp_path, source=tmp_path)
    assert DRAW.from_pretrained(tmp_path).config.prior == "standard"


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_leaves_the_weights_before(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model().save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    flush, flushed = os.fsync, []

    def fill(file: int) -> None:
        flushed.append(file)
        if len(flushed) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(file)

    monkeypatch.setattr(os, "fsync", fill)
    name = ("model.safetensors", "config.json")[number - 1]
    with pytest.raises(OSError, match=f"cannot save .*{name}: disk full"):
        tiny_model(prior="learned").save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tensors, description = tmp_path / "model.safetensors", tmp_path / "config.json"
    good = tensors.read_bytes()
    tensors.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(WeightsError, match="sha256"):
        DRAW.from_pretrained(tmp_path)
    tensors.write_bytes(good)
    config = json.loads(description.read_text())
    for changes, message in (
        ({"format": 2}, "expected format 1, got 2"),
        ({"licence": "MIT"}, "expected the keys .* got .*licence"),
    ):
        description.write_text(json.dumps({**config, **changes}))
        with pytest.raises(WeightsError, match=message):
            DRAW.from_pretrained(tmp_path)
    for changes, message in (
        ({"glimpse": 6}, "glimpse"),
        ({"z_size": Z + 1}, "z_size|size mismatch"),
        ({"enc_size": -3}, "enc_size"),
    ):
        changed = {**config, "config": {**config["config"], **changes}}
        description.write_text(json.dumps(changed))
        with pytest.raises(WeightsError, match=message):
            DRAW.from_pretrained(tmp_path)


def test_a_folder_comes_before_shipped_weights_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, name = tiny_model(), shipped()[0]
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(name)
    assert DRAW.from_pretrained(name).config == model.config


def test_what_the_hub_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=OSError("no net")))
    with pytest.raises(WeightsError, match="runs/digit: no such folder, and the hub says: no net"):
        DRAW.from_pretrained("runs/digit")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"no folder runs/digit; .* pip install huggingface_hub"):
        DRAW.from_pretrained("runs/digit")


@pytest.mark.parametrize("part", ["config", "provenance"])
def test_a_description_must_have_pairs(part: str, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**description, part: None}))
    with pytest.raises(WeightsError, match=f"{part} must be pairs, got None"):
        DRAW.from_pretrained(tmp_path)


def test_classes_without_a_name_each_have_numbers() -> None:
    for facts in ({}, {"classes": ["a"]}, {"classes": ["a", "b", "c"]}):
        assert class_names(facts, 2) == ["0", "1"]
    assert class_names({"classes": ["a", "b"]}, 2) == ["a", "b"]
    assert class_names({"classes": 2}, 2) == ["0", "1"]
    assert class_names({"classes": [7, 8]}, 2) == ["7", "8"]


def test_weights_of_the_hub_can_be_those_of_one_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []
    tiny_model().save_pretrained(tmp_path)

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        files = {"config.json", "model.safetensors"}
        assert set(allow_patterns) == files | {f"weights/{file}" for file in files}
        asked.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    DRAW.from_pretrained("someone/draw")
    DRAW.from_pretrained("someone/draw", revision="v2")
    assert asked == [("someone/draw", None), ("someone/draw", "v2")]
    (tmp_path / "weights").mkdir()
    for file in tmp_path.glob("*.*"):
        file.rename(tmp_path / "weights" / file.name)
    DRAW.from_pretrained("someone/draw")  # a run folder
    with pytest.raises(WeightsError, match="only a repository of the hub has a revision, got v2"):
        DRAW.from_pretrained(tmp_path, revision="v2")
