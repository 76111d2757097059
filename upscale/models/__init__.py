"""The networks: low-resolution tensors in, enlarged tensors out; here, the contract that all keep.

In comes (N, channels, H, W) in [0, 1], out goes the same ``scale`` times as large. Each family is a
file headed by its paper, and is imported when its network is asked for; ``layers`` has what two of
them share. A new network is its file and a line in :data:`MODELS`.

How far a forward pass is: convolutions and linear layers of PyTorch say what they have done once
:func:`watch` has seen the network; code that computes without calling modules calls :func:`step`.
"""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from upscale.errors import ArchitectureError, CheckpointError

if TYPE_CHECKING:
    from upscale.models.esrgan import ESRGAN, ESRGANConfig
    from upscale.models.srcnn import SRCNN, SRCNNConfig
    from upscale.models.swinir import SwinIR, SwinIRConfig
    from upscale.models.vae import VAE, VAEConfig

MODELS = {"srcnn": "SRCNN", "esrgan": "ESRGAN", "swinir": "SwinIR", "vae": "VAE"}
OTHERS = {"spandrel": "Spandrel", "bicubic": "Bicubic"}  # no key layouts of ours
T = TypeVar("T")
MAX_SIZE = 1 << 14  # no channel count, depth or kernel of a real network comes near

__all__ = [
    "ESRGAN",
    "MODELS",
    "OTHERS",
    "SRCNN",
    "VAE",
    "Config",
    "ESRGANConfig",
    "Network",
    "SRCNNConfig",
    "SwinIR",
    "SwinIRConfig",
    "VAEConfig",
    "check_state",
    "config_from_dict",
    "listening",
    "network_class",
    "step",
    "watch",
]


@dataclass(frozen=True)
class Config:
    """Base of a network's frozen configuration; checkpoint headers hold its fields."""


class Network(nn.Module):
    """A super-resolution or restoration network.

    ``forward(lr)`` takes (N, channels + noise_channels, H, W) in [0, 1] (the noise channels, which
    come last, are standard normal) and gives (N, channels, scale * H, scale * W), in [0, 1] up to
    overshoot. Mean subtraction and value range live inside the network; so does padding of H and W.
    """

    architecture: ClassVar[str]  # key of MODELS or OTHERS
    config_type: ClassVar[type[Config]]
    # Dtypes in which the network is trusted, best first after float32.
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    # Which gray a network of one channel takes: "studio" is Y of BT.601 from 16 / 255 to 235 / 255,
    # "full" 0.299 R + 0.587 G + 0.114 B from 0 to 1.
    luma: ClassVar[Literal["studio", "full"]] = "full"

    config: Config  # what the network was built from
    scale: int  # enlargement factor
    channels: int  # 1 for gray, 3 for RGB
    noise_channels: int = 0  # that follow the picture's; 0 for deterministic networks
    multiple_of: int = 1  # of tile starts and sizes (SwinIR: its window), in LR pixels
    halo: int = 0  # LR pixels of context around a tile that its result depends on
    halo_is_exact: bool = False  # whether ``halo`` covers the whole reach: tiled equals whole
    backend: str = "torch"  # what computes it, or "native" and an instruction set (``fast``)

    @property
    def default_scale(self) -> int:
        """Enlargement where none is asked for: the configuration's ``final_scale``, if any."""
        return int(getattr(self.config, "final_scale", 0)) or self.scale

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


# --- networks by name -----------------------------------------------------------------------------


def network_class(architecture: str) -> type[Network]:
    """The class of an architecture, a key of ``MODELS`` or ``OTHERS``; its module is loaded now.

    Raises:
        KeyError: There is no such architecture.
    """
    name = (MODELS | OTHERS)[architecture]
    network: type[Network] = getattr(import_module(f"upscale.models.{architecture}"), name)
    return network


def __getattr__(name: str) -> Any:
    """``SwinIR`` or ``SwinIRConfig`` from the module of its architecture (PEP 562)."""
    for architecture, network in MODELS.items():
        if name in (network, f"{network}Config"):
            return getattr(import_module(f"upscale.models.{architecture}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def config_from_dict(config_type: type[T], values: dict[str, Any]) -> T:
    """The frozen dataclass of plain values; lists become tuples, unknown keys a TypeError."""
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return config_type(**frozen)


# --- values of a network --------------------------------------------------------------------------


def check_state(
    architecture: str, config: Config, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state, floats as contiguous float32, that fits a network, which is not allocated.

    Keys and shapes are compared with the network's; another package does so when it builds its own.

    Raises:
        ArchitectureError: The configuration is of no network, or keys or shapes differ.
        CheckpointError: Values that are not finite.
    """
    if architecture not in OTHERS:
        sizes = [n for v in vars(config).values() for n in (v if isinstance(v, tuple) else (v,))]
        if len(sizes) > MAX_SIZE or any(isinstance(n, int) and n > MAX_SIZE for n in sizes):
            raise ArchitectureError(f"its configuration has a size above {MAX_SIZE}; it is damaged")
        try:
            shapes = _shapes(architecture, config)
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise ArchitectureError(
                f"{architecture} cannot be built as {config}: {error}; fetch or save the file again"
            ) from error
        _compare(architecture, shapes, state)
    checked = {
        k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in state.items()
    }
    for key, tensor in checked.items():
        if not math.isfinite(tensor.sum(dtype=torch.float64)):
            raise CheckpointError(
                f"its tensor {key} holds values that are not finite; take another checkpoint"
            )
    return checked


@lru_cache(maxsize=8)  # the nets of a family have one configuration
def _shapes(architecture: str, config: Config) -> dict[str, torch.Size]:
    """The keys of a network and the shapes of their tensors."""
    with torch.device("meta"):
        network = network_class(architecture)(config)
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


def _compare(
    architecture: str, shapes: Mapping[str, torch.Size], state: Mapping[str, Tensor]
) -> None:
    missing = [k for k in shapes if k not in state]
    unexpected = [k for k in state if k not in shapes]
    words = [
        f"{verb} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for verb, keys in (("lacks", missing), ("has the unknown", unexpected))
        if keys
    ]
    if words:
        raise ArchitectureError(
            f"as {architecture} it {' and '.join(words)}; it is a variant that is not supported"
        )
    for key, shape in shapes.items():
        if shape != state[key].shape:
            raise ArchitectureError(
                f"as {architecture}, its {key} is {list(state[key].shape)} and should be "
                f"{list(shape)}; the file is damaged, or a hint is wrong"
            )


# --- how far a forward pass is --------------------------------------------------------------------

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
