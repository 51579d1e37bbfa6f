"""The glimpse classifier, its baselines, and how their errors are counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import Attention, lstm
from tiny import seeded
from torch import Tensor, nn

from drawnet.baselines import ConvNet, multiply_adds
from drawnet.classify import GlimpseClassifier, nll, wrong
from drawnet.config import ClassifierConfig, ConvNetConfig
from drawnet.data import Images
from drawnet.data.views import binarized
from drawnet.evaluate import evaluate_classifier, wilson
from drawnet.weights import WeightsError

B, T, K = 5, 4, 6
C, H, W = 2, 9, 12
HIDDEN, READ = 7, 3
SMALL = ClassifierConfig((C, H, W), glimpses=T, hidden_size=HIDDEN, read_size=READ, classes=K)


def small_classifier() -> GlimpseClassifier:
    """Random weights everywhere, so that nothing is zero or the same by accident."""
    model = GlimpseClassifier(SMALL)
    generator = seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def images(batch: int = B) -> Tensor:
    return torch.rand(batch, C, H, W, generator=seeded(2))


def labels(batch: int = B) -> Tensor:
    return torch.arange(batch) % K


def test_glimpses_are_the_papers() -> None:
    model, x = small_classifier(), images(2)
    glimpses = model(x)
    weights = {name: value.tolist() for name, value in model.state_dict().items()}

    def linear(name: str, inputs: list[float]) -> list[float]:
        rows, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return [
            sum(w * value for w, value in zip(row, inputs, strict=True)) + b
            for row, b in zip(rows, bias, strict=True)
        ]

    for k, image in enumerate(x.tolist()):
        h, cell = weights["h"], weights["cell"]
        for t in range(T):
            window = Attention(linear("window", h), READ, H, W)
            patch = [window.read(channel) for channel in image]
            r = [value for channel in patch for row in channel for value in row]
            h, cell = lstm(linear("lstm", r + h), cell)
            found = {
                "g_y": window.g_y - 1,  # from 1, from 0
                "g_x": window.g_x - 1,
                "delta": window.delta,
                "sigma": window.sigma2**0.5,
                "gamma": window.gamma,
            }
            for name, value in found.items():
                assert getattr(glimpses.window, name)[t, k].item() == pytest.approx(value, rel=1e-9)
            torch.testing.assert_close(glimpses.patches[t, k], torch.tensor(patch))
            torch.testing.assert_close(glimpses.logits[t, k], torch.tensor(linear("answer", h)))


def test_sizes_of_the_papers_network() -> None:
    model = GlimpseClassifier(ClassifierConfig())
    sizes = {name: value.numel() for name, value in model.named_parameters()}
    assert sizes.pop("h") + sizes.pop("cell") == 512
    assert sum(sizes.values()) == 414_479


def test_first_window_is_the_same_for_all_images_and_covers_them() -> None:
    window = GlimpseClassifier(SMALL)(images()).window
    for value in window:
        assert (value[0] == value[0, 0]).all()
    assert window.g_y[0, 0].item() == pytest.approx((H - 1) / 2)
    assert window.g_x[0, 0].item() == pytest.approx((W - 1) / 2)
    assert ((READ - 1) * window.delta[0, 0]).item() == pytest.approx(W - 1)
    assert window.sigma[0, 0].item() == pytest.approx(window.delta[0, 0].item() / 2)
    for value in window:  # and hardly moves before it has learned where to
        torch.testing.assert_close(value, value[:1].expand_as(value), rtol=0.1, atol=0.1)
    trained = small_classifier()(images()).window
    for value in trained:
        assert (value[0] == value[0, 0]).all()
        assert not torch.isclose(value[1:], value[1:, :1]).all()


def test_every_parameter_learns() -> None:
    model = small_classifier()
    nll(model.logits(images()), labels()).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        rows = parameter.grad.view(len(parameter), -1)
        assert rows.any(dim=1).all(), name


def test_images_do_not_see_each_other() -> None:
    model, x = small_classifier(), images(3).requires_grad_()
    (gradient,) = torch.autograd.grad(model.logits(x)[:, 1].sum(), x)
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).all()


def test_a_longer_look_begins_as_a_shorter() -> None:
    model, x = small_classifier(), images()
    assert torch.equal(model.logits(x, glimpses=T + 2)[:T], model.logits(x))
    assert model(x, glimpses=1).patches.shape == (1, B, C, READ, READ)
    with pytest.raises(ValueError, match="glimpses must be >= 1, got 0"):
        model(x, glimpses=0)
    with pytest.raises(ValueError, match=r"x must be \(B, 2, 9, 12\), got \(5, 2, 12, 9\)"):
        model(x.mT)


@pytest.mark.filterwarnings("ignore")  # of torch's own code
def test_a_classifier_can_be_exported_for_batches_of_any_size() -> None:
    class Answer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = small_classifier().requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.model.logits(x)[-1]

    answer, sizes = Answer(), {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(answer, (images(2),), dynamic_shapes=sizes).module()
    torch.testing.assert_close(program(images()), answer(images()))


def test_low_precision_is_near() -> None:
    model, x = small_classifier(), images()
    exact = model.logits(x)
    model.precision = torch.bfloat16
    rounded = model.logits(x)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.02)


def test_a_few_images_are_learned_by_heart() -> None:
    torch.manual_seed(0)
    model, y = GlimpseClassifier(replace(SMALL, hidden_size=16)), labels()
    x = torch.zeros(B, C, H, W)
    for k in range(B):
        x[k, :, 1 + k : 4 + k, 2 * k : 2 * k + 3] = 1  # a square, here or there
    adam = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        adam.zero_grad()
        nll(model.logits(x), y).mean().backward()
        adam.step()
    logits = model.logits(x)
    assert nll(logits, y).mean() < 0.1
    assert not wrong(logits, y)[-1].any()


def test_the_loss_is_the_cross_entropy_of_the_last_answer() -> None:
    logits, y = torch.randn(T, B, K, generator=seeded(3)), labels()
    log_p = logits[-1].log_softmax(-1)[torch.arange(B), y]
    torch.testing.assert_close(nll(logits, y), -log_p)


def told(answers: list[list[int]], truth: list[int], classes: int = 3) -> Images:
    """Images whose row t is the answer after glimpse t, for a classifier that reads it off."""
    hot = nn.functional.one_hot(torch.tensor(answers), classes)  # (N, T, classes)
    names = tuple("abcdefg"[:classes])
    return Images(hot[:, None].byte(), torch.tensor(truth), "told", "test", "told", names)


class Reader:
    def logits(self, x: Tensor) -> Tensor:
        return x[:, 0].transpose(0, 1)


def test_a_network_is_evaluated_in_its_own_precision() -> None:
    model = GlimpseClassifier(ClassifierConfig((1, 2, 3), T, 9, 2, 3)).float()
    images = told([[0, 0], [0, 1], [1, 1], [2, 0]], [0, 1, 1, 2])
    assert evaluate_classifier(model, images).count == 4
    torch.set_default_dtype(torch.float32)
    assert evaluate_classifier(model.double(), images).count == 4


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_errors_are_counted(batch_size: int) -> None:
    answers = [[0, 0], [0, 1], [1, 1], [2, 0], [1, 2], [0, 2], [2, 1]]
    seen: list[tuple[str, int, int]] = []
    rate = evaluate_classifier(
        Reader(),
        told(answers, [0, 1, 1, 1, 2, 2, 2]),
        batch_size=batch_size,
        progress=lambda *said: seen.append(said),
    )
    assert rate.confusion == [[1, 0, 0], [1, 2, 0], [0, 1, 2]]
    assert rate.error_per_glimpse == [4 / 7, 2 / 7]
    assert rate.error == 2 / 7
    assert rate.interval == wilson(2, 7)
    assert rate.count == sum(map(sum, rate.confusion)) == 7
    assert seen[-1] == ("images", 7, 7)


def test_the_seed_decides_what_is_random_about_the_images() -> None:
    images = told([[0, 0]] * 60, [0] * 60)
    images = replace(images, pixels=torch.full_like(images.pixels, 128), view=binarized)
    one, same, other = (
        evaluate_classifier(Reader(), images, batch_size=size, seed=seed).confusion
        for size, seed in ((60, 1), (7, 1), (60, 2))
    )
    assert one == same != other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None, "classes": ()}, "told without labels"),
        ({"chosen": torch.tensor([], dtype=torch.int64)}, "an empty set"),
        ({"classes": tuple("abcd")}, "expected 4 classes, as told has, got 3"),
    ],
)
def test_what_cannot_be_evaluated(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_classifier(Reader(), replace(told([[0, 0], [0, 1]], [0, 1]), **changes))


@pytest.mark.parametrize(
    ("errors", "count", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval(errors: int, count: int, low: float, high: float) -> None:
    interval = wilson(errors, count)
    assert interval == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(count - errors, count)
    assert mirrored == pytest.approx((1 - interval[1], 1 - interval[0]), abs=1e-12)
    for p in interval:
        far = abs(errors / count - p)
        assert far == pytest.approx(1.959963984540054 * (p * (1 - p) / count) ** 0.5, abs=1e-9)


def test_weights_come_back_from_disk(tmp_path: Path) -> None:
    classifier = small_classifier()
    classifier.save_pretrained(tmp_path / "glimpses", error=0.03)
    again = GlimpseClassifier.from_pretrained(tmp_path / "glimpses")
    assert again.config == SMALL
    assert torch.equal(again.logits(images()), classifier.logits(images()))

    net = ConvNet(ConvNetConfig((C, 30, 41), K, "coarse"))
    net.save_pretrained(tmp_path / "net")
    x = torch.rand(B, C, 30, 41)
    assert torch.equal(ConvNet.from_pretrained(tmp_path / "net")(x), net(x))
    with pytest.raises(WeightsError, match="expected weights of a GlimpseClassifier"):
        GlimpseClassifier.from_pretrained(tmp_path / "net")


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (ClassifierConfig, {"glimpses": 0}, "glimpses must be .* got 0"),
        (ClassifierConfig, {"read_size": None}, "read_size must be .* got None"),
        (ClassifierConfig, {"classes": 2.0}, "classes must be .* got 2.0"),
        (ClassifierConfig, {"image_shape": (100, 100)}, r"image_shape must be \(C, H, W\)"),
        (ConvNetConfig, {"layers": "deep"}, "layers must be 'two' or .* got 'deep'"),
        (ConvNetConfig, {"image_shape": (1, 0, 9)}, "height must be .* got 0"),
    ],
)
def test_sizes_out_of_range(config: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize(("layers", "least"), [("two", 10), ("coarse", 23), ("fine", 26)])
def test_baselines(layers: Any, least: int) -> None:
    net = ConvNet(ConvNetConfig((C, least, least + 5), K, layers))
    x = torch.rand(B, C, least, least + 5, generator=seeded(4), requires_grad=True)
    logits = net.logits(x)
    assert logits.shape == (1, B, K)
    assert torch.equal(logits[0], net(x))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    assert gradient[1].any()
    assert not gradient[[0, 2, 3, 4]].any()
    nll(logits, labels()).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    with pytest.raises(ValueError, match=f"at least {least} pixels"):
        ConvNet(ConvNetConfig((C, least - 1, 50), K, layers))


@pytest.mark.parametrize("layers", ["coarse", "fine"])
def test_maxima_do_not_mind_where(layers: Any) -> None:
    net = ConvNet(ConvNetConfig((1, 96, 104), K, layers))
    x = torch.zeros(1, 1, 96, 104)
    x[..., 40:54, 40:51] = torch.rand(14, 11, generator=seeded(5))
    torch.testing.assert_close(net(x.roll((8, 16), (2, 3))), net(x))


def test_what_a_baseline_cannot_take_is_refused() -> None:
    net = ConvNet(ConvNetConfig((C, 35, 50), K, "two"))
    x = torch.rand(2, C, 35, 50)
    for wrong_x, message in (
        (x[..., 1:], r"x must be \(B, "),
        (x.float(), r"of type torch\.float64"),
        (255 * x, r"values in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            net(wrong_x)


def test_multiply_adds() -> None:
    net = ConvNet(ConvNetConfig((C, 35, 50), K, "two"))
    places = 6 * 9
    expected = places * 8 * C * 10**2 + places * 8 * 256 + 256 * K
    assert multiply_adds(net, (C, 35, 50)) == expected
    reading = C * H * W * READ + C * H * READ**2
    gates = (C * READ**2 + HIDDEN) * 4 * HIDDEN
    heads = HIDDEN * (5 + K)  # once more than glimpses, since h_0 counts too
    total = multiply_adds(small_classifier(), (C, H, W))
    assert total == T * (reading + gates) + (T + 1) * heads
