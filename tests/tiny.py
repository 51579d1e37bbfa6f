"""A network and images so small that a loop can check them, with every size a different number."""

from typing import Any

import torch
from torch import Tensor

from drawnet import DRAW, DRAWConfig

B = 5
C, H, W = 3, 11, 8
T, Z = 6, 7
ENC, DEC = 10, 9
READ, WRITE = 2, 4

CONFIG = DRAWConfig(
    image_shape=(C, H, W),
    glimpses=T,
    enc_size=ENC,
    dec_size=DEC,
    z_size=Z,
    read_size=READ,
    write_size=WRITE,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_model(**changes: Any) -> DRAW:
    """A network with random weights everywhere, so that nothing is zero or the same by accident."""
    model = DRAW(DRAWConfig(**{**vars(CONFIG), **changes}))
    generator = seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def images(batch: int = B, shape: tuple[int, ...] = (C, H, W)) -> Tensor:
    return torch.rand(batch, *shape, generator=seeded(2))


def levels(batch: int = B, shape: tuple[int, ...] = (C, H, W)) -> Tensor:
    """Images of bytes, many of which are 0 or 255."""
    return (2 * images(batch, shape) - 0.5).clamp(0, 1).mul(255).round() / 255


def noise(batch: int = B, glimpses: int = T, z_size: int = Z) -> Tensor:
    return torch.randn(glimpses, batch, z_size, generator=seeded(3))
