"""Drawing by class: p(x | y)."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from oracle import draw
from tiny import B, C, H, T, W, Z, images, levels, noise, seeded, tiny_model
from torch import Tensor

from drawnet import DRAW, DRAWConfig
from drawnet.complete import complete
from drawnet.data import Images
from drawnet.data.images import DataError
from drawnet.evaluate import evaluate
from drawnet.explore import interpolate, likeliest_labels, redraw, transmit
from drawnet.objective import elbo, importance_weighted_bound

CLASSES = 4
Y = torch.tensor([2, 0, 3, 3, 1])


def by_class(**changes: Any) -> DRAW:
    return tiny_model(classes=CLASSES, **changes)


def told(model: DRAW, label: int) -> DRAW:
    """A network without classes that does what another does for one label."""
    plain = DRAW(replace(model.config, classes=0))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for layer in ("encoder", "decoder"):
        of_label = state[f"{layer}.weight"][:, -CLASSES:]
        state[f"{layer}.bias"] += of_label[:, label]
        state[f"{layer}.weight"] = state[f"{layer}.weight"][:, :-CLASSES]
    plain.load_state_dict(state)
    return plain


@pytest.mark.parametrize("prior", ["standard", "learned"])
@pytest.mark.parametrize("sizes", [{}, {"read_size": None, "write_size": None}])
def test_a_label_is_a_bias_of_both_lstms(prior: str, sizes: dict[str, None]) -> None:
    model = by_class(prior=prior, **sizes)
    x, eps = images(), noise()
    trace, drawn = model(x, y=Y, noise=eps), model.generate(B, y=Y, noise=eps)
    assert torch.equal(trace.y, Y)
    assert torch.equal(drawn.y, Y)
    for k, label in enumerate(Y.tolist()):
        plain, only = told(model, label), slice(k, k + 1)
        same = plain(x[only], noise=eps[:, only])
        torch.testing.assert_close(trace.canvas[:, only], same.canvas)
        torch.testing.assert_close(trace.mu[:, only], same.mu)
        same = plain.generate(1, noise=eps[:, only])
        torch.testing.assert_close(drawn.canvas[:, only], same.canvas)
        assert same.y is None


def test_images_are_completed_as_of_their_class() -> None:
    model, x, known = by_class(), images(), torch.arange(W) < W // 2
    y = Y[:1].expand(B)
    options = {"n": 2, "rounds": 2, "chains": 3}
    done = complete(model, x, known, y=y, generator=seeded(1), **options)
    same = complete(told(model, int(Y[0])), x, known, generator=seeded(1), **options)
    torch.testing.assert_close(done.images, same.images)
    torch.testing.assert_close(done.bound, same.bound)
    done = complete(model, x, known, y=Y, generator=seeded(1), **options)
    assert torch.equal(done.trace.y, Y.repeat_interleave(2))
    with pytest.raises(ValueError, match="y must give the class of each image, one of 4"):
        complete(model, x, known)


def test_a_label_is_an_input_of_both_lstms_at_every_glimpse() -> None:
    model = by_class()
    x, eps = images(), noise()
    weights = {name: value.tolist() for name, value in model.state_dict().items()}
    bounds = elbo(x, model(x, y=Y, noise=eps))
    for k in (0, 1):
        one_hot = [float(label == Y[k]) for label in range(CLASSES)]
        sizes = model.config.read_size, model.config.write_size
        paper = draw(weights, (C, H, W), eps[:, k].tolist(), *sizes, x[k].tolist(), label=one_hot)
        assert -paper.loss_x - paper.loss_z == pytest.approx(bounds[k].item())


def test_every_label_learns_from_its_own_images() -> None:
    model = by_class(prior="learned")
    x = images()
    elbo(x, model(x, y=Y.clamp(max=2), noise=noise())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    for layer in (model.encoder, model.decoder):
        of_label = layer.weight.grad[:, -CLASSES:].abs().sum(0)
        assert (of_label[:3] > 0).all()
        assert of_label[3] == 0


def test_labels_take_no_room_where_there_are_none() -> None:
    plain, classes = DRAW(DRAWConfig()), DRAW(DRAWConfig(classes=10))
    count = [sum(p.numel() for p in model.parameters()) for model in (plain, classes)]
    assert count[1] - count[0] == 10 * 4 * (256 + 256)


@pytest.mark.parametrize(
    ("classes", "y", "message"),
    [
        (CLASSES, None, "y must give the class of each image, one of 4, got None"),
        (CLASSES, Y[:-1], r"y must be int64 labels \(5,\), got torch.int64 \(4,\)"),
        (CLASSES, Y.double(), r"y must be int64 labels \(5,\), got torch.float64 \(5,\)"),
        (CLASSES, Y + 1, "y must be labels from 0 to 3, got 1 to 4"),
        (CLASSES, Y - 1, "y must be labels from 0 to 3, got -1 to 2"),
        (0, Y, "y must be None for a network without classes, got labels"),
    ],
)
def test_labels_that_do_not_fit(classes: int, y: Tensor | None, message: str) -> None:
    model = tiny_model(classes=classes)
    with pytest.raises(ValueError, match=message):
        model(images(), y=y)
    with pytest.raises(ValueError, match=message):
        model.generate(B, y=y)


def labelled(x: Tensor, y: Tensor | None, classes: int = CLASSES) -> Images:
    names = tuple("abcdef"[:classes]) if y is not None else ()
    return Images((x * 255).round().to(torch.uint8), y, "letters", "test", "letters", names)


def test_bounds_are_given_the_label() -> None:
    model, x = by_class(), levels()
    bound = importance_weighted_bound(model, x, 5, seeded(3), chunk=2 * B, y=Y)
    for k, label in enumerate(Y.tolist()):
        # The same noise reaches the image in a batch of its copies.
        copies = x[k : k + 1].expand_as(x)
        same = importance_weighted_bound(told(model, label), copies, 5, seeded(3), chunk=2 * B)
        torch.testing.assert_close(bound[k], same[k])
    measured = evaluate(model, labelled(x, Y), samples=3, seed=0)
    generator = seeded(0)
    expected = -elbo(x, model(x, y=Y, generator=generator)).mean().item()
    assert measured.nats == pytest.approx(expected)
    weighted = -importance_weighted_bound(model, x, 3, generator, y=Y).mean().item()
    assert measured.iw_nats == pytest.approx(weighted)


def test_images_need_the_labels_that_a_network_is_told() -> None:
    x = levels()
    with pytest.raises(DataError, match="letters: expected labels of 4 classes, got no labels"):
        evaluate(by_class(), labelled(x, None))
    with pytest.raises(DataError, match="letters: expected labels of 4 classes, got labels of 6"):
        evaluate(by_class(), labelled(x, Y, classes=6))
    plain = tiny_model()
    assert evaluate(plain, labelled(x, Y)) == evaluate(plain, labelled(x, None))


def test_walks_keep_the_labels() -> None:
    model, x = by_class(), images()
    trace = model(x, y=Y, noise=noise())
    again = redraw(model, trace, T, n=2)
    torch.testing.assert_close(again.canvas, trace.canvas.repeat_interleave(2, dim=1))
    assert torch.equal(again.y, Y.repeat_interleave(2))
    sent = transmit(model, trace, [0, T])
    torch.testing.assert_close(sent.pictures[1], trace.mean)

    way = interpolate(model, x[0], x[1], y=Y[:2], steps=5)
    assert way.y.tolist() == [2, 2, 2, 0, 0]
    ends = model(x[:2], y=Y[:2], noise=torch.zeros(T, 2, Z))
    torch.testing.assert_close(way.canvas[:, [0, -1]], ends.canvas, atol=1e-5, rtol=0)


def test_the_likeliest_label_has_the_highest_bound() -> None:
    model, x = by_class(), images() * torch.linspace(0, 1, B).view(B, 1, 1, 1)
    with torch.no_grad():
        model.decoder.weight[:, -CLASSES:] *= 8
    eps = torch.randn(T, B, Z, generator=seeded(4))
    bounds = torch.stack([elbo(x, told(model, label)(x, noise=eps)) for label in range(CLASSES)])
    assert torch.equal(likeliest_labels(model, x, generator=seeded(4)), bounds.argmax(0))
    assert len(bounds.argmax(0).unique()) > 1
    longer = replace(model.config, glimpses=T + 3)
    long = DRAW(longer)
    long.load_state_dict(model.state_dict())
    asked, same = seeded(5), seeded(5)
    of_longer = likeliest_labels(long, x, generator=asked)
    assert torch.equal(likeliest_labels(model, x, generator=same, glimpses=T + 3), of_longer)
    with pytest.raises(ValueError, match="model must draw by class, got one without classes"):
        likeliest_labels(told(model, 0), x)
