"""The sizes of a network: all that decides its weights. Importing this imports no torch."""

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True)
class DRAWConfig:
    """The sizes of a DRAW network. The defaults are the paper's for MNIST (its Table 3).

    Attributes:
        image_shape: (C, H, W): channels, height and width of an image.
        glimpses: T, the length of the chain. No weight depends on it.
        enc_size: Width of the encoder's LSTM.
        dec_size: Width of the decoder's LSTM.
        z_size: Dimensions of the latent z_t of each glimpse.
        read_size: N of the reading window, or None to read the whole image: equation (17).
        write_size: N of the writing window, or None to write the whole canvas: equation (18).
        prior: ``"standard"``, the paper's P(Z_t) = N(0, I), or ``"learned"``: a diagonal Gaussian
            that is a linear function of h_dec_{t-1}, as in Gregor et al., "Towards Conceptual
            Compression" (2016).

    Raises:
        ValueError: If a size is out of its range.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    glimpses: int = 64
    enc_size: int = 256
    dec_size: int = 256
    z_size: int = 100
    read_size: int | None = 2
    write_size: int | None = 5
    prior: Literal["standard", "learned"] = "standard"

    def __post_init__(self) -> None:
        # Weights come with their configuration in JSON, which has lists and no tuples.
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        if len(self.image_shape) != 3:
            raise ValueError(f"image_shape must be (C, H, W), got {self.image_shape}")
        sizes = {
            **{f.name: getattr(self, f.name) for f in fields(self)[1:-1]},
            **dict(zip(("channels", "height", "width"), self.image_shape, strict=True)),
        }
        limits = {"glimpses": 10_000, "channels": 64, "height": 4096, "width": 4096}
        for name, size in sizes.items():
            if size is None and name in ("read_size", "write_size"):
                continue
            limit = limits.get(name, 1024 if name in ("read_size", "write_size") else 65_536)
            if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= limit:
                raise ValueError(f"{name} must be an integer from 1 to {limit}, got {size!r}")
        if self.prior not in ("standard", "learned"):
            raise ValueError(f"prior must be 'standard' or 'learned', got {self.prior!r}")
