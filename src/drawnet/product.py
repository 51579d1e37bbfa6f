"""A matrix product of a step, in single precision or lower, with a gradient that is fast.

In lower precision, torch would compute the gradient of a weight at each glimpse, and add it up.
`Product.along` makes it one product for many glimpses.
"""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn


class Product(NamedTuple):
    """A matrix and a bias that are used at every step, and the precision to multiply in."""

    weight: Tensor
    bias: Tensor  # (features,), or one for each image
    rounded: Tensor | None  # the weight in lower precision, or None to multiply in its own
    places: tuple[Tensor, Tensor] | None = None  # from `Together`, for a single use

    def __call__(self, x: Tensor) -> Tensor:
        """``x W^T + b``."""
        if self.rounded is None:
            return torch.addmm(self.bias, x, self.weight.t())
        weight, places = (self.weight, ()) if self.places is None else (None, self.places)
        product: Tensor = LowPrecision.apply(x, weight, self.rounded, *places)  # type: ignore[no-untyped-call]
        return product + self.bias

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, precision: torch.dtype | None) -> Self:
        """A product with operands rounded to ``precision``, or not rounded if that is None."""
        return cls(weight, bias, None if precision is None else weight.detach().to(precision))

    @classmethod
    def joined(cls, layers: list[nn.Linear], precision: torch.dtype | None) -> Self:
        """Layers with the same input, joined into one product."""
        weight = torch.cat([layer.weight for layer in layers])
        return cls.of(weight, torch.cat([layer.bias for layer in layers]), precision)

    def along(self, glimpses: int, batch: int) -> list[Self]:
        """The product for each glimpse of a chain, where it may be used once.

        In lower precision, the gradient of the weight is then one product for `TOGETHER` glimpses,
        not one for each.
        """
        if self.rounded is None or not (torch.is_grad_enabled() and self.weight.requires_grad):
            return [self] * glimpses
        found: list[Self] = []
        while len(found) < glimpses:
            count = min(TOGETHER, glimpses - len(found))
            places = Together.apply(self.weight, self.rounded.dtype, count, batch)  # type: ignore[no-untyped-call]
            pairs = zip(places[::2], places[1::2], strict=True)
            found += [self._replace(places=pair) for pair in pairs]
        return found


class LowPrecision(torch.autograd.Function):
    """x W^T in lower precision. The gradient of W is in W's own precision.

    If there are places, the two factors of that gradient are left there, for `Together`.

    There are no second derivatives: `rounded` is a constant to torch, so they would lack terms.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, rounded: Tensor, *places: Tensor
    ) -> Tensor:
        low = x.to(rounded.dtype)
        ctx.save_for_backward(low, rounded)
        ctx.together = bool(places)
        return (low @ rounded.t()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _only_first_derivatives()
        x, rounded = ctx.saved_tensors
        low = grad.to(rounded.dtype)
        of_x = (low @ rounded).to(grad.dtype)
        if ctx.together:
            return of_x, None, None, low, x
        return of_x, (low.t() @ x).to(grad.dtype), None


TOGETHER = 16
"""For how many glimpses the gradient of a weight is one product."""


class Together(torch.autograd.Function):
    """The gradient of a weight W over several glimpses, as one product.

    Over a chain it is the sum of dy_t^T x_t. Instead of one small product for each t, which would
    be read and written as often, `LowPrecision` leaves dy_t and x_t as the "gradients" of two
    places without content, and here they are multiplied all at once. A place can take one only:
    the factors of a second use would be added to those of the first, not multiplied with them.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, precision: torch.dtype, glimpses: int, batch: int
    ) -> tuple[Tensor, ...]:
        ctx.dtype = weight.dtype
        empty = weight.new_zeros((), dtype=precision)
        return tuple(empty.expand(batch, size) for _ in range(glimpses) for size in weight.shape)

    @staticmethod
    def backward(ctx: Any, *left: Tensor) -> tuple[Tensor, None, None, None]:
        _only_first_derivatives()
        of_y, x = torch.cat(left[::2]), torch.cat(left[1::2])
        return (of_y.t() @ x).to(ctx.dtype), None, None, None


def _only_first_derivatives() -> None:
    """Refuse to be differentiated again. (While torch compiles, it always looks so.)"""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("products in lower precision have no second derivatives: use fp32")
