r"""The distribution of an image given a canvas: D(X | c_T) of equation (9).

Given the canvas, every number of the image is independent of the others. The likelihood decides how
many numbers of the canvas describe one number of the image: that many *planes* per channel, stored
plane by plane, and channel by channel within a plane. All are drawn through the same windows.

`Bernoulli`, the paper's, is for black and white: one plane, the logit. For intensities in between
it is the paper's cross-entropy, which is not a code length.

`Logistic` is the discretised mixture of logistics of Salimans et al., "PixelCNN++" (2017), over the
256 intensities of an image of bytes, without their autoregression between channels. With
intensities, means and scales on a scale from -1 to 1, where a level is 2/255 wide,

    P(x) = sum_k pi_k [ sigma((x + 1/255 - m_k) / s_k) - sigma((x - 1/255 - m_k) / s_k) ]

where the lowest level reaches down to minus infinity and the highest up to infinity. So the 256
probabilities sum to 1, and the nats are a true code length. The planes are all m, then all log s
and, if there are several components, the logits of all pi.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from drawnet.config import DRAWConfig

LEVELS = 256
"""How many intensities there are: 0 to 255, which a model sees as 0 to 1."""
LOG_SCALE_LIMIT = 7.0
"""log s is kept within +-7: a component is never narrower than a ninth of a level."""
START_SCALE = 0.25
"""s of the initial canvas."""


class Likelihood(Protocol):
    """The distribution of an image given a canvas."""

    @property
    def planes(self) -> int:
        """How many numbers of the canvas describe one number of the image."""

    def log_prob(
        self,
        x: Float[Tensor, "*batch channels height width"],
        canvas: Float[Tensor, "*batch planes height width"],
    ) -> Float[Tensor, "*batch channels height width"]:
        """log D(x | canvas), in nats, for every number of an image in [0, 1]."""

    def mean(
        self, canvas: Float[Tensor, "*batch planes height width"]
    ) -> Float[Tensor, "*batch channels height width"]:
        """The expected image, in [0, 1]: what the encoder compares x with, and what is shown."""

    def start(
        self, mean: Float[Tensor, "channels height width"]
    ) -> Float[Tensor, "planes height width"]:
        """A canvas to start from, given the mean of many images."""

    def is_code_length(self, x: Tensor) -> bool:
        """Whether ``-log_prob`` is a code length for images such as these."""

    def sample(
        self,
        canvas: Float[Tensor, "*batch planes height width"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch channels height width"]:
        """An image drawn at random: X of equation (16)."""


@dataclass(frozen=True)
class Bernoulli:
    """The paper's likelihood: a pixel is 1 with probability sigma(canvas), and otherwise 0."""

    @property
    def planes(self) -> int:
        """The logit alone."""
        return 1

    def log_prob(self, x: Tensor, canvas: Tensor) -> Tensor:
        """x log sigma(canvas) + (1 - x) log(1 - sigma(canvas))."""
        return -F.binary_cross_entropy_with_logits(canvas, x, reduction="none")

    def mean(self, canvas: Tensor) -> Tensor:
        """sigma(canvas), the probability of ink."""
        return torch.sigmoid(canvas)

    def start(self, mean: Tensor) -> Tensor:
        """The logits of the mean, kept away from 0 and 1: a pixel that is never set in these images
        need not be impossible."""
        return torch.logit(mean, eps=1e-3)

    def is_code_length(self, x: Tensor) -> bool:
        """Whether every pixel is black or white."""
        return bool(((x == 0) | (x == 1)).all())

    def sample(self, canvas: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Every pixel 0 or 1."""
        return torch.bernoulli(self.mean(canvas), generator=generator)


@dataclass(frozen=True)
class Logistic:
    """A discretised mixture of logistics over 256 intensities.

    Attributes:
        components: How many logistics are mixed for each number of an image.
    """

    components: int = 1

    @property
    def planes(self) -> int:
        """m and log s; with several components, m, log s and the logit of pi of each."""
        return 2 if self.components == 1 else 3 * self.components

    def log_prob(self, x: Tensor, canvas: Tensor) -> Tensor:
        """log P(x). It and its gradient are finite for any finite canvas.

        With a and b the lower and upper end of the level of x, counted from m in units of s,

            log(sigma(b) - sigma(a)) = log sigma(b) + log sigma(-a) + log(1 - exp(a - b))

        where nothing cancels. In the lowest and the highest level, a or b is infinite, and two of
        the three terms are zero.
        """
        m, log_s, log_pi = self._split(canvas)
        x, half = (2 * x - 1).unsqueeze(-4), 1 / (LEVELS - 1)
        above_lowest, below_highest = x > -1 + half, x < 1 - half
        per_s = torch.exp(-log_s)
        b, a = (x + half - m) * per_s, (x - half - m) * per_s
        inside = torch.log(-torch.expm1(-2 * half * per_s))
        log_p = (
            torch.where(below_highest, F.logsigmoid(b), 0)
            + torch.where(above_lowest, F.logsigmoid(-a), 0)
            + torch.where(above_lowest & below_highest, inside, 0)
        )
        return log_p.squeeze(-4) if log_pi is None else torch.logsumexp(log_pi + log_p, dim=-4)

    def mean(self, canvas: Tensor) -> Tensor:
        """sum_k pi_k m_k, with every m_k kept within the range of intensities."""
        m, _, log_pi = self._split(canvas)
        m = (m.clamp(-1, 1) + 1) / 2
        return m.squeeze(-4) if log_pi is None else (log_pi.exp() * m).sum(-4)

    def start(self, mean: Tensor) -> Tensor:
        """Components of equal scale and weight, spread around the mean: at the same place, all
        would learn the same."""
        k = torch.arange(self.components, dtype=mean.dtype, device=mean.device)
        spread = 2 * START_SCALE * (2 * k + 1 - self.components) / self.components
        m = 2 * mean - 1 + spread[:, None, None, None]
        planes = [m, torch.full_like(m, math.log(START_SCALE)), torch.zeros_like(m)]
        return torch.cat(planes).flatten(0, 1)[: self.planes * len(mean)]

    def is_code_length(self, x: Tensor) -> bool:
        """Always True: images of bytes have no other intensities."""
        return True

    def sample(self, canvas: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Every number one of 0, 1/255 ... 1."""
        m, log_s, log_pi = self._split(canvas)

        def uniform() -> Tensor:
            return torch.rand(m.shape, generator=generator, dtype=m.dtype, device=m.device)

        if log_pi is not None:  # the largest log pi plus Gumbel noise is at k with probability pi_k
            chosen = (log_pi - torch.log(-torch.log(uniform()))).argmax(-4, keepdim=True)
            m, log_s = m.gather(-4, chosen), log_s.gather(-4, chosen)
        x = (m + torch.exp(log_s) * torch.logit(uniform()) + 1) / 2
        return (x.squeeze(-4) * (LEVELS - 1)).round().clamp(0, LEVELS - 1) / (LEVELS - 1)

    def _split(self, canvas: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """m, log s and log pi, each ``(*batch, components, channels, height, width)``."""
        m, log_s, *logits = canvas.unflatten(
            -3, (self.planes // self.components, self.components, -1)
        ).unbind(-5)
        log_pi = torch.log_softmax(logits[0], dim=-4) if logits else None
        return m, log_s.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), log_pi


def of(config: DRAWConfig) -> Likelihood:
    """The likelihood that a configuration names."""
    return Bernoulli() if config.likelihood == "bernoulli" else Logistic(config.components)
