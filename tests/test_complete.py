"""Completing images of which a part is hidden."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tiny import CONFIG, B, C, H, T, W, images, seeded, tiny_model
from torch import Tensor

from drawnet import DRAW, DRAWConfig, Trace
from drawnet.complete import PARTS, complete, hide, hide_at_random
from drawnet.data import load
from drawnet.likelihood import Bernoulli
from drawnet.objective import log_likelihood, log_weight

N = 2
KINDS: list[dict[str, Any]] = [
    {},
    {"prior": "learned", "read_size": None},
    {"likelihood": "logistic", "components": 2, "write_size": None},
]


def some_known(seed: int = 5) -> Tensor:
    """Other pixels of each image and of each channel."""
    return torch.rand(B, C, H, W, generator=seeded(seed)) < 0.6


@pytest.mark.parametrize("fill", ["sample", "mean", None])
@pytest.mark.parametrize("changes", KINDS)
def test_what_is_known_stays_as_it_is(
    changes: dict[str, Any], fill: Literal["sample", "mean"] | None
) -> None:
    model, x, known = tiny_model(**changes), images(), some_known()
    done = complete(model, x, known, n=N, rounds=3, chains=4, fill=fill, generator=seeded(1))
    assert done.images.shape == (B, N, C, H, W)
    assert torch.equal(done.images[:, 0][known], x[known])
    assert torch.equal(done.images[:, 1][known], x[known])
    assert not torch.isclose(done.images[:, 0], x)[~known].all()
    assert done.bound.shape == (3, B)
    assert done.trace.canvas.shape[:2] == (T, B * N)


@pytest.mark.parametrize("fill", ["sample", "mean"])
def test_a_likelihood_may_know_no_bounds(fill: Literal["sample", "mean"]) -> None:
    class Unbounded(Bernoulli):
        def mean(self, canvas: Tensor) -> Tensor:
            return 3 * torch.sigmoid(canvas) - 1

        def sample(self, canvas: Tensor, generator: torch.Generator | None = None) -> Tensor:
            return self.mean(canvas)

    class Own(DRAW):
        @property
        def likelihood(self) -> Bernoulli:
            return Unbounded()

    model = Own(tiny_model().config)
    model.start_canvas(torch.zeros(C, H, W))
    done = complete(model, images(), some_known(), rounds=2, fill=fill, generator=seeded(1))
    assert (done.images >= 0).all()
    assert (done.images <= 1).all()


def test_of_no_images_there_are_no_completions() -> None:
    known = torch.ones(C, H, W, dtype=torch.bool)
    assert complete(tiny_model(), torch.zeros(0, C, H, W), known, n=2).images.shape[:2] == (0, 2)


@pytest.mark.parametrize("y", [torch.tensor([1]), [0] * B])
def test_labels_that_are_none(y: Any) -> None:
    with pytest.raises(ValueError, match=rf"y must be int64 labels \({B},\), got"):
        complete(tiny_model(classes=4), images(), some_known(), y=y)


def test_with_nothing_hidden_there_is_nothing_to_do() -> None:
    x = images()
    done = complete(tiny_model(), x, torch.tensor(True), n=N, rounds=2, generator=seeded(1))
    assert torch.equal(done.images, x[:, None].expand(-1, N, -1, -1, -1))


@pytest.mark.parametrize("value", [torch.nan, 2.0])
def test_known_pixels_must_have_values(value: float) -> None:
    x = images()
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"x must have values in \[0, 1\], got .* to (nan|2)"):
        complete(tiny_model(), x, torch.tensor(True))
    with pytest.raises(ValueError, match=r"x must be a tensor .* got list"):
        complete(tiny_model(), x.tolist(), torch.tensor(True))


@pytest.mark.parametrize("other", [0.0, 0.5, torch.nan])
@pytest.mark.parametrize("fill", ["sample", "mean", None])
@pytest.mark.parametrize("changes", KINDS)
def test_what_is_hidden_is_not_seen(
    changes: dict[str, Any], fill: Literal["sample", "mean"] | None, other: float
) -> None:
    model, x, known = tiny_model(**changes), images().round(), some_known()
    changed = torch.where(known, x, other)
    one, two = (
        complete(model, each, known, n=N, rounds=3, chains=2, fill=fill, generator=seeded(1))
        for each in (x, changed)
    )
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.bound, two.bound)
    assert torch.equal(one.trace.z, two.trace.z)


def test_with_all_hidden_an_image_does_not_matter() -> None:
    model, known = tiny_model(), torch.tensor(False)
    x = images()
    one, two = (
        complete(model, each, known, rounds=2, generator=seeded(1)).images for each in (x, 1 - x)
    )
    assert torch.equal(one, two)


def test_it_replays_and_differs() -> None:
    model, x, known = tiny_model(), images(), some_known()
    one, two, other = (
        complete(model, x, known, n=N, rounds=2, generator=seeded(seed)).images
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not torch.equal(one[:, 0], one[:, 1])


def test_drawings_are_told_by_image_and_number() -> None:
    model, x, known = tiny_model(), images(), some_known()
    done = complete(model, x, known, n=N, rounds=2, fill="mean", generator=seeded(1))
    mean = done.trace.mean.unflatten(0, (B, N))
    assert torch.equal(done.images, torch.where(known[:, None], x[:, None], mean))
    # The chosen ones are on record as they were drawn, with windows.
    assert done.trace.read_window is not None
    assert done.trace.read_window.g_x.shape == (T, B * N)


def test_a_round_looks_at_what_is_known_and_a_drawing_from_the_prior() -> None:
    model, x, known = tiny_model(), images(), some_known()
    done = complete(model, x, known, rounds=1, chains=1, fill="mean", generator=seeded(1))
    generator = seeded(1)
    begun = torch.where(known, x, model.generate(B, generator=generator).mean)
    trace = model(begun, generator=generator)
    torch.testing.assert_close(done.bound[0], log_weight(x, trace, known))
    torch.testing.assert_close(done.images[:, 0], torch.where(known, x, trace.mean))


def test_samples_are_black_or_white_unless_there_are_greys() -> None:
    model, known = tiny_model(), some_known()
    grey = images()
    black = grey.round()

    def filled(x: Tensor) -> Tensor:
        done = complete(model, x, known, rounds=2, generator=seeded(1))
        return done.images[:, 0][~known]

    assert ((filled(black) == 0) | (filled(black) == 1)).all()
    assert ((filled(grey) > 0) & (filled(grey) < 1)).all()


# An image of two pixels, drawn with one latent: all there is to know can be integrated.


def two_pixels(prior: Literal["standard", "learned"]) -> DRAW:
    """A network whose pixels depend on each other, and whose Q knows little of that."""
    model = DRAW(DRAWConfig((1, 1, 2), 1, 3, 4, 1, read_size=None, write_size=None, prior=prior))
    generator = seeded(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        model.decoder.weight[:, 0] *= 4
        model.patch.weight[1] = model.patch.weight[0] = 9 * torch.randn(4, generator=generator)
        model.log_sigma.bias.fill_(0.4)  # as wide as the prior, so that nothing is out of reach
        model.log_sigma.weight *= 0.2
    return model


def integrated(model: DRAW) -> Tensor:
    """p(x_1, x_2) of all four images, ``(2, 2)``, by the trapezoidal rule over the latent."""
    noise = torch.linspace(-8, 8, 4001)
    with torch.no_grad():
        trace = model.generate(len(noise), noise=noise[None, :, None])
    ink = trace.mean.view(-1, 2, 1)
    each = torch.cat([1 - ink, ink], dim=2)  # of pixel, of value
    density = torch.exp(-noise.square() / 2) / (2 * torch.pi) ** 0.5
    joint = each[:, 0, :, None] * each[:, 1, None, :] * density[:, None, None]
    return joint.sum(0) * (noise[1] - noise[0])


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("value", [0, 1])
def test_it_samples_what_is_hidden_given_what_is_known(
    prior: Literal["standard", "learned"], value: int
) -> None:
    model, n = two_pixels(prior), 4000
    p = integrated(model)
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    x = torch.tensor([[[[float(value), 0.0]]]])
    known = torch.tensor([True, False])
    done = complete(model, x, known, n=n, rounds=2, chains=32, generator=seeded(1))
    expected = (p[value, 1] / p[value].sum()).item()
    found = done.images[0, :, 0, 0, 1].mean().item()
    assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)
    # Were pixels independent, or were all drawn from the prior, this would say little.
    assert abs(expected - p[:, 1].sum().item()) > 0.1
    assert done.bound[-1].item() == pytest.approx(p[value].sum().log().item(), abs=0.02)


def test_the_known_pixels_are_what_is_weighed() -> None:
    model, x, known = tiny_model(), images(), some_known()
    trace = model(x, generator=seeded(1))
    canvas = trace.canvas[-1]
    of_known = log_likelihood(x, canvas, known=known)
    of_rest = log_likelihood(x, canvas, known=~known)
    torch.testing.assert_close(of_known + of_rest, log_likelihood(x, canvas))
    difference = log_weight(x, trace) - log_weight(x, trace, known)
    torch.testing.assert_close(difference, of_rest)


@pytest.mark.parametrize("side", [(8, 6), (7, 5), (1, 2), (28, 28)])
def test_halves_and_centres(side: tuple[int, int]) -> None:
    height, width = side
    hidden = {part: ~hide(part, height, width) for part in PARTS}
    assert hidden["left"].sum() == hidden["right"].sum() == height * (width // 2)
    assert hidden["top"].sum() == hidden["bottom"].sum() == width * (height // 2)
    assert torch.equal(hidden["left"].flip(1), hidden["right"])
    assert torch.equal(hidden["top"].flip(0), hidden["bottom"])
    assert torch.equal(hidden["left"].T, ~hide("top", width, height))
    assert not (hidden["left"] & hidden["right"]).any()
    centre = hidden["centre"]
    assert torch.equal(centre, centre.flip(0, 1))
    assert hidden["left"][:, 0].all() or width == 1
    assert hidden["top"][0].all() or height == 1


def test_the_centre_is_half_as_high_and_wide() -> None:
    hidden = ~hide("centre", 28, 20)
    assert hidden.sum() == 14 * 10
    assert hidden[7:21, 5:15].all()


@pytest.mark.parametrize("share", [0, 0.25, 0.8, 1])
def test_a_share_of_the_pixels(share: float) -> None:
    known = hide_at_random(share, 7, 9, seeded(1))
    assert known.shape == (7, 9)
    assert (~known).sum() == round(share * 63)
    assert torch.equal(known, hide_at_random(share, 7, 9, seeded(1)))
    if 0 < share < 1:
        assert not torch.equal(known, hide_at_random(share, 7, 9, seeded(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be >= 1, got 0"),
        ({"rounds": 0}, "rounds must be >= 1, got 0"),
        ({"chains": -1}, "chains must be >= 1, got -1"),
        ({"fill": "guess"}, "fill must be sample, mean or None, got 'guess'"),
        ({"known": torch.ones(H, W)}, "known must be of type torch.bool, got torch.float32"),
        ({"x": torch.rand(B, C, W, H)}, rf"x must be \(B, {C}, {H}, {W}\), got \(5, 3, {W}, {H}\)"),
        ({"known": torch.ones(W, H).bool()}, r"known must have a shape that broadcasts to \(5, 3"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    known = options.pop("known", torch.ones(H, W, dtype=torch.bool))
    x = options.pop("x", images())
    with pytest.raises(ValueError, match=message):
        complete(tiny_model(), x, known, **options)


def test_masks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="part must be one of left, right, top, bottom, centre"):
        hide("middle", 4, 4)  # type: ignore[arg-type]
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share must be from 0 to 1, got"):
            hide_at_random(share, 4, 4)


def test_a_round_begins_with_the_likeliest_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(DRAW):
        def forward(self, x: Tensor, **how: Any) -> Trace:
            trace = super().forward(x, **how)
            seen.append((x, trace.mean))
            return trace

    def second_of_three(x: Tensor, *_: Any) -> Tensor:
        return torch.where(torch.arange(len(x)) % 3 == 1, 0.0, -1e9)

    monkeypatch.setattr("drawnet.complete.log_weight", second_of_three)
    known = some_known()
    how: dict[str, Any] = {"n": 2, "rounds": 2, "chains": 3, "fill": "mean"}
    complete(Watched(CONFIG), images(), known, generator=seeded(1), **how)
    (_, drawn), (begun, _), _ = seen
    drawn, begun = (each.view(B * 2, 3, C, H, W) for each in (drawn, begun))
    hidden = ~known.repeat_interleave(2, 0)[:, None].expand_as(begun)
    torch.testing.assert_close(begun[hidden], drawn[:, 1:2].expand_as(begun)[hidden])


def test_rounds_are_told() -> None:
    told: list[tuple[str, int, int]] = []
    known = torch.ones(H, W, dtype=torch.bool)
    complete(tiny_model(), images(), known, rounds=3, progress=lambda *told_: told.append(told_))
    assert told == [("rounds", number, 3) for number in (1, 2, 3)]


def test_digits_are_completed_better_from_round_to_round(data_dir: Path) -> None:
    torch.set_default_dtype(torch.float32)
    model = DRAW.from_pretrained("mnist")
    x, _ = load("binarized_mnist", "test", data_dir).batch(torch.arange(12))
    known = hide("left", 28, 28)
    done = complete(model, x, known, n=3, rounds=8, chains=4, generator=seeded(0))
    first, last = done.bound[0], done.bound[-1]
    assert (last > first).double().mean() > 0.6
    assert (last - first).mean() > 5
    # As many chains that go each its own way do not come as far.
    alone = complete(model, x, known, n=12, rounds=8, chains=1, generator=seeded(0))
    together = complete(model, x, known, n=1, rounds=8, chains=12, generator=seeded(0))
    assert (together.bound[-1] - alone.bound[-1]).mean() > 0
    # What is filled in is more like what was hidden there than like what was hidden elsewhere.
    mean = done.trace.mean.unflatten(0, (12, 3)).mean(1)
    apart = (mean[:, None] - x).square().mul(~known).flatten(2).sum(2)
    own = apart.diagonal().mean()
    assert own < 0.95 * (apart.sum() - apart.trace()) / (12 * 11)
