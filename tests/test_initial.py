"""What a new network is: its layers, and where its learning starts."""

from typing import Any

import pytest
import torch
from tiny import CONFIG, DEC, ENC, READ, WRITE, C, H, W, Z, images, tiny_model

from drawnet import DRAW, DRAWConfig
from drawnet.classify import GlimpseClassifier
from drawnet.config import ClassifierConfig


@pytest.mark.parametrize(
    ("changes", "layers", "initial"),
    [
        ({}, 959_467, 1_296 + 512),
        (
            {
                "image_shape": (3, 54, 54),
                "glimpses": 32,
                "enc_size": 800,
                "dec_size": 800,
                "read_size": 12,
                "write_size": 12,
            },
            11_285_442,
            10_348 + 1_600,
        ),
        (
            {
                "image_shape": (3, 32, 32),
                "enc_size": 400,
                "dec_size": 400,
                "z_size": 200,
                "read_size": 5,
                "write_size": 5,
            },
            2_677_685,
            3_872 + 800,
        ),
        ({"read_size": None, "write_size": None}, 2_749_400, 1_296 + 512),
    ],
    ids=["MNIST", "SVHN", "CIFAR", "no attention"],
)
def test_the_papers_networks_have_so_many_parameters(
    changes: dict[str, Any], layers: int, initial: int
) -> None:
    with torch.device("meta"):
        model = DRAW(DRAWConfig(**changes))
    assert sum(p.numel() for p in model.parameters()) == layers + initial


def test_the_layers_have_the_names_of_the_paper() -> None:
    shapes = {name: tuple(value.shape) for name, value in tiny_model().state_dict().items()}
    assert {name: shape for name, shape in shapes.items() if not name.endswith("bias")} == {
        "encoder.weight": (4 * ENC, 2 * C * READ**2 + DEC + ENC),
        "decoder.weight": (4 * DEC, Z + DEC),
        "mu.weight": (Z, ENC),
        "log_sigma.weight": (Z, ENC),
        "patch.weight": (C * WRITE**2, DEC),
        "read_window.weight": (5, DEC),
        "write_window.weight": (5, DEC),
        "canvas": (C, H, W),
        "h_enc": (ENC,),
        "cell_enc": (ENC,),
        "h_dec": (DEC,),
        "cell_dec": (DEC,),
    }


def test_an_untrained_learned_prior_is_the_standard_one() -> None:
    trace = DRAW(DRAWConfig(glimpses=2, prior="learned")).generate(3)
    assert trace.prior_mu.abs().max() == trace.prior_log_sigma.abs().max() == 0


def test_the_network_starts_from_a_seed() -> None:
    weights = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        weights.append(DRAW(CONFIG).encoder.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("read_size", [1, 2, 5])
def test_the_first_windows(read_size: int) -> None:
    """Reading starts on half the image; a patch of ones starts as a canvas of about one."""
    model = DRAW(DRAWConfig(image_shape=(1, 28, 28), glimpses=1, read_size=read_size))
    with torch.no_grad():
        model.patch.bias.fill_(1)
        for head in (model.patch, model.read_window, model.write_window):
            head.weight.zero_()
    trace = model(torch.zeros(1, 1, 28, 28))
    looked = trace.read_window
    assert looked.g_y.item() == looked.g_x.item() == pytest.approx(13.5)
    assert looked.delta.item() * max(read_size - 1, 1) == pytest.approx(13.5)
    assert looked.sigma.item() == pytest.approx(looked.delta.item() / 2)
    assert looked.gamma.item() == pytest.approx(1)
    assert trace.canvas[0, 0, 0, 13, 13].item() == pytest.approx(1, abs=0.05)


def test_forget_gates_start_open() -> None:
    for layer, size in ((DRAW(CONFIG).encoder, ENC), (DRAW(CONFIG).decoder, DEC)):
        assert layer.bias.nonzero().flatten().tolist() == list(range(size, 2 * size))
    looks = GlimpseClassifier(ClassifierConfig((C, H, W), 3, 6, READ, 4)).lstm
    assert looks.bias.nonzero().flatten().tolist() == list(range(6, 12))


def test_the_start_canvas_is_the_logit_of_the_mean_image() -> None:
    model = tiny_model()
    mean = images(1)[0].clamp(0.1, 0.9)
    model.start_canvas(mean)
    torch.testing.assert_close(torch.sigmoid(model.canvas), mean)
    model.start_canvas(torch.zeros(C, H, W))
    assert torch.isfinite(model.canvas).all()


@pytest.mark.parametrize(
    "network", [DRAW(CONFIG), GlimpseClassifier(ClassifierConfig((C, H, W), 3, 6, READ, 4))]
)
def test_all_of_a_network_can_begin_anew(network: DRAW | GlimpseClassifier) -> None:
    torch.manual_seed(5)
    network.reset_parameters()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    for weight in network.parameters():
        torch.nn.init.constant_(weight, 7)
    torch.manual_seed(5)
    network.reset_parameters()
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])


def test_the_initial_weights_have_the_size_that_they_should() -> None:
    torch.manual_seed(0)
    model = DRAW(DRAWConfig(glimpses=1))
    for layer in (model.encoder, model.decoder):
        assert layer.weight.abs().max().item() == pytest.approx(256**-0.5, rel=1e-3)
        assert layer.weight.std().item() == pytest.approx((3 * 256) ** -0.5, rel=0.01)
    for head in (model.mu, model.log_sigma, model.patch, model.read_window, model.write_window):
        assert head.weight.std().item() == pytest.approx(0.01, rel=0.1)
