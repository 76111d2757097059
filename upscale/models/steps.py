"""How far a forward pass is: layers and native programs say what they have done, to who listens.

Convolutions and linear layers of PyTorch do so once :func:`watch` has seen the network; code that
computes without calling modules calls :func:`step`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_thread = threading.local()  # networks serve several threads at once


def step(work: float) -> None:
    """Say that a part of a forward pass is done.

    Args:
        work: Its multiply-accumulates, roughly, over the whole batch; only their ratio counts.
    """
    tell = getattr(_thread, "tell", None)
    if tell is not None:
        tell(work)


@contextmanager
def listening(tell: Callable[[float], Any]) -> Iterator[None]:
    """Have ``tell`` called with the work of each step of this thread; what it raises ends all."""
    _thread.tell = tell
    try:
        yield
    finally:
        _thread.tell = None


def watch(network: nn.Module) -> None:
    """Have the layers of a network call :func:`step`."""

    def done(module: _ConvNd | nn.Linear, given: tuple[Tensor, ...], result: Tensor) -> None:
        step(module.weight.numel() / len(module.weight) * result.numel())

    for module in network.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            module.register_forward_hook(done)
