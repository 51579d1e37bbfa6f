"""The same drawing at any size."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drawnet.attention import Window, write
from drawnet.model import DRAW, DRAWConfig, Trace
from drawnet.visualise import refine, render

T, B, Z, N = 4, 3, 5, 6
C, H, W = 2, 11, 17


@pytest.fixture
def model() -> DRAW:
    torch.manual_seed(0)
    model = DRAW(
        DRAWConfig((C, H, W), T, enc_size=7, dec_size=8, z_size=Z, read_size=3, write_size=N)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def one_stroke(g_y: float, g_x: float, sigma: float, start: float = 0.0) -> Trace:
    """A drawing of one dot."""
    window = Window(*(torch.tensor([[number]]) for number in (g_y, g_x, 1.0, sigma, 0.5)))
    patch = torch.ones(1, 1, C, 1, 1)
    first = torch.full((C, H, W), start)
    canvas = first + write(patch[0], Window(*(number[0] for number in window)), H, W)
    nothing = torch.zeros(1, 1, Z)
    return Trace(
        canvas=canvas[None], z=nothing, mu=nothing, log_sigma=nothing,
        write_window=window, patch=patch, start=first,
    )  # fmt: skip


@pytest.mark.parametrize("reconstructed", [False, True])
def test_at_scale_1_it_is_the_canvas_of_the_model(model: DRAW, reconstructed: bool) -> None:
    trace = model(torch.rand(B, C, H, W)) if reconstructed else model.generate(B)
    torch.testing.assert_close(render(trace, 1), trace.canvas[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("components", [1, 2])
def test_every_plane_of_a_canvas_of_intensities_is_enlarged(components: int) -> None:
    """The means are enlarged as a canvas of logits is, and a picture has its colours only."""
    torch.manual_seed(0)
    config = DRAWConfig((C, H, W), T, 7, 8, Z, 3, N, likelihood="logistic", components=components)
    trace = DRAW(config).generate(B)
    torch.testing.assert_close(render(trace, 1), trace.canvas[-1], rtol=1e-6, atol=1e-12)
    large = refine(trace, 3)
    assert large.mean.shape == (B, C, 3 * H, 3 * W)
    assert trace.patch is not None
    assert trace.start is not None
    part = slice(0, components * C)
    means = replace(
        trace,
        canvas=trace.canvas[:, :, part],
        patch=trace.patch[:, :, part],
        start=trace.start[part],
    )
    torch.testing.assert_close(render(trace, 3)[:, part], render(means, 3))
    torch.testing.assert_close(large.canvas[-1], render(trace, 3))


@pytest.mark.parametrize("scale", [2, 3, 7])
def test_a_stroke_grows_about_its_place(scale: int) -> None:
    canvas = render(one_stroke(g_y=4.3, g_x=8.2, sigma=1.1), scale)
    assert canvas.shape == (1, C, scale * H, scale * W)
    for dim, place in ((0, 4.3), (1, 8.2)):
        weight = canvas[0, 0].sum(1 - dim)
        weight = weight / weight.sum()
        position = (torch.arange(len(weight)) + 0.5) / scale - 0.5  # in pixels of the image
        mean = (weight * position).sum()
        assert mean.item() == pytest.approx(place, abs=2e-3)
        spread = (weight * (position - mean) ** 2).sum().sqrt()
        assert spread.item() == pytest.approx(1.1, abs=5e-3)


@pytest.mark.parametrize("scale", [3, 5])
def test_a_stroke_keeps_its_strength(scale: int) -> None:
    trace = one_stroke(g_y=5.4, g_x=8.2, sigma=0.9)
    # At an odd scale every pixel of the image has a pixel of the rendering at its centre.
    centres = render(trace, scale)[:, :, scale // 2 :: scale, scale // 2 :: scale]
    torch.testing.assert_close(centres, trace.canvas[-1], rtol=1e-3, atol=1e-6)


def test_the_start_is_enlarged_too() -> None:
    far = render(one_stroke(g_y=5, g_x=2, sigma=0.5, start=-2.0), 3)[0, :, :, -12:]
    torch.testing.assert_close(far, torch.full_like(far, -2.0))


def test_other_scales_round_the_size(model: DRAW) -> None:
    assert render(model.generate(B), 2.5).shape == (B, C, 28, 42)
    assert render(model.generate(B), 0.5).shape == (B, C, 6, 8)


def test_without_write_attention_there_is_nothing_to_enlarge(model: DRAW) -> None:
    torch.manual_seed(0)
    blind = DRAW(DRAWConfig((C, H, W), T, 7, 8, Z, read_size=3, write_size=None))
    with pytest.raises(ValueError, match="write attention"):
        render(blind.generate(B), 2)
    with pytest.raises(ValueError, match="scale must be > 0, got 0"):
        render(model.generate(B), 0)


def test_gradients_pass(model: DRAW) -> None:
    canvas: Tensor = render(model.generate(1), 2)
    canvas.sum().backward()
    assert model.canvas.grad is not None


def test_refined_windows_lie_where_they_lay(model: DRAW) -> None:
    trace = model(torch.rand(B, C, H, W))
    large = refine(trace, 3)
    for small, window in (
        (trace.read_window, large.read_window),
        (trace.write_window, large.write_window),
    ):
        torch.testing.assert_close((window.g_y + 0.5) / 3, small.g_y + 0.5)
        torch.testing.assert_close((window.g_x + 0.5) / 3, small.g_x + 0.5)
        torch.testing.assert_close(window.delta / 3, small.delta)
        torch.testing.assert_close(window.sigma / 3, small.sigma)
    assert refine(model.generate(B), 3).read_window is None
