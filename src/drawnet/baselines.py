"""Convolutional networks to compare a glimpse classifier with, and what each of them costs.

Three networks, by the name of their `layers`:

``"two"``
    The "convolutional, 2 layers" of Mnih et al. (2014), which DRAW's Table 1 quotes: 8 filters of
    10 x 10 with stride 5, and a fully connected layer of 256 units. The sizes are those of a public
    reproduction of that paper, with which it agrees within 0.3 % of error on 100 x 100 images.

``"coarse"``, ``"fine"``
    The two networks between which the dynamic capacity network of Almahairi et al. (2016) divides
    its work, each on its own: a few convolutions, then the maximum over all places, so that it
    makes no difference where a digit is. The sizes are those of a public reproduction. Its batch
    normalisation is left out: without it a network is its parameters alone, and their average over
    a training is again a network.

All layers but the last are followed by a ReLU. None of the networks has glimpses.
"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drawnet.checks import check_images
from drawnet.config import ConvNetConfig
from drawnet.weights import Pretrained


class ConvNet(Pretrained):
    """A convolutional network that classifies images.

    Attributes:
        config: Which network it is.
        layers: Its layers, in order.

    Raises:
        ValueError: If the images are too small for the filters.
    """

    Config: ClassVar[type] = ConvNetConfig
    config: ConvNetConfig

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.config = config
        make, least = _LAYERS[config.layers]
        if min(config.image_shape[1:]) < least:
            message = f"images must be at least {least} pixels high and wide for {config.layers!r}"
            raise ValueError(f"{message}, got {config.image_shape}")
        self.layers = make(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise with as much variance in every layer as in the image (He et al., 2015)."""
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """The logits of the classes.

        Raises:
            ValueError: If ``x`` has another shape or type, or values outside [0, 1].
        """
        check_images(x, self.config.image_shape, next(self.parameters()).dtype)
        answer: Tensor = self.layers(x)
        return answer

    def logits(self, x: Tensor) -> Float[Tensor, "1 batch classes"]:
        """The same logits as the only answer, for code that expects one after each glimpse."""
        return self.forward(x)[None]


def two(config: ConvNetConfig) -> nn.Sequential:
    """One convolution and two fully connected layers."""
    channels, height, width = config.image_shape
    places = ((height - 10) // 5 + 1) * ((width - 10) // 5 + 1)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 10, stride=5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * places, 256),
        nn.ReLU(),
        nn.Linear(256, config.classes),
    )


def coarse(config: ConvNetConfig) -> nn.Sequential:
    """Two convolutions that leave a sixteenth of the places, then `top`."""
    return nn.Sequential(
        nn.Conv2d(config.image_shape[0], 12, 7, stride=2),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2),
        nn.ReLU(),
        *top(config),
    )


def fine(config: ConvNetConfig) -> nn.Sequential:
    """Five convolutions that leave a sixteenth of the places, then `top`."""
    return nn.Sequential(
        nn.Conv2d(config.image_shape[0], 24, 3),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 24, 3),
        nn.ReLU(),
        *top(config),
    )


def top(config: ConvNetConfig) -> list[nn.Module]:
    """The layers that classify, given 24 features at each of many places."""
    return [
        nn.Conv2d(24, 96, 4, stride=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(96, config.classes),
    ]


# Each with the least height and width at which `top` still has a place to look at.
_LAYERS = {"two": (two, 10), "coarse": (coarse, 23), "fine": (fine, 26)}


@torch.no_grad()
def multiply_adds(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """How many multiply-adds a network needs to classify one image.

    This counts the matrix products and the convolutions as they are run, including those with which
    the attention reads, but no elementwise operations.

    Args:
        model: Any network of images.
        image_shape: (C, H, W).
    """
    parameter = next(model.parameters())
    x = torch.zeros(1, *image_shape, dtype=parameter.dtype, device=parameter.device)
    with FlopCounterMode(display=False) as counter:
        model(x)
    operations: int = counter.get_total_flops()
    return operations // 2
