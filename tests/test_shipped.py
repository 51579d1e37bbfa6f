"""The weights that come with the package: they do what they are for, as well as is published."""

from pathlib import Path
from typing import Any

import pytest
import torch

from drawnet import DRAW
from drawnet.classify import GlimpseClassifier
from drawnet.data import Images, load
from drawnet.evaluate import evaluate, evaluate_classifier
from drawnet.weights import describe, locate, shipped

README = Path(__file__).parents[1] / "README.md"


def of(kind: type) -> list[str]:
    return [name for name in shipped() if describe(locate(name))["model"] == kind.__name__]


def provenance(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = describe(locate(name))["provenance"]
    return facts


def images(name: str, split: str, data_dir: Path) -> Images:
    facts = provenance(name)
    return load(facts["data_name"], split, data_dir, **facts["data_options"])


def test_all_are_tested() -> None:
    assert sorted([*of(DRAW), *of(GlimpseClassifier)]) == shipped()


@pytest.mark.parametrize("name", of(DRAW))
def test_drawings_have_as_much_ink_as_the_images(name: str, data_dir: Path) -> None:
    few = images(name, "valid", data_dir)
    x, _ = few.batch(torch.arange(min(len(few), 1000)), torch.Generator().manual_seed(0))
    model = DRAW.from_pretrained(name)
    y = torch.arange(200) % model.config.classes if model.config.classes else None
    with torch.no_grad():
        drawn = model.generate(200, y=y, generator=torch.Generator().manual_seed(0)).mean
    assert drawn.mean().item() == pytest.approx(x.mean().item(), rel=0.2)
    # Not one picture two hundred times.
    assert drawn.std(0).max() > 0.5 * x.std(0).max()


@pytest.mark.parametrize("name", of(GlimpseClassifier))
def test_answers_are_mostly_right(name: str, data_dir: Path) -> None:
    some = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))[:2000]
    few = images(name, "valid", data_dir).subset(some)
    error = evaluate_classifier(GlimpseClassifier.from_pretrained(name), few).error
    assert error == pytest.approx(provenance(name)["validation_error"], abs=0.015)


@pytest.mark.parametrize("name", shipped())
def test_what_is_published_is_what_the_weights_say(name: str) -> None:
    facts = provenance(name)
    if "test_error" in facts:
        published = f"{100 * facts['test_error']:.2f} %"
    else:
        published = f"{facts['test_nats']:.2f}"
    for page in ("README.md", "docs/results.md"):
        assert published in (README.parent / page).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", of(DRAW))
def test_bounds_are_what_is_published(name: str, data_dir: Path) -> None:
    torch.set_default_dtype(torch.float32)
    bound = evaluate(DRAW.from_pretrained(name), images(name, "test", data_dir))
    assert bound.nats == pytest.approx(provenance(name)["test_nats"], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", of(GlimpseClassifier))
def test_errors_are_what_is_published(name: str, data_dir: Path) -> None:
    torch.set_default_dtype(torch.float32)
    model = GlimpseClassifier.from_pretrained(name)
    result = evaluate_classifier(model, images(name, "test", data_dir))
    assert result.error == pytest.approx(provenance(name)["test_error"], abs=2e-4)
