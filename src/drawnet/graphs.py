"""Training steps as CUDA graphs: all kernels of a chain recorded once, and started as one.

On a GPU a chain is thousands of small kernels, one after another. Each runs for a few microseconds,
which is less than the processor takes to start it, so the GPU mostly waits. A CUDA graph is a
recording of kernels with the memory that they work in. Started as a whole, they follow each other
without the processor.

`graphed` makes such recordings of a function's forward and backward passes, with
`torch.cuda.make_graphed_callables`. To autograd, the whole chain is then one operation. Clipping,
distributed training and the optimiser work as they do without it. `docs/performance.md` says why
the chain is recorded in this way and not by ``torch.compile(mode="reduce-overhead")``.
"""

import gc
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])


def graphed(function: Callable[..., Result]) -> Callable[..., Result]:
    """The same function, recorded as a CUDA graph if the network learns on a GPU.

        losses = graphed(lambda model, x, noise: -elbo(x, model(x, noise=noise, record="last")))
        losses(model, x, noise).mean().backward()

    Otherwise (on a CPU, without gradients, or if an argument itself wants a gradient) it is called
    as it is.

    Args:
        function: Takes a network and tensors or hashable values; returns a tensor or several. What
            it does may depend on the sizes of the tensors, but not on their values. Nothing in it
            may be random or wait for the GPU. The network must be on the current device and have
            its fast path already (`drawnet.fast.accelerate`).

    Returns:
        A function that keeps its last recording, and makes a new one for tensors of other sizes or
        types, for other hashable values, and for other weight tensors, but not when weights only
        change their values.

    Raises:
        RuntimeError: In the backward pass, if the function has been called again since the forward
            pass, or backward has already been run: what it needs has been overwritten.
    """
    last: dict[Hashable, Callable[..., Result]] = {}

    def choose(network: nn.Module, *args: Any) -> Result:
        if not _learns_on_gpu(network, args):
            return function(network, *args)
        key = _key(network, args)
        if key not in last:
            last.clear()
            gc.collect()  # PyTorch keeps a recording in a cycle of references
            last[key] = _record(function, network, args)
        return last[key](network, *args)

    return choose


def _learns_on_gpu(network: nn.Module, args: tuple[Any, ...]) -> bool:
    learns = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return (
        torch.is_grad_enabled()
        and bool(learns)
        and has_graphs(learns[0].device)
        and not any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
    )


def has_graphs(device: torch.device) -> bool:
    """Whether there are CUDA graphs on a device."""
    return device.type == "cuda"


def _key(network: nn.Module, args: tuple[Any, ...]) -> Hashable:
    """What a recording is valid for."""
    return (
        *((weight.data_ptr(), weight.requires_grad) for weight in network.parameters()),
        *((arg.shape, arg.dtype) if isinstance(arg, Tensor) else arg for arg in args),
    )


def _record(
    function: Callable[..., Any], network: nn.Module, args: tuple[Any, ...]
) -> Callable[..., Any]:
    """Record a function with arguments like these."""
    names = [f"network.{name}" for name, _ in network.named_parameters()]
    values = [None if isinstance(arg, Tensor) else arg for arg in args]
    places = [place for place, arg in enumerate(args) if isinstance(arg, Tensor)]
    call, turns = _Call(function, network), _Turns()

    def pure(*tensors: Tensor) -> Any:
        weights, given = tensors[: len(names)], tensors[len(names) :]
        whole = [*values]
        for place, tensor in zip(places, given, strict=True):
            whole[place] = tensor
        return functional_call(call, dict(zip(names, weights, strict=True)), tuple(whole))

    # Separate leaves, in the memory of the weights. The autograd nodes that add up the gradients of
    # the weights themselves are bound to the stream that first used them (and kept by DDP), and
    # that stream must not be drawn into the recording.
    weights = [
        weight.detach().requires_grad_(weight.requires_grad) for weight in network.parameters()
    ]
    sample = [args[place].clone() for place in places]  # overwritten at each call
    # A stream of its own: when a recording is deleted, torch frees what cuBLAS needs on its stream,
    # even if other recordings made there still use it (pytorch#193402).
    torch.cuda.graph.default_capture_stream = None
    graph: Any = torch.cuda.make_graphed_callables(
        pure, (*weights, *sample), allow_unused_input=True
    )

    def replay(network: nn.Module, *args: Any) -> Any:
        weights = _Weights.apply(turns, *network.parameters())  # type: ignore[no-untyped-call]
        result = graph(*weights, *(args[place] for place in places))
        one = isinstance(result, Tensor)  # copied, since the next call overwrites it
        return result.clone() if one else tuple(tensor.clone() for tensor in result)

    return replay


class _Call(nn.Module):
    """A function of a network, as a module, since `functional_call` takes nothing else."""

    def __init__(self, function: Callable[..., Any], network: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.network = network

    def forward(self, *args: Any) -> Any:
        return self.function(self.network, *args)


class _Turns:
    """Forward and backward passes of a recording take turns; ``now`` counts both."""

    now = 0


class _Weights(torch.autograd.Function):
    """The weights on their way into a recording, and their gradients on the way out.

    Autograd would keep the gradients in the memory of the recording, as ``weight.grad``, where the
    next backward overwrites them instead of adding to them.
    """

    @staticmethod
    def forward(ctx: Any, turns: _Turns, *weights: Tensor) -> tuple[Tensor, ...]:
        turns.now += 1
        ctx.turns, ctx.mine = turns, turns.now
        ctx.set_materialize_grads(False)
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.turns.now != ctx.mine:
            raise RuntimeError(
                "expected one backward after each forward of a CUDA graph, and before the next"
            )
        ctx.turns.now += 1
        return (None, *(None if grad is None else grad.clone() for grad in grads))
