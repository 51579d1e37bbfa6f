"""Sizes that no network can have are refused before anything is made."""

from dataclasses import dataclass
from typing import Any

import pytest

from drawnet import DRAWConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read_size": 0}, "read_size must be .* got 0"),
        ({"write_size": -1}, "write_size must be .* got -1"),
        ({"glimpses": 0}, "glimpses must be .* got 0"),
        ({"glimpses": 10**9}, "glimpses must be .* got 1000000000"),
        ({"z_size": 2.5}, "z_size must be .* got 2.5"),
        ({"enc_size": True}, "enc_size must be .* got True"),
        ({"image_shape": (28, 28)}, r"image_shape must be \(C, H, W\)"),
        ({"image_shape": (1, 28, 0)}, "width must be .* got 0"),
        ({"prior": "flow"}, "prior must be .* got 'flow'"),
        ({"likelihood": "normal"}, "likelihood must be .* got 'normal'"),
        ({"likelihood": "logistic", "components": 0}, "components must be .* got 0"),
        ({"components": 2}, "components must be 1 for bernoulli, got 2"),
    ],
)
def test_sizes_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DRAWConfig(**changes)


def test_a_default_of_ones_own_does_not_change_the_range() -> None:
    @dataclass(frozen=True)
    class Own(DRAWConfig):
        classes: int = 10

    assert Own(classes=0).classes == 0


def test_fields_of_ones_own_are_no_sizes() -> None:
    @dataclass(frozen=True)
    class Own(DRAWConfig):
        residual: bool = True
        offset: int = 3

    own = Own(residual=False, offset=-3)
    assert (own.residual, own.offset) == (False, -3)
    with pytest.raises(ValueError, match=r"offset must be of type int, got 0\.5"):
        Own(offset=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"glimpses must be .* got 0"):
        Own(glimpses=0)
