"""How far a forward pass is: every layer that is done tells how much it was, to who listens.

Layers of PyTorch tell by themselves once :func:`watch` has seen the network. Code that computes
layers without calling their modules calls :func:`step`. Nothing is told on a device that computes
behind Python's back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_listener = threading.local()  # networks serve several threads at once


def step(work: float) -> None:
    """Tell that a part of a forward pass is done.

    Args:
        work: Its multiply-accumulates, roughly, over the whole batch; only their ratio counts.
    """
    tell = getattr(_listener, "tell", None)
    if tell is not None:
        tell(work)


@contextmanager
def listening(tell: Callable[[float], None]) -> Iterator[None]:
    """Have ``tell`` called with the work of every step that is done in this thread.

    What ``tell`` raises ends the forward pass.
    """
    _listener.tell = tell
    try:
        yield
    finally:
        _listener.tell = None


def watch(network: nn.Module) -> None:
    """Have the convolutions and linear layers of a network tell when they are done."""
    for module in network.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            module.register_forward_hook(_done)


def _done(module: _ConvNd | nn.Linear, given: tuple[Tensor, ...], result: Tensor) -> None:
    step(module.weight.numel() / len(module.weight) * result.numel())
