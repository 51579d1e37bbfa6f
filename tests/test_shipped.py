"""The weights that come with the package: they draw, and they are as good as is published."""

from pathlib import Path

import pytest
import torch

from drawnet import DRAW
from drawnet.data import load
from drawnet.evaluate import evaluate
from drawnet.weights import describe, locate, shipped

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_draw_as_much_ink_as_there_is(name: str, data_dir: Path) -> None:
    provenance = describe(locate(name))["provenance"]
    images = load(provenance["data_name"], "valid", data_dir, **provenance["data_options"])
    x, _ = images.batch(torch.arange(1000))
    with torch.no_grad():
        drawn = DRAW.from_pretrained(name).generate(200, generator=torch.Generator().manual_seed(0))
    assert drawn.mean.mean().item() == pytest.approx(x.mean().item(), rel=0.2)
    # Neither one picture two hundred times, nor noise: pixels are decided, and differ.
    assert ((drawn.mean < 0.1) | (drawn.mean > 0.9)).double().mean() > 0.8
    assert drawn.mean.std(0).max() > 0.3


@pytest.mark.parametrize("name", shipped())
def test_what_is_published_is_what_the_weights_say(name: str) -> None:
    published = f"{describe(locate(name))['provenance']['test_nats']:.2f}"
    assert published in README.read_text()
    assert published in (README.parent / "docs" / "results.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_evaluating_gives_what_is_published(name: str, data_dir: Path) -> None:
    torch.set_default_dtype(torch.float32)
    provenance = describe(locate(name))["provenance"]
    images = load(provenance["data_name"], "test", data_dir, **provenance["data_options"])
    bound = evaluate(DRAW.from_pretrained(name), images)
    assert bound.nats == pytest.approx(provenance["test_nats"], abs=0.01)
