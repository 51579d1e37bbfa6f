"""The filters, against the paper's formulas, and by the identities that they must satisfy."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Attention
from tiny import seeded
from torch import Tensor
from torch.func import jacfwd, jacrev

from drawnet.attention import Window, filterbank, middle, params, read, window, write

B, C, H, W, N = 5, 3, 11, 8, 4
SHAPES = [(11, 8, 4), (6, 13, 3), (9, 7, 2)]  # height, width, N


def some_params(batch: int = B) -> Tensor:
    return 0.5 * torch.randn(batch, 5, generator=seeded(1))


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(2))


def banks(params: Tensor, size: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    w = window(params, size, height, width)
    return (
        filterbank(w.g_y, w.delta, w.sigma, size, height),
        filterbank(w.g_x, w.delta, w.sigma, size, width),
    )


def at(g_y: float, g_x: float, delta: float, sigma: float, gamma: float = 1.0) -> Window:
    """One window, as a batch of one."""
    return Window(*(torch.tensor([value]) for value in (g_y, g_x, delta, sigma, gamma)))


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_windows_and_filters_are_the_papers(height: int, width: int, size: int) -> None:
    params = some_params()
    found = window(params, size, height, width)
    f_y, f_x = banks(params, size, height, width)
    for k, five in enumerate(params.tolist()):
        paper = Attention(five, size, height, width)
        assert found.g_y[k] + 1 == pytest.approx(paper.g_y, rel=1e-12)  # pixels from 0, from 1
        assert found.g_x[k] + 1 == pytest.approx(paper.g_x, rel=1e-12)
        assert found.delta[k] == pytest.approx(paper.delta, rel=1e-12)
        assert found.sigma[k] ** 2 == pytest.approx(paper.sigma2, rel=1e-12)
        assert found.gamma[k] == pytest.approx(paper.gamma, rel=1e-12)
        torch.testing.assert_close(f_y[k], torch.tensor(paper.F_y), rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(f_x[k], torch.tensor(paper.F_x), rtol=1e-10, atol=1e-14)


def test_far_windows_are_the_papers_up_to_the_limits() -> None:
    height, width, size = SHAPES[0]
    five = [20.0, -30.0, 14.5, -14.5, 14.5]
    found, paper = (
        window(torch.tensor([five]), size, height, width),
        Attention(five, size, height, width),
    )
    for name, value in found._asdict().items():
        shift = 1 if name.startswith("g_") else 0
        expected = paper.sigma2**0.5 if name == "sigma" else getattr(paper, name)
        assert value.item() + shift == pytest.approx(expected, rel=1e-12)
    beyond, limit = (
        window(torch.tensor([[0.0, 0.0, log, -log, log]]), size, height, width)
        for log in (16.0, 15.0)
    )
    assert beyond == limit


@pytest.mark.parametrize(("height", "width", "size"), SHAPES)
def test_read_and_write_are_the_papers(height: int, width: int, size: int) -> None:
    params, x, patch = some_params(), some(B, C, height, width), some(B, C, size, size)
    found = window(params, size, height, width)
    glimpse, stroke = read(x, found, size), write(patch, found, height, width)
    assert glimpse.shape == (B, C, size, size)
    assert stroke.shape == (B, C, height, width)
    for k, five in enumerate(params.tolist()):
        paper = Attention(five, size, height, width)
        for c in range(C):
            expected = torch.tensor(paper.read(x[k, c].tolist()))
            torch.testing.assert_close(glimpse[k, c], expected, rtol=1e-10, atol=1e-13)
            expected = torch.tensor(paper.write(patch[k, c].tolist()))
            torch.testing.assert_close(stroke[k, c], expected, rtol=1e-10, atol=1e-13)


def test_rows_sum_to_one() -> None:
    for bank in banks(10 * some_params(), N, H, W):
        torch.testing.assert_close(bank.sum(-1), torch.ones(B, N))


@pytest.mark.parametrize("size", [2, 3, 5, 12])
def test_zero_parameters_span_the_image_from_the_first_to_the_last_pixel(size: int) -> None:
    sharp = torch.tensor([[0.0, 0, -8, 0, 0]])
    w = window(sharp, size, 23, 23)
    centres = w.g_x + (torch.arange(size) - (size - 1) / 2) * w.delta
    torch.testing.assert_close(centres, torch.linspace(0, 22, size))
    _, f_x = banks(sharp, size, 23, 23)
    assert f_x[0, 0, 0] > 1 - 1e-12
    assert f_x[0, -1, 22] > 1 - 1e-12


def test_the_longer_side_sets_the_stride_of_both_axes() -> None:
    w = window(torch.zeros(1, 5), 4, 10, 7)
    assert w.delta.item() == pytest.approx(9 / 3)
    assert w.g_y.item() == pytest.approx(4.5)
    assert w.g_x.item() == pytest.approx(3.0)
    turned = window(torch.zeros(1, 5), 4, 7, 10)
    assert turned.delta.item() == pytest.approx(9 / 3)


def test_a_centre_of_one_lies_one_pixel_outside() -> None:
    w = window(torch.tensor([[-1.0, 1.0, 0, 0, 0]]), N, H, W)
    assert w.g_x.item() == pytest.approx(-1)
    assert w.g_y.item() == pytest.approx(H)


def test_a_sharp_grid_of_stride_one_over_the_whole_image_is_the_identity() -> None:
    x = some(1, C, 9, 9)
    w = at(4, 4, 1, 0.05)
    torch.testing.assert_close(read(x, w, 9), x)
    torch.testing.assert_close(write(x, w, 9, 9), x)


def test_a_sharp_grid_crops() -> None:
    x = some(1, C, H, W)
    torch.testing.assert_close(read(x, at(5, 3, 1, 0.05), 3), x[:, :, 4:7, 2:5])
    pasted = torch.zeros_like(x)
    pasted[:, :, 3:8:2, 1:6:2] = x[:, :, :3, :3]
    torch.testing.assert_close(write(x[:, :, :3, :3], at(5, 3, 2, 0.05), H, W), pasted)


def test_write_is_the_adjoint_of_read_but_for_the_intensity() -> None:
    """<read(x), w> = gamma^2 <x, write(w)>: reading multiplies by gamma, writing divides by it."""
    w, x, patch = window(some_params(), N, H, W), some(B, C, H, W), some(B, C, N, N)
    left = (read(x, w, N) * patch).flatten(1).sum(1)
    right = w.gamma**2 * (x * write(patch, w, H, W)).flatten(1).sum(1)
    torch.testing.assert_close(left, right)


def test_a_glimpse_moves_with_image_and_window() -> None:
    x = torch.zeros(1, C, 31, 37)
    x[:, :, 10:16, 12:20] = some(1, C, 6, 8)
    before = read(x, at(13.3, 15.6, 1.7, 0.8), N)
    after = read(x.roll((4, -3), (2, 3)), at(17.3, 12.6, 1.7, 0.8), N)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-14)


def test_transposing_the_image_swaps_the_axes() -> None:
    x = some(B, C, H, W)
    params = some_params()
    swapped = params[:, [1, 0, 2, 3, 4]]
    glimpse = read(x, window(params, N, H, W), N)
    torch.testing.assert_close(read(x.mT, window(swapped, N, W, H), N), glimpse.mT)
    stroke = write(glimpse, window(params, N, H, W), H, W)
    torch.testing.assert_close(write(glimpse.mT, window(swapped, N, W, H), W, H), stroke.mT)


def test_every_channel_is_read_by_itself_through_the_same_filters() -> None:
    w, x = window(some_params(), N, H, W), some(B, C, H, W)
    for c in range(C):
        alone = x[:, c : c + 1]
        torch.testing.assert_close(read(x, w, N)[:, c : c + 1], read(alone, w, N))


def test_every_image_has_its_own_window() -> None:
    w, x = window(some_params(), N, H, W), some(B, C, H, W)
    together = read(x, w, N)
    for k in range(B):
        alone = Window(*(value[k : k + 1] for value in w))
        torch.testing.assert_close(together[k : k + 1], read(x[k : k + 1], alone, N))


def test_several_windows_an_image_and_no_batch_at_all() -> None:
    many, x = 3, some(B, C, H, W)
    params = 0.5 * torch.randn(many, B, 5, generator=seeded(3))
    w = window(params, N, H, W)
    glimpses = read(x, w, N)
    strokes = write(glimpses, w, H, W)
    assert strokes.shape == (many, B, C, H, W)
    for k in range(many):
        torch.testing.assert_close(glimpses[k], read(x, w.at(k), N))
        torch.testing.assert_close(strokes[k], write(glimpses[k], w.at(k), H, W))
    one = Window(*(number[0, 0] for number in w))
    torch.testing.assert_close(read(x[0], one, N), glimpses[0, 0])
    torch.testing.assert_close(write(glimpses[0, 0], one, H, W), strokes[0, 0])
    mapped = torch.vmap(lambda x, *w: read(x, Window(*w), N))(x, *w.at(0))
    torch.testing.assert_close(mapped, glimpses[0])


@pytest.mark.filterwarnings("ignore")  # of torch's own code
def test_forward_and_backward_derivatives_of_a_single_window() -> None:
    """Also in single precision, where torch's forward mode could come to double."""
    x, params = torch.rand(C, H, W).float(), some_params()[0].float()

    def glimpse(params: Tensor) -> Tensor:
        return read(x, window(params, N, H, W), N)

    forward, backward = jacfwd(glimpse)(params), jacrev(glimpse)(params)
    torch.testing.assert_close(forward, backward)
    each = torch.vmap(jacfwd(glimpse))(params.expand(2, 5))
    torch.testing.assert_close(each, backward.expand_as(each))


def test_bytes_are_refused() -> None:
    w = window(some_params(), N, H, W)
    with pytest.raises(ValueError, match=r"x must be floating point, got torch\.uint8"):
        read(torch.ones(B, C, H, W, dtype=torch.uint8), w, N)
    with pytest.raises(ValueError, match=r"patch must be floating point, got torch\.int64"):
        write(torch.ones(B, C, N, N, dtype=torch.int64), w, H, W)


def test_one_filter() -> None:
    """N = 1 would divide by zero in equation (24); the one filter sits at the centre."""
    w = window(torch.tensor([[0.0, 0, -8, 0, math.log(2)]]), 1, 11, 7)
    assert math.isfinite(w.delta.item())
    x = some(1, C, 11, 7)
    torch.testing.assert_close(read(x, w, 1), 2 * x[:, :, 5:6, 3:4])
    dot = torch.zeros_like(x)
    dot[:, :, 5, 3] = 0.5
    torch.testing.assert_close(write(torch.ones(1, C, 1, 1), w, 11, 7), dot)


def test_sigma_is_the_standard_deviation_of_a_filter() -> None:
    f = filterbank(torch.tensor([50.0]), torch.tensor([4.0]), torch.tensor([2.5]), 3, 101)[0, 1]
    pixels = torch.arange(101.0)
    assert (f * pixels).sum() == pytest.approx(50, abs=1e-9)
    assert (f * (pixels - 50) ** 2).sum() == pytest.approx(2.5**2, rel=1e-6)


def test_gradients() -> None:
    w = tuple(value.requires_grad_() for value in window(some_params(2), N, 6, 5))
    x, patch = some(2, C, 6, 5).requires_grad_(), some(2, C, N, N).requires_grad_()
    assert torch.autograd.gradcheck(lambda *w: filterbank(w[0], w[2], w[3], N, 6), w)
    assert torch.autograd.gradcheck(lambda x, *w: read(x, Window(*w), N), (x, *w))
    assert torch.autograd.gradcheck(lambda p, *w: write(p, Window(*w), 6, 5), (patch, *w))
    params = some_params(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda params: window(params, N, 6, 5), params)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    raw=st.lists(
        st.floats(-1e4, 1e4, width=32) | st.floats(-(2.0**126), 2.0**126, width=32),
        min_size=5,
        max_size=5,
    ),
    size=st.sampled_from([1, 2, 5]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_no_parameters_lead_to_nan(raw: list[float], size: int, dtype: torch.dtype) -> None:
    height, width = 28, 13
    params = torch.tensor([raw], dtype=dtype, requires_grad=True)
    f_y, f_x = banks(params, size, height, width)
    for bank in (f_y, f_x):
        assert torch.isfinite(bank).all()
        torch.testing.assert_close(bank.sum(-1), torch.ones_like(bank[..., 0]))
    w = window(params, size, height, width)
    x = torch.linspace(-1, 1, height * width).view(1, 1, height, width).to(dtype).requires_grad_()
    glimpse = read(x, w, size)
    stroke = write(glimpse / w.gamma.to(dtype), w, height, width)
    assert glimpse.dtype == stroke.dtype == dtype
    assert torch.isfinite(glimpse).all()
    assert torch.isfinite(stroke).all()
    (glimpse.mean() + stroke.mean() + f_y.square().sum() + f_x.square().sum()).backward()
    assert torch.isfinite(params.grad).all()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("sigma", [0.0, 1e-30, 1e-15])
def test_needles_have_gradients(sigma: float) -> None:
    """Far below a pixel, 1 / sigma^2 overflows in single precision."""
    values = (torch.tensor([v], dtype=torch.float32) for v in (3.2, 1.5, sigma))
    centre, delta, width = (v.requires_grad_() for v in values)
    f = filterbank(centre, delta, width, 2, 9)
    torch.testing.assert_close(f.sum(-1), torch.ones(1, 2, dtype=torch.float32))
    f[:, :, ::2].square().sum().backward()
    for value in (centre, delta, width):
        assert torch.isfinite(value.grad).all()


def test_a_window_off_the_image_reads_its_nearest_border() -> None:
    x = some(1, C, H, W)
    glimpse = read(x, at(-300, 400, 1, 1), 2)
    torch.testing.assert_close(glimpse, x[:, :, :1, -1:].expand(1, C, 2, 2))


def test_windows_are_in_single_precision_at_least() -> None:
    """In bfloat16 the pixels from 256 on are two apart."""
    w = window(torch.zeros(1, 5, dtype=torch.bfloat16), 2, 300, 300)
    assert {value.dtype for value in w} == {torch.float32}
    w = window(torch.zeros(1, 5, dtype=torch.float64), 2, 300, 300)
    assert {value.dtype for value in w} == {torch.float64}


def test_filters_are_in_single_precision_at_least() -> None:
    """Three filters a pixel apart, beyond 256, where bfloat16 has even numbers only."""
    x = torch.arange(400.0).expand(1, 1, 400, 400)
    half = Window(*(value.bfloat16() for value in at(300, 300, 1, 0.25)))
    glimpse = read(x, half, 3)
    torch.testing.assert_close(
        glimpse[0, 0, 0], torch.tensor([299.0, 300.0, 301.0]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(("height", "width", "size"), [*SHAPES, (5, 5, 1), (1, 9, 3)])
def test_params_are_the_numbers_of_their_window(height: int, width: int, size: int) -> None:
    five = some_params()
    found = params(window(five, size, height, width), size, height, width)
    torch.testing.assert_close(found, five)
    one = at(3.0, 2.0, 1.5, 0.7, 0.2)
    for again, value in zip(
        window(params(one, size, height, width), size, height, width), one, strict=True
    ):
        torch.testing.assert_close(again, value)


def test_params_are_finite_on_a_single_pixel() -> None:
    alone = window(torch.zeros(1, 5), 3, 1, 1)
    assert alone.delta == 0
    assert params(alone, 3, 1, 1).isfinite().all()


def test_a_window_in_the_middle() -> None:
    centred = middle(2.0, 11, 8, gamma=3.0)
    assert [value.item() for value in centred] == [5.0, 3.5, 2.0, 1.0, 3.0]
    x = some(1, C, 11, 8)
    glimpse = read(x, centred, N)
    torch.testing.assert_close(read(x.flip(-1, -2), centred, N), glimpse.flip(-1, -2))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda x, w: window(torch.zeros(2, 6), 3, H, W),
            r"params must be \(..., 5\), got \(2, 6\)",
        ),
        (lambda x, w: window(torch.zeros(2, 5), 0, H, W), "size must be >= 1, got 0"),
        (lambda x, w: params(w, 0, H, W), "size must be >= 1, got 0"),
        (lambda x, w: read(x, w, 0), "size must be >= 1, got 0"),
        (lambda x, w: read(x[0, 0], w, 3), r"x must be \(..., channels, height, width\), got"),
        (
            lambda x, w: write(x, w, H, W),
            r"patch must be \(..., channels, N, N\), got \(1, 3, 11, 8\)",
        ),
        (lambda x, w: write(x[0, 0, :3, :3], w, H, W), r"patch must be .* got \(3, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    use: Callable[[Tensor, Window], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        use(some(1, C, H, W), at(3.0, 3.0, 1.0, 1.0))
