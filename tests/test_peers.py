"""One test for each mistake that public implementations of DRAW have made.

Each docstring names the mistake; each test fails for code that makes it.
"""

import math

import pytest
import torch
from tiny import DEC, B, C, H, T, W, Z, images, noise, seeded, tiny_model

from drawnet import DRAW
from drawnet.attention import Window, filterbank, read, window, write
from drawnet.objective import elbo, kl, log_likelihood


def zero(model: DRAW, *layers: str) -> DRAW:
    with torch.no_grad():
        for layer in layers:
            for parameter in model.get_submodule(layer).parameters():
                parameter.zero_()
    return model


def test_a_grid_from_0_in_the_formula_that_counts_from_1() -> None:
    """The window was off by a whole stride: at the start N = 2 did not touch the image at all."""
    w = window(torch.zeros(1, 5), 5, 28, 28)
    centres = w.g_x + (torch.arange(5) - 2) * w.delta
    torch.testing.assert_close(centres, torch.tensor([0, 6.75, 13.5, 20.25, 27]))
    f = filterbank(w.g_x, torch.tensor([27.0]), torch.tensor([0.3]), 2, 28)[0]
    assert f.argmax(1).tolist() == [0, 27]


def test_a_centre_half_a_pixel_off() -> None:
    """width / 2 (g~ + 1) puts the middle of 28 pixels at 14; it lies between 13 and 14."""
    w = window(torch.zeros(1, 5), 3, 28, 28)
    f = filterbank(w.g_x, w.delta, w.sigma, 3, 28)[0, 1]
    torch.testing.assert_close(f, f.flip(0))


def test_a_constant_of_the_kl_that_counts_glimpses() -> None:
    """-T / 2 or -1 / 2 a glimpse, where it is -|z| / 2: right only by luck at T = |z|."""
    model = zero(tiny_model(), "mu", "log_sigma")  # Q = N(0, I) = P
    trace = model(images(), noise=noise())
    assert torch.equal(kl(trace), torch.zeros(T, B))
    with torch.no_grad():
        model.mu.bias.fill_(1)
    torch.testing.assert_close(kl(model(images(), noise=noise())), torch.full((T, B), Z / 2))


def test_one_noise_for_all_glimpses() -> None:
    """All z_t of a run moved together, and the loss was too good."""
    model = zero(tiny_model(), "mu", "log_sigma")
    for trace in (model(images(), generator=seeded(1)), model.generate(B, generator=seeded(1))):
        assert trace.z.unique().numel() == T * B * Z


def test_one_latent_for_all_glimpses_of_a_sample() -> None:
    """``sample`` fed the same z to all T steps."""
    z = tiny_model().generate(2000, generator=seeded(1)).z.flatten(1)
    correlation = torch.corrcoef(z)
    assert (correlation - torch.eye(T)).abs().max() < 0.05


def test_log_of_a_saturated_sigmoid() -> None:
    """log(1 - sigmoid(c) + 1e-8) in single precision gave NaN at the first forward pass."""
    canvas = torch.tensor([-200.0, -60, 60, 200], dtype=torch.float32).view(1, 1, 2, 2)
    x = torch.tensor([1.0, 0, 0, 1], dtype=torch.float32).view(1, 1, 2, 2)
    assert log_likelihood(x, canvas).item() == pytest.approx(-260)


def test_the_whole_quotient_squared() -> None:
    """exp(-((a - mu) / (2 sigma^2))^2): sigma^2 = 4 gave filters of deviation 2.8 and more."""
    w = window(torch.tensor([[0, 0, math.log(4), 0, 0]]), 3, 101, 101)
    f = filterbank(w.g_x, w.delta, w.sigma, 3, 101)[0, 1]
    assert (f * (torch.arange(101) - 50) ** 2).sum().item() == pytest.approx(4)


def test_one_layer_for_both_windows() -> None:
    """Reading and writing shared their five numbers, so that both windows were one."""
    model = tiny_model()
    before = model(images(), noise=noise())
    with torch.no_grad():
        model.write_window.bias += 1
    after = model(images(), noise=noise())
    assert not torch.allclose(before.write_window.g_x[0], after.write_window.g_x[0])
    torch.testing.assert_close(before.read_window.g_x[:2], after.read_window.g_x[:2])
    assert not torch.allclose(before.read_window.g_x[0], before.write_window.g_x[0])


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 9, 9), (1, 7, 12), (2, 12, 7), (4, 1, 5)])
def test_grey_colour_and_oblong_images(attention: bool, shape: tuple[int, int, int]) -> None:
    """Crashed on grey values (outside a Bernoulli's support), on colour, and on oblong images."""
    sizes = {} if attention else {"read_size": None, "write_size": None}
    model = tiny_model(image_shape=shape, **sizes)
    x = images(B, shape)
    bound = elbo(x, model(x))
    assert bound.shape == (B,)
    assert torch.isfinite(bound).all()
    assert model.generate(2).mean.shape == (2, *shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [-120.0, -50.0, 50.0, 90.0])
@pytest.mark.parametrize("which", [0, 1, 2, 3, 4])
def test_unguarded_exponentials(which: int, extreme: float, dtype: torch.dtype) -> None:
    """log sigma^2 = -50 gave NaN gradients, -120 or log delta~ = 90 NaN everywhere."""
    params = torch.zeros(1, 5, dtype=dtype)
    params[0, which] = extreme
    params.requires_grad_()
    w = window(params, 3, 28, 28)
    x = images(1, (1, 28, 28)).to(dtype)
    glimpse = read(x, w, 3)
    stroke = write(torch.ones(1, 1, 3, 3, dtype=dtype), w, 28, 28)
    (glimpse.sum() + stroke.square().mean()).backward()
    for value in (glimpse, stroke, params.grad):
        assert torch.isfinite(value).all()


def test_a_window_of_one_filter() -> None:
    """(24) divides by N - 1."""
    model = tiny_model(read_size=1, write_size=1)
    bound = elbo(images(), model(images()))
    bound.sum().backward()
    assert torch.isfinite(bound).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_sampling_before_anything_else() -> None:
    """Sampling crashed before the first forward pass, and on a plain number of images."""
    assert tiny_model().generate(2).canvas.shape == (T, 2, C, H, W)


def test_nothing_is_left_on_the_model() -> None:
    """State kept from call to call: a run must not depend on the one before."""
    model = tiny_model()
    attributes = set(vars(model))
    first = model.generate(B, noise=noise())
    model(images(2))
    assert torch.equal(model.generate(B, noise=noise()).canvas, first.canvas)
    assert set(vars(model)) == attributes


def test_y_made_from_the_centre_of_x() -> None:
    """F_y was built from mu_x: the window moved on the diagonal only."""
    x = torch.zeros(1, 1, H, W)
    x[0, 0, 9, 2] = 1
    sharp = torch.tensor([[-1 + 2 * 3 / (W + 1), -1 + 2 * 10 / (H + 1), -6.0, -9.0, 0]])
    torch.testing.assert_close(read(x, window(sharp, 2, H, W), 2), torch.ones(1, 1, 2, 2))


def test_a_stride_divided_by_its_exponential() -> None:
    """delta shrank where it should grow."""
    params = torch.tensor([[0, 0, 0, 0.0, 0], [0, 0, 0, math.log(2), 0]])
    delta = window(params, 5, 28, 28).delta
    assert (delta[1] / delta[0]).item() == pytest.approx(2)


def test_centre_and_stride_cut_from_the_graph() -> None:
    """``.item()`` on centre and stride: neither had a gradient."""
    params = 0.3 * torch.randn(B, 5, generator=seeded(1))
    for use in (
        lambda p: read(images(), window(p, 3, H, W), 3).square().sum(),
        lambda p: write(images(B, (C, 3, 3)), window(p, 3, H, W), H, W).square().sum(),
    ):
        gradient = torch.func.grad(use)(params)
        assert (gradient != 0).all()


def test_the_first_images_window_for_all() -> None:
    """``W(h)[0]``: the whole batch was read through the window of its first image."""
    model, eps = tiny_model(), noise()
    together = model(images(), noise=eps)
    last = model(images()[-1:], noise=eps[:, -1:])
    torch.testing.assert_close(together.canvas[:, -1:], last.canvas)


def test_filters_normalised_over_the_whole_matrix() -> None:
    """Each row sums to one, not all rows together."""
    for f in (
        filterbank(torch.tensor([g]), torch.tensor([2.0]), torch.tensor([1.0]), 4, W)
        for g in (3.0, -7.0, 50.0)
    ):
        torch.testing.assert_close(f.sum(2), torch.ones(1, 4))


def test_filters_divided_by_their_sum_plus_epsilon() -> None:
    """With 1e-4 added, a filter off the border loses its weight, and gradients change by half."""
    f = filterbank(torch.tensor([-5.0]), torch.tensor([1.0]), torch.tensor([1.0]), 1, W)
    exact = torch.exp(-((torch.arange(W) + 5.0) ** 2) / 2)
    torch.testing.assert_close(f[0, 0], exact / exact.sum())


def test_writing_multiplied_by_gamma() -> None:
    """(29) divides by it."""
    w = Window(*(torch.tensor([v]) for v in (2.0, 2, 1, 0.05, 4)))
    torch.testing.assert_close(
        write(torch.ones(1, 1, 5, 5), w, 5, 5), torch.full((1, 1, 5, 5), 0.25)
    )
    torch.testing.assert_close(read(torch.ones(1, 1, 5, 5), w, 5), torch.full((1, 1, 5, 5), 4.0))


def test_reconstructions_shown_as_samples() -> None:
    """ "Generated" pictures came from a training batch; generating uses nothing of the encoder."""
    model = tiny_model()
    sample = model.generate(B, noise=noise())
    sample.canvas.sum().backward()
    used = {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    assert used == {"decoder", "patch", "write_window", "canvas", "h_dec", "cell_dec"}


def test_the_same_pixel_weighed_differently_in_both_terms() -> None:
    """A likelihood summed over the batch beside a divergence averaged over it."""
    model, x, eps = tiny_model(), images(), noise()
    twice = elbo(torch.cat([x, x]), model(torch.cat([x, x]), noise=torch.cat([eps, eps], 1)))
    torch.testing.assert_close(twice, elbo(x, model(x, noise=eps)).repeat(2))


def test_a_head_sized_by_the_other_network() -> None:
    """mu took dec_size inputs: encoder and decoder had to be of one size."""
    model = tiny_model(enc_size=DEC + 3, dec_size=DEC)
    assert model.mu.in_features == DEC + 3
    assert torch.isfinite(elbo(images(), model(images()))).all()


def test_all_glimpses_one_list() -> None:
    """``[[0] * L] * T`` is T names for one list: the KL saw the last glimpse only."""
    trace = tiny_model()(images(), noise=noise())
    assert kl(trace).unique().numel() == T * B
    assert trace.mu.unique().numel() == T * B * Z


def test_a_canvas_squashed_at_every_glimpse() -> None:
    """The canvas is a plain sum of strokes; the sigmoid is for the last one."""
    model = zero(tiny_model(write_size=None), "patch")
    with torch.no_grad():
        model.patch.bias.fill_(10)
    trace = model.generate(2)
    for t in range(T):
        expected = (model.canvas + 10 * (t + 1)).expand(2, C, H, W)
        torch.testing.assert_close(trace.canvas[t], expected)


def test_the_error_image_of_another_image() -> None:
    """``reconstructions[-1]`` of a batch: every image was compared with the last one's canvas."""
    model, order = tiny_model(), torch.tensor([3, 0, 4, 2, 1])
    trace = model(images(), noise=noise())
    shuffled = model(images()[order], noise=noise()[:, order])
    torch.testing.assert_close(shuffled.canvas, trace.canvas[:, order])


def test_initial_states_that_do_not_learn() -> None:
    """Zeros for c_0 and h_0, where the paper learns them."""
    model = tiny_model()
    elbo(images(), model(images())).sum().backward()
    for name in ("canvas", "h_enc", "cell_enc", "h_dec", "cell_dec"):
        assert (model.get_parameter(name).grad != 0).all()
