"""The network: the paper's equations glimpse by glimpse, what depends on what, and replays."""

from functools import partial

import pytest
import torch
from oracle import Drawing, draw
from tiny import DEC, READ, WRITE, B, C, H, T, W, Z, images, levels, noise, seeded, tiny_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drawnet import DRAW, Trace, Window
from drawnet.attention import write
from drawnet.objective import elbo

ATTENTION = [(READ, WRITE), (READ, None), (None, WRITE), (None, None)]


def as_papers(
    model: DRAW, x: Tensor | None, eps: Tensor, shape: tuple[int, int, int]
) -> list[Drawing]:
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    sizes = model.config.read_size, model.config.write_size
    return [
        draw(weights, shape, eps[:, k].tolist(), *sizes, None if x is None else x[k].tolist())
        for k in range(eps.shape[1])
    ]


def assert_same_windows(trace: Trace, drawings: list[Drawing], name: str) -> None:
    found = Window(*(value.detach() for value in getattr(trace, name)))
    for k, drawing in enumerate(drawings):
        for t, paper in enumerate(getattr(drawing, name)):
            assert found.g_y[t, k] + 1 == pytest.approx(paper.g_y, rel=1e-9)  # from 0, from 1
            assert found.g_x[t, k] + 1 == pytest.approx(paper.g_x, rel=1e-9)
            assert found.delta[t, k] == pytest.approx(paper.delta, rel=1e-9)
            assert found.sigma[t, k] ** 2 == pytest.approx(paper.sigma2, rel=1e-9)
            assert found.gamma[t, k] == pytest.approx(paper.gamma, rel=1e-9)


@pytest.mark.parametrize(("read_size", "write_size"), ATTENTION)
def test_inference_is_the_papers(read_size: int | None, write_size: int | None) -> None:
    model = tiny_model(read_size=read_size, write_size=write_size)
    x, eps = images(2), noise(2)
    trace = model(x, noise=eps)
    papers = as_papers(model, x, eps, (C, H, W))
    for fact in ("canvas", "z", "mu", "log_sigma"):
        expected = torch.tensor([getattr(paper, fact) for paper in papers]).transpose(0, 1)
        torch.testing.assert_close(getattr(trace, fact), expected, rtol=1e-9, atol=1e-11)
    if read_size is None:
        assert trace.read_window is None
    else:
        assert_same_windows(trace, papers, "read_window")
    if write_size is None:
        assert trace.write_window is None
    else:
        assert_same_windows(trace, papers, "write_window")
    expected = torch.tensor([-paper.loss_x - paper.loss_z for paper in papers])
    torch.testing.assert_close(elbo(x, trace), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("read_size", "write_size"), ATTENTION)
def test_generation_is_the_papers(read_size: int | None, write_size: int | None) -> None:
    model = tiny_model(read_size=read_size, write_size=write_size)
    eps = noise(2)
    trace = model.generate(2, noise=eps)
    papers = as_papers(model, None, eps, (C, H, W))
    expected = torch.tensor([paper.canvas for paper in papers]).transpose(0, 1)
    torch.testing.assert_close(trace.canvas, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(trace.mean, torch.sigmoid(expected[-1]))
    torch.testing.assert_close(trace.z, eps)
    assert trace.read_window is None
    if write_size is not None:
        assert_same_windows(trace, papers, "write_window")


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(("read_size", "write_size"), [ATTENTION[0], ATTENTION[3]])
def test_a_canvas_of_logistics_is_drawn_as_one_of_logits(
    read_size: int | None, write_size: int | None, components: int
) -> None:
    model = tiny_model(
        read_size=read_size, write_size=write_size, likelihood="logistic", components=components
    )
    with torch.no_grad():  # the paper's plain formulas overflow where strokes are strong
        model.patch.weight.mul_(0.1)
        model.patch.bias.mul_(0.1)
    x, eps = levels(2), noise(2)
    trace = model(x, noise=eps)
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    papers = [
        draw(
            weights, (C, H, W), eps[:, k].tolist(), read_size, write_size, x[k].tolist(), components
        )
        for k in range(2)
    ]
    for fact in ("canvas", "z", "mu"):
        expected = torch.tensor([getattr(paper, fact) for paper in papers]).transpose(0, 1)
        torch.testing.assert_close(getattr(trace, fact), expected, rtol=1e-9, atol=1e-11)
    expected = torch.tensor([-paper.loss_x - paper.loss_z for paper in papers])
    torch.testing.assert_close(elbo(x, trace), expected, rtol=1e-8, atol=0)
    assert trace.mean.shape == (2, C, H, W)
    assert trace.start is not None
    assert trace.start.shape == trace.canvas.shape[2:] == ((2, 9)[components > 1] * C, H, W)


def test_shapes_of_a_trace() -> None:
    trace = tiny_model(prior="learned")(images(), noise=noise())
    assert trace.canvas.shape == (T, B, C, H, W)
    assert trace.mean.shape == (B, C, H, W)
    for fact in (trace.z, trace.mu, trace.log_sigma, trace.prior_mu, trace.prior_log_sigma):
        assert fact.shape == (T, B, Z)
    for value in (*trace.read_window, *trace.write_window):
        assert value.shape == (T, B)
    assert trace.patch.shape == (T, B, C, WRITE, WRITE)


def test_latents_are_sampled_from_q() -> None:
    trace = tiny_model()(images(), noise=noise())
    torch.testing.assert_close(trace.z, trace.mu + trace.log_sigma.exp() * noise())


def test_a_learned_prior_is_a_linear_function_of_the_decoder_before() -> None:
    """P(Z_t) follows from z_1 .. z_{t-1}; that of the first glimpse is the same for all."""
    model = tiny_model(prior="learned")
    trace = model.generate(B, noise=noise())
    torch.testing.assert_close(trace.mu, trace.prior_mu)
    torch.testing.assert_close(trace.log_sigma, trace.prior_log_sigma)
    torch.testing.assert_close(trace.z, trace.prior_mu + trace.prior_log_sigma.exp() * noise())
    first = model.prior(model.h_dec).view(2, Z)
    torch.testing.assert_close(trace.prior_mu[0], first[0].expand(B, Z))
    torch.testing.assert_close(trace.prior_log_sigma[0], first[1].expand(B, Z))
    inferred = model(images(), noise=noise())
    redrawn = model.generate(B, z=inferred.z)
    torch.testing.assert_close(redrawn.prior_mu, inferred.prior_mu)
    assert not torch.allclose(inferred.prior_mu[1], inferred.prior_mu[1, :1])


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("components", [0, 1, 2])
@pytest.mark.parametrize(("read_size", "write_size"), ATTENTION)
def test_every_parameter_learns(
    prior: str, components: int, read_size: int | None, write_size: int | None
) -> None:
    mixed = {"likelihood": "logistic", "components": components} if components else {}
    model = tiny_model(read_size=read_size, write_size=write_size, prior=prior, **mixed)
    x = levels()
    elbo(x, model(x, noise=noise())).sum().backward()
    names = {
        name for name, p in model.named_parameters() if p.grad is not None and p.grad.any(-1).all()
    }
    assert names == {name for name, _ in model.named_parameters()}
    assert ("prior.weight" in names) == (prior == "learned")
    assert ("read_window.weight" in names) == (read_size is not None)
    assert ("write_window.weight" in names) == (write_size is not None)


def test_the_elbo_has_the_gradients_of_finite_differences() -> None:
    model = tiny_model(image_shape=(1, 6, 5), glimpses=2, prior="learned")
    x, eps = images(3, (1, 6, 5)), noise(3, 2)
    names = ["encoder.weight", "read_window.bias", "write_window.bias", "prior.bias", "h_dec"]
    loss = elbo(x, model(x, noise=eps)).sum()
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        direction = torch.randn(gradient.shape, generator=seeded(7))
        values = []
        for step in (1e-5, -1e-5):
            moved = {name: parameters[name] + step * direction}
            trace = torch.func.functional_call(model, moved, (x,), {"noise": eps})
            values.append(elbo(x, trace).sum())
        slope = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-6, atol=1e-7)


def test_nothing_depends_on_latents_still_to_come() -> None:
    model = tiny_model()
    canvas = torch.func.jacrev(lambda eps: model(images(), noise=eps).canvas.sum((2, 3, 4)))
    effect = canvas(noise()).abs().sum((1, 3, 4))  # of noise t' on canvas t
    assert (effect.triu(1) == 0).all()
    assert (effect.tril() + torch.ones(T, T).triu(1) > 0).all()


def test_images_of_a_batch_know_nothing_of_each_other() -> None:
    model = tiny_model()
    bound = torch.func.jacrev(lambda x: elbo(x, model(x, noise=noise())))
    effect = bound(images()).abs().sum((2, 3, 4))  # of image j on the bound of image i
    assert (effect - effect.diag().diag() == 0).all()
    assert (effect.diag() > 0).all()


def test_the_first_look_is_the_same_for_all_images() -> None:
    """It follows from h_dec_0, which is learned (Figs. 1 and 5 of the paper)."""
    trace = tiny_model()(images(), noise=noise())
    for value in trace.read_window:
        torch.testing.assert_close(value[0], value[0, :1].expand(B))
        assert value[1].unique().numel() == B


def test_no_noise_at_all_reads_the_means() -> None:
    trace = tiny_model()(images(), noise=torch.zeros(T, B, Z))
    torch.testing.assert_close(trace.z, trace.mu)


def test_a_chain_may_be_of_any_length() -> None:
    model = tiny_model()
    eps = noise()
    long, short = model(images(), noise=eps), model(images(), noise=eps[:2])
    torch.testing.assert_close(short.canvas, long.canvas[:2])
    assert model(images(), glimpses=3).z.shape == (3, B, Z)
    assert model.generate(2, glimpses=9).z.shape == (9, 2, Z)


def test_only_the_last_canvas_is_kept_where_asked() -> None:
    model = tiny_model(prior="learned")
    all_of_it = model(images(), noise=noise())
    last = model(images(), noise=noise(), record="last")
    assert last.canvas.shape == (1, B, C, H, W)
    assert last.read_window is last.write_window is last.patch is None
    torch.testing.assert_close(last.canvas[0], all_of_it.canvas[-1], rtol=0, atol=0)
    assert torch.equal(elbo(images(), last), elbo(images(), all_of_it))
    drawn, whole = (model.generate(B, noise=noise(), record=kept) for kept in ("last", "all"))
    assert drawn.canvas.shape == (1, B, C, H, W)
    assert torch.equal(drawn.mean, whole.mean)


def test_given_latents_are_drawn_as_they_are() -> None:
    model = tiny_model()
    inferred = model(images(), noise=noise())
    torch.testing.assert_close(model.generate(B, z=inferred.z).canvas, inferred.canvas)
    half = model.generate(B, z=inferred.z[:2], generator=seeded(4))
    torch.testing.assert_close(half.canvas[:2], inferred.canvas[:2])
    assert not torch.allclose(half.canvas[2], inferred.canvas[2])
    assert len(half.z) == T


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize(("read_size", "write_size"), ATTENTION)
def test_drawing_without_an_image_leaves_the_encoder_out(
    prior: str, read_size: int | None, write_size: int | None
) -> None:
    model = tiny_model(read_size=read_size, write_size=write_size, prior=prior)
    with FlopCounterMode(display=False) as counter:
        drawn = model.generate(B, noise=noise())
    products = counter.get_flop_counts()["Global"][torch.ops.aten.addmm]
    heads = [model.prior, model.read_window, model.write_window, model.patch]
    outputs = sum(head.out_features for head in heads if head is not None)
    assert products == 2 * B * (T * (Z + DEC) * 4 * DEC + (T + 1) * DEC * outputs)
    assert drawn.read_window is None
    assert (drawn.write_window is None) == (write_size is None)


def test_the_patch_of_a_trace_is_what_was_written() -> None:
    model = tiny_model()
    trace = model.generate(B, noise=noise())
    added = trace.canvas[3] - trace.canvas[2]
    window = Window(*(value[3] for value in trace.write_window))
    torch.testing.assert_close(write(trace.patch[3], window, H, W), added)


def test_the_same_seed_gives_the_same_trace_to_the_bit() -> None:
    model, x = tiny_model(), images()
    for run in (
        lambda s: model(x, generator=seeded(s)),
        lambda s: model.generate(B, generator=seeded(s)),
    ):
        one, again, other = run(5), run(5), run(6)
        assert torch.equal(one.canvas, again.canvas)
        assert torch.equal(one.z, again.z)
        assert not torch.equal(one.z, other.z)


def test_without_a_generator_the_global_seed_counts() -> None:
    model = tiny_model()
    traces = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        traces.append(model.generate(B).canvas)
    assert torch.equal(traces[0], traces[1])
    assert not torch.equal(traces[0], traces[2])


def test_rounding_the_operands_of_the_products_changes_little() -> None:
    """They are rounded to 8 bits; all else, and the sum of the gradients, is not."""
    torch.set_default_dtype(torch.float32)
    model, x, eps = tiny_model(prior="learned"), images(), noise()
    gradients = []
    for precision in (None, torch.bfloat16):
        model.precision = precision
        model.zero_grad()
        elbo(x, model(x, noise=eps)).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    exact, rounded = gradients
    assert 1e-5 < (rounded - exact).norm() / exact.norm() < 0.02


def test_shapes_that_do_not_fit() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match=r"x must be \(B, 3, 11, 8\), got \(5, 3, 8, 11\)"):
        model(images().mT)
    with pytest.raises(ValueError, match=r"noise must be .*got \(6, 4, 7\)"):
        model(images(), noise=noise(B - 1))
    with pytest.raises(ValueError, match="z must be"):
        model.generate(B, z=noise(glimpses=T + 1))
    with pytest.raises(ValueError, match=r"noise must be of type torch.float64, .*float32"):
        model(images(), noise=noise().float())
    with pytest.raises(ValueError, match=r"z must be of type torch.float64, .*float16"):
        model.generate(B, z=noise().half())
    for glimpses in (0, -1):
        with pytest.raises(ValueError, match=f"glimpses must be .* got {glimpses}"):
            model.generate(B, glimpses=glimpses)


def test_a_record_is_all_or_last() -> None:
    for run in (lambda **how: tiny_model()(images(), **how), partial(tiny_model().generate, B)):
        with pytest.raises(ValueError, match="record must be all or last, got 'Last'"):
            run(record="Last")


def test_a_trace_stays_what_it_was_when_the_network_learns() -> None:
    model = tiny_model()
    trace = model(images(), noise=noise())
    before = trace.start.clone()
    with torch.no_grad():
        model.canvas += 1
    assert torch.equal(trace.start, before)


@pytest.mark.filterwarnings("ignore")  # of torch's own code
@pytest.mark.parametrize("generates", [True, False])
def test_a_chain_can_be_exported_for_batches_of_any_size(generates: bool) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny_model().requires_grad_(False)

        def forward(self, x: Tensor, noise: Tensor) -> Tensor:
            n = noise.shape[1]
            if generates:
                return self.model.generate(n, noise=noise, record="last").mean
            return self.model(x, noise=noise, record="last").mean

    mean, batch = Mean(), torch.export.Dim("batch")
    sizes = {"x": {0: batch}, "noise": {1: batch}}
    program = torch.export.export(mean, (images(), noise()), dynamic_shapes=sizes).module()
    more = images(B + 2), noise(B + 2)
    torch.testing.assert_close(program(*more), mean(*more))


def test_a_tiny_network_is_worth_what_it_always_was() -> None:
    trace = tiny_model(prior="learned")(images(), noise=noise())
    expected = torch.tensor(
        [
            -210.599016951522,
            -225.173757232404,
            -226.374584460708,
            -215.702766200187,
            -224.222458943815,
        ]
    )
    torch.testing.assert_close(elbo(images(), trace), expected, rtol=0, atol=1e-10)
