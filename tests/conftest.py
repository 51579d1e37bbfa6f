"""What all tests share: double precision, one thread, real data where it is at hand, commands."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import Answer, run

# The suite runs a process a core; more threads than cores would wait for each other.
torch.set_num_threads(1)

REAL_SETS = ("binarized_mnist", "cifar10", "mnist", "omniglot", "svhn")
REAL_DATA = Path(os.environ.get("DRAWNET_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _routing_as_before() -> Iterator[None]:
    """oneDNN is switched for the whole process."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    yield
    matmul.fp32_precision = before


@pytest.fixture
def data_dir() -> Path:
    """The folder of the real data sets. Where one is missing the test is skipped, unless
    ``DRAWNET_REQUIRE_DATA`` says that it must be there."""
    if missing := [name for name in REAL_SETS if not (REAL_DATA / name).is_dir()]:
        message = f"no {', '.join(missing)} in {REAL_DATA} (set DRAWNET_DATA)"
        if os.environ.get("DRAWNET_REQUIRE_DATA"):
            pytest.fail(message)
        pytest.skip(message)
    return REAL_DATA


@pytest.fixture
def drawnet(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command in this process."""
    return partial(run, capfd)
