"""Checks of images, labels and latents that come from outside.

Shapes and types are always checked. Values are checked only where that costs nothing: not on
another device, which would have to be waited for, and not while torch traces or transforms a
function.
"""

import torch
from torch import Tensor

SLACK = 1e-4
"""How far outside [0, 1] rounding may put a number."""


def check_images(
    x: Tensor, image_shape: tuple[int, int, int], dtype: torch.dtype, *, nan: bool = True
) -> None:
    """Refuse all but images ``(B, *image_shape)`` of the given type, with values in [0, 1].

    Args:
        x: The images.
        image_shape: (C, H, W).
        dtype: Their type.
        nan: Whether NaN may pass. Training skips a batch with it.

    Raises:
        ValueError: Saying what was expected and what came.
    """
    expected = ", ".join(map(str, image_shape))
    if not isinstance(x, Tensor):
        raise ValueError(f"x must be a tensor (B, {expected}), got {type(x).__name__}")
    if x.shape[1:] != image_shape:
        raise ValueError(f"x must be (B, {expected}), got {tuple(x.shape)}")
    if x.dtype != dtype:
        raise ValueError(f"x must be of type {dtype}, as the network is, got {x.dtype}")
    if _can_look(x):
        low, high = (end.item() for end in x.aminmax())
        if low < -SLACK or high > 1 + SLACK or (low != low and not nan):
            raise ValueError(f"x must have values in [0, 1], got {low:g} to {high:g}")


def check_labels(y: Tensor, batch: int, classes: int) -> None:
    """Refuse all but labels ``(batch,)``, integers from 0 to ``classes - 1``.

    Raises:
        ValueError: Saying what was expected and what came.
    """
    tensor = isinstance(y, Tensor)
    if not tensor or y.shape != (batch,) or y.dtype != torch.int64:
        got = f"{y.dtype} {tuple(y.shape)}" if tensor else repr(y)
        raise ValueError(f"y must be int64 labels ({batch},), got {got}")
    if _can_look(y):
        low, high = (end.item() for end in y.aminmax())
        if not 0 <= low <= high < classes:
            raise ValueError(f"y must be labels from 0 to {classes - 1}, got {low} to {high}")


def check_latents(
    noise: Tensor, z: Tensor | None, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    """Refuse all but noise ``(T, B, Z)`` of the given type, and latents of the first glimpses.

    Raises:
        ValueError: Saying what was expected and what came.
    """
    if noise.shape != shape:
        raise ValueError(f"noise must be {shape}, got {tuple(noise.shape)}")
    if z is not None and (z.shape[1:] != shape[1:] or len(z) > shape[0]):
        raise ValueError(f"z must be {(f'<= {shape[0]}', *shape[1:])}, got {tuple(z.shape)}")
    for name, numbers in (("noise", noise), ("z", z)):
        if numbers is not None and numbers.dtype != dtype:
            wanted = f"of type {dtype}, as the network is"
            raise ValueError(f"{name} must be {wanted}, got {numbers.dtype}")


def _can_look(values: Tensor) -> bool:
    return (
        values.device.type == "cpu"
        and values.numel() > 0
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(values)
    )
