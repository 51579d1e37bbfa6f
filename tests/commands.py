"""Commands and scripts run in this process, and small files for them to work on."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_model

from drawnet import cli
from drawnet.classify import GlimpseClassifier
from drawnet.config import ClassifierConfig

SIDE, T = 9, 4
FOLDER = {"data_name": "folder", "data_options": {"size": SIDE, "channels": 1}}


class Answer(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def run(capfd: pytest.CaptureFixture[str], *argv: object) -> Answer:
    """Run a command."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in argv])
    code = stop.value.code
    assert isinstance(code, int)
    return Answer(code, *capfd.readouterr())


def load_script(path: Path) -> ModuleType:
    """Import a script that is not part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_pictures(folder: Path, count: int = 60, side: int = SIDE) -> Path:
    """Small pictures, each of one of two classes."""
    values = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    for number, picture in enumerate(values):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


def save_drawer(folder: Path, facts: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Weights of a network that draws images like those pictures."""
    sizes = {"image_shape": (1, SIDE, SIDE), "glimpses": T, "write_size": 3}
    provenance = {**FOLDER, "validation_nats": 9.876, **(facts or {})}
    tiny_model(**{**sizes, **changes}).save_pretrained(folder, **provenance)
    return folder


def save_classifier(folder: Path, **facts: Any) -> Path:
    """Weights of a network that tells the two classes apart, more or less."""
    config = ClassifierConfig((1, SIDE, SIDE), glimpses=3, hidden_size=6, read_size=2, classes=2)
    GlimpseClassifier(config).save_pretrained(folder, **FOLDER, **facts)
    return folder
