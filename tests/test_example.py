"""The paper in 100 lines is the same model as the package, on the same weights; the tour runs."""

import sys
import tokenize
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import nbformat
import numpy
import pytest
import torch
from commands import load_script
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image
from tiny import DEC, ENC, READ, WRITE, B, C, H, T, W, Z, images, noise, tiny_model

from drawnet.objective import elbo, kl

PATH = Path(__file__).parents[1] / "examples" / "draw_in_100_lines.py"
TOUR = PATH.with_name("tour.ipynb")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return load_script(PATH)


@pytest.mark.parametrize("read_size", [None, 1, READ])
@pytest.mark.parametrize("write_size", [None, 1, WRITE])
def test_it_is_the_same_model(
    example: ModuleType, read_size: int | None, write_size: int | None
) -> None:
    model = tiny_model(read_size=read_size, write_size=write_size)
    short = example.DRAW((C, H, W), T, ENC, DEC, Z, read_size, write_size)
    short.load_state_dict(model.state_dict())
    x, eps = images(), noise()

    trace = model(x, noise=eps)
    canvases, divergence = short(eps, x)
    torch.testing.assert_close(torch.stack(canvases), trace.canvas)
    torch.testing.assert_close(divergence, kl(trace).sum(0))
    torch.testing.assert_close(short.loss(x, eps), -elbo(x, trace))
    canvases, divergence = short(eps)
    torch.testing.assert_close(torch.stack(canvases), model.generate(B, noise=eps).canvas)
    assert not divergence.any()


def test_it_has_the_same_gradients(example: ModuleType) -> None:
    model = tiny_model()
    short = example.DRAW((C, H, W), T, ENC, DEC, Z, READ, WRITE)
    short.load_state_dict(model.state_dict())
    x, eps = images(), noise()
    short.loss(x, eps).mean().backward()
    elbo(x, model(x, noise=eps)).mean().neg().backward()
    for name, parameter in short.named_parameters():
        torch.testing.assert_close(parameter.grad, model.get_parameter(name).grad)


def test_its_first_windows_are_the_same(example: ModuleType) -> None:
    short, model = example.DRAW(), tiny_model(image_shape=(1, 28, 28), write_size=5)
    model.reset_parameters()
    for name in ("read_window.bias", "write_window.bias"):
        torch.testing.assert_close(short.get_parameter(name), model.get_parameter(name))


def test_its_defaults_are_the_papers(example: ModuleType) -> None:
    assert sum(p.numel() for p in example.DRAW().parameters()) == 959_467 + 1_296 + 512


def test_it_trains_and_leaves_a_drawing(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    numpy.save(tmp_path / "images.npy", example.rectangles(200, 18)[:, 0].numpy())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_in_100_lines.py", "images.npy"])
    example.main(steps=2)
    with Image.open("samples.gif") as drawing:
        assert drawing.size == (8 * 18, 8 * 18)
        assert drawing.n_frames > 2


def test_its_rectangles_are_rectangles(example: ModuleType) -> None:
    for image in example.rectangles(20)[:, 0]:
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        inside = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].clone()
        assert inside[2:-2, 2:-2].sum() == 0
        inside[2:-2, 2:-2] = 1
        assert inside.all()
        assert image.sum() < image.numel() / 2


def test_it_reads_amat(example: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "two.amat").write_text("0 1 0 0\n1 0 0 1\n")
    expected = torch.tensor([[[[0.0, 1], [0, 0]]], [[[1, 0], [0, 1]]]], dtype=torch.float32)
    assert torch.equal(example.load(str(tmp_path / "two.amat")), expected)


def test_the_model_has_no_more_than_100_lines() -> None:
    """Without blank lines, and without the toy data, the training and the picture below it."""
    text = PATH.read_text()
    first, last = (text[: text.index(mark)].count("\n") for mark in ("def filter", "def rect"))
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    with PATH.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in blank]
    code = {row for token in tokens for row in range(token.start[0], token.end[0] + 1)}
    assert len([row for row in code if first < row <= last]) <= 100


@pytest.mark.filterwarnings("ignore")  # of other people's code
def test_the_tour_shows_what_it_showed(tmp_path: Path) -> None:
    shown = nbformat.read(TOUR, as_version=4)
    run = deepcopy(shown)
    NotebookClient(run, resources={"metadata": {"path": tmp_path}}).execute()
    assert [kinds(cell) for cell in run.cells] == [kinds(cell) for cell in shown.cells]


def kinds(cell: NotebookNode) -> list[list[str]]:
    """Of what form a cell's outputs are: words to a stream, or data of some types."""
    return [sorted(output.get("data", [output.output_type])) for output in cell.get("outputs", [])]
