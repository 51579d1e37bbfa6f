"""Images and labels that do not fit are refused, where looking at them costs nothing."""

from typing import Any

import pytest
import torch
from tiny import B, C, H, T, W, images, noise, tiny_model
from torch import Tensor
from torch.func import functional_call, grad, vmap

from drawnet.checks import check_images
from drawnet.classify import GlimpseClassifier
from drawnet.config import ClassifierConfig
from drawnet.objective import elbo

MODELS = [
    tiny_model,
    lambda: GlimpseClassifier(ClassifierConfig((C, H, W), T, 9, 4, 5)),
]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: (255 * x).to(torch.uint8), r"x must be of type torch.float64.*got torch.uint8"),
        (lambda x: x.float(), r"x must be of type torch.float64.*got torch.float32"),
        (lambda x: 255 * x, r"x must have values in \[0, 1\], got 0\.\d+ to 25\d"),
        (lambda x: 2 * x - 1, r"x must have values in \[0, 1\], got -0\.9"),
        (lambda x: x[0], r"x must be \(B, 3, 11, 8\), got \(3, 11, 8\)"),
        (lambda x: x.numpy(), r"x must be a tensor \(B, 3, 11, 8\), got ndarray"),
        (lambda x: x.mT, r"x must be \(B, 3, 11, 8\), got \(5, 3, 8, 11\)"),
    ],
)
def test_images_that_are_none(make: object, spoil: object, message: str) -> None:
    assert callable(make)
    assert callable(spoil)
    model = make()
    with pytest.raises(ValueError, match=message):
        model(spoil(images()))


def test_rounding_and_nothing_are_no_faults() -> None:
    check_images(torch.tensor([1 + 1e-6, -1e-6]).view(1, 1, 1, 2), (1, 1, 2), torch.float64)
    check_images(torch.zeros(0, 1, 1, 2), (1, 1, 2), torch.float64)


@pytest.mark.parametrize("y", [[0, 1, 2, 3, 4], [0, -1, 0, 0, 0]])
def test_labels_that_are_none(y: list[int]) -> None:
    with pytest.raises(ValueError, match="y must be labels from 0 to 3, got"):
        tiny_model(classes=4)(images(), y=torch.tensor(y))


@pytest.mark.parametrize("y", [2, [0, 1, 2, 0, 1]])
def test_labels_that_are_no_tensor(y: Any) -> None:
    with pytest.raises(ValueError, match=r"y must be int64 labels \(5,\), got"):
        tiny_model(classes=4).generate(B, y=y)


@pytest.mark.filterwarnings("ignore")  # of torch's own code
def test_a_network_of_classes_can_be_exported() -> None:
    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = tiny_model(classes=4).requires_grad_(False)

        def forward(self, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
            return self.model(x, y=y, noise=noise, record="last").mean

    mean, batch = Mean(), torch.export.Dim("batch")
    sizes = {"x": {0: batch}, "y": {0: batch}, "noise": {1: batch}}
    program = torch.export.export(
        mean, (images(2), torch.tensor([3, 1]), noise(2)), dynamic_shapes=sizes
    )
    more = images(), torch.arange(B) % 4, noise()
    torch.testing.assert_close(program.module()(*more), mean(*more))


def test_gradients_of_single_images() -> None:
    model, x, y, eps = tiny_model(classes=4), images(), torch.arange(B) % 4, noise()
    weights = dict(model.named_parameters())

    def bound(weights: dict[str, Tensor], x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        inputs = {"y": y[None], "noise": eps[:, None], "record": "last"}
        return elbo(x[None], functional_call(model, weights, (x[None],), inputs))[0]

    each = vmap(grad(bound), in_dims=(None, 0, 0, 1))(weights, x, y, eps)
    elbo(x, model(x, y=y, noise=eps)).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(each[name].sum(0), parameter.grad)
