"""The contract that every network keeps, and how far a forward pass is.

Convolutions and linear layers of PyTorch say what they have done once :func:`watch` has seen the
network; code that computes without calling modules calls :func:`step`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class Config:
    """Base of a network's frozen configuration; checkpoint headers hold its fields."""


class Network(nn.Module):
    """A super-resolution or restoration network.

    ``forward(lr)`` takes (N, channels + noise_channels, H, W) in [0, 1] (the noise channels, which
    come last, are standard normal) and gives (N, channels, scale * H, scale * W), in [0, 1] up to
    overshoot. Mean subtraction and value range live inside the network; so does padding of H and W.

    Attributes:
        config: The frozen configuration that the network was built from.
        scale: Enlargement factor.
        channels: 1 for gray, 3 for RGB.
        luma: Which gray a network of one channel takes: "studio" is Y of BT.601 from 16 / 255 to
            235 / 255, "full" 0.299 R + 0.587 G + 0.114 B from 0 to 1.
        noise_channels: Channels of noise that follow the picture's; 0 for deterministic networks.
        multiple_of: Tile starts and sizes are multiples of it (SwinIR: its window), in LR pixels.
        halo: LR pixels of context around a tile that the result of the tile depends on.
        halo_is_exact: Whether ``halo`` covers the whole reach, so that tiled equals whole.
        precisions: Dtypes in which the network is trusted, best first after float32.
        backend: What computes it: "torch", or "native" and an instruction set (``fast``).
    """

    architecture: ClassVar[str]
    config_type: ClassVar[type[Config]]
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    luma: ClassVar[Literal["studio", "full"]] = "full"

    config: Config
    scale: int
    channels: int
    noise_channels: int = 0
    multiple_of: int = 1
    halo: int = 0
    halo_is_exact: bool = False
    backend: str = "torch"

    @property
    def default_scale(self) -> int:
        """Enlargement where none is asked for."""
        return self.scale

    @classmethod
    def from_state(cls, config: Config, state: Mapping[str, Tensor]) -> Self:
        """The network of a configuration, with the values of a state dict."""
        network = cls(config)
        network.load_state_dict(state)
        return network

    @abstractmethod
    def forward(self, lr: Tensor) -> Tensor:
        """(N, channels + noise_channels, H, W) to (N, channels, scale*H, scale*W)."""

    def __call__(self, lr: Tensor) -> Tensor:
        """Typed call."""
        result: Tensor = super().__call__(lr)
        return result

    def draws(self, lr: Tensor, noise: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """One result for each noise, with the variance that it has by itself.

        Args:
            lr: (N, channels, H, W).
            noise: (N, noise_channels, H, W) each; taken one at a time.

        Yields:
            What :meth:`forward` gives, and (N, 1, scale*H, scale*W) float32, or a zero.
        """
        for z in noise:
            yield self(torch.cat((lr, z), 1)), torch.zeros((), device=lr.device)

    def extra_repr(self) -> str:
        """The configuration, for printing."""
        return repr(self.config)


def config_from_dict(config_type: type[Config], values: dict[str, Any]) -> Config:
    """The configuration of header values; lists become tuples, unknown keys a TypeError."""
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return config_type(**frozen)


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
