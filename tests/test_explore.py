"""Walking through the latents."""

import pytest
import torch
from torch import Tensor

from drawnet.explore import interpolate, likeliest_labels, noise_of, redraw, transmit
from drawnet.model import DRAW, DRAWConfig
from drawnet.objective import kl

T, B, Z = 6, 3, 5
C, H, W = 2, 7, 9


@pytest.fixture(params=["standard", "learned"])
def model(request: pytest.FixtureRequest) -> DRAW:
    torch.manual_seed(0)
    config = DRAWConfig((C, H, W), T, 8, 10, Z, read_size=2, write_size=3, prior=request.param)
    model = DRAW(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def x() -> Tensor:
    return torch.rand(B, C, H, W, generator=torch.Generator().manual_seed(1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_noise_of_a_trace_redraws_its_image(model: DRAW, x: Tensor) -> None:
    trace = model(x)
    again = model.generate(B, noise=noise_of(trace))
    torch.testing.assert_close(again.canvas, trace.canvas)


def test_the_noise_of_what_was_generated_is_its_noise(model: DRAW) -> None:
    noise = torch.randn(T, B, Z)
    torch.testing.assert_close(noise_of(model.generate(B, noise=noise)), noise)


def test_a_way_goes_from_one_image_to_the_other(model: DRAW, x: Tensor) -> None:
    trace = interpolate(model, x[0], x[1], steps=4)
    ends = model(x[:2], noise=torch.zeros(T, 2, Z))
    assert trace.canvas.shape == (T, 4, C, H, W)
    torch.testing.assert_close(trace.canvas[:, [0, -1]], ends.canvas, atol=1e-5, rtol=0)


def test_a_way_follows_the_great_circle(model: DRAW, x: Tensor) -> None:
    chain = noise_of(interpolate(model, x[0], x[1], steps=5)).transpose(0, 1).flatten(1)
    turns = torch.nn.functional.cosine_similarity(chain[1:], chain[:-1]).acos()
    first, last = chain[[0, -1]].norm(dim=1).tolist()
    assert min(first, last) - 1e-6 < chain[2].norm().item() < max(first, last) + 1e-6
    # Both ends weigh the same in the middle, and the turns mirror each other about it.
    middle = chain[[0, -1]].sum(0)
    assert torch.nn.functional.cosine_similarity(chain[2], middle, dim=0).item() == pytest.approx(1)
    assert turns.sum().item() == pytest.approx(
        torch.nn.functional.cosine_similarity(chain[0], chain[-1], dim=0).acos().item()
    )


def test_a_way_from_an_image_to_itself_stands_still(model: DRAW, x: Tensor) -> None:
    trace = interpolate(model, x[0], x[0], steps=3)
    torch.testing.assert_close(trace.canvas[:, 1], trace.canvas[:, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("keep", [0, 2, T])
def test_redrawing_keeps_the_beginning_and_changes_the_rest(
    model: DRAW, x: Tensor, keep: int
) -> None:
    trace = model(x)
    n = 2
    again = redraw(model, trace, keep, n=n, generator=seeded())
    assert again.canvas.shape == (T, B * n, C, H, W)
    repeated = trace.canvas.repeat_interleave(n, dim=1)
    torch.testing.assert_close(again.canvas[:keep], repeated[:keep])
    different = (again.z[keep:] - trace.z.repeat_interleave(n, dim=1)[keep:]).abs()
    assert (different > 1e-6).all()
    if keep < T:
        assert not torch.equal(again.z[keep:, 0], again.z[keep:, 1]), "n drawings differ"


def test_redrawing_replays(model: DRAW, x: Tensor) -> None:
    trace = model(x)
    one, two, other = (redraw(model, trace, 1, generator=seeded(s)).mean for s in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_what_is_sent_costs_its_divergences_and_shows_in_the_end(model: DRAW, x: Tensor) -> None:
    trace = model(x)
    sent = transmit(model, trace, [0, 4, T], generator=seeded())
    assert sent.keep == (0, 4, T)
    assert sent.pictures.shape == (3, B, C, H, W)
    torch.testing.assert_close(sent.nats, torch.stack([torch.zeros(B), *(
        kl(trace)[:k].sum(0) for k in (4, T)
    )]))  # fmt: skip
    torch.testing.assert_close(sent.pictures[-1], trace.mean)


def test_the_receiver_draws_the_rest_once(model: DRAW, x: Tensor) -> None:
    trace = model(x)
    noise = torch.randn(T, B, Z, generator=seeded())
    noise[:4] = noise_of(trace)[:4]
    sent = transmit(model, trace, [0, 4], generator=seeded())
    torch.testing.assert_close(sent.pictures[1], model.generate(B, noise=noise).mean)


def test_numbers_out_of_range_are_refused(model: DRAW, x: Tensor) -> None:
    trace = model(x)
    for keep in (-1, T + 1):
        with pytest.raises(ValueError, match=f"keep must be from 0 to {T} glimpses, got {keep}"):
            redraw(model, trace, keep)
        with pytest.raises(ValueError, match=f"got {keep}"):
            transmit(model, trace, [1, keep])
    with pytest.raises(ValueError, match="steps must be >= 2, got 1"):
        interpolate(model, x[0], x[1], steps=1)
    with pytest.raises(ValueError, match="start and end must have the same shape"):
        interpolate(model, x[0], x[1, :1])
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        redraw(model, trace, 1, n=0)


def test_images_that_do_not_suit_have_no_likeliest_label() -> None:
    model = DRAW(DRAWConfig((1, 6, 5), 2, enc_size=3, dec_size=4, z_size=2, classes=3))
    with pytest.raises(ValueError, match="x must be"):
        likeliest_labels(model, torch.zeros(7, 1, 6, 5, dtype=torch.uint8))
