"""Networks that the package spandrel recognises (chaiNNer-org/spandrel, MIT): HAT, DAT, Compact, ….

One thin adapter to the contract. Such a network is built from its tensors, not from sizes in a
configuration; what spandrel declares (scale, channels, precisions, sizes) is kept, and what it does
not (the reach of the network) is assumed with room to spare.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import Config, Network

HALO = 32  # LR pixels; what the authors of window networks let tiles overlap by
WINDOWS = ("window_size", "win_size", "split_size", "stripe_size")  # attributes that hold a window


@dataclass(frozen=True)
class SpandrelConfig(Config):
    """What spandrel says of the tensors."""

    network: str  # spandrel's name of the architecture
    scale: int  # enlargement
    channels: int  # 1 gray, 3 RGB
    # Enlargement where none is asked for, of a file that shrinks the result; 0: the network's.
    final_scale: int = 0


class Spandrel(Network):
    """A network of spandrel's. Pictures of a batch run one by one, as spandrel promises no more."""

    architecture: ClassVar[str] = "spandrel"
    config_type: ClassVar[type[Config]] = SpandrelConfig

    config: SpandrelConfig

    def __init__(self, config: SpandrelConfig, descriptor: Any) -> None:
        super().__init__()
        self.config = config
        self.scale, self.channels = config.scale, config.channels
        self.network = descriptor.model
        self.descriptor = descriptor
        sides = [descriptor.size_requirements.multiple_of, *_windows(descriptor.model)]
        self.multiple_of = math.lcm(*sides)
        self.halo = HALO
        half = [torch.float16] * descriptor.supports_half
        brain = [torch.bfloat16] * descriptor.supports_bfloat16
        self.precisions = (torch.float32, *half, *brain)  # type: ignore[misc]  # its own, not the class's

    @classmethod
    def from_state(cls, config: Config, state: Mapping[str, Tensor]) -> Self:
        """The network of these tensors, which must be the one that ``config`` names."""
        actual, descriptor = recognised(state)
        assert isinstance(config, SpandrelConfig)
        if actual != replace(config, final_scale=0):
            raise ArchitectureError(
                f"its tensors are those of {actual}, and its header says {config}; fetch it again"
            )
        return cls(config, descriptor)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1] to (N, channels, scale*H, scale*W), clipped to [0, 1]."""
        return torch.cat([self.descriptor(lr[k : k + 1]) for k in range(lr.shape[0])])


def recognised(state: Mapping[str, Tensor]) -> tuple[SpandrelConfig, Any]:
    """What spandrel says of a state dict, and its descriptor of the network.

    Raises:
        ArchitectureError: It does not know the network, or the network is no picture's (faces,
            masks, other than 1 or 3 channels).
        CheckpointError: spandrel cannot be imported.
    """
    try:
        import spandrel
    except (ImportError, RuntimeError, OSError) as error:
        reason, remedy = str(error).partition("\n")[0], "pip install 'upscale[spandrel]'"
        if "torchvision" in reason:  # the one that belongs to this build of PyTorch
            build = torch.__version__.partition("+")[2]
            index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
            remedy = f"pip install torchvision{index} (for torch {torch.__version__})"
        raise CheckpointError(
            f"more networks run with spandrel, which cannot be imported here ({reason}): {remedy}"
        ) from error
    # Its networks call torch.meshgrid as it was before it took an order of axes.
    warnings.filterwarnings("ignore", r"torch\.meshgrid: in an upcoming release", UserWarning)
    try:
        with torch.random.fork_rng(devices=[]):
            descriptor = spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError as error:
        raise ArchitectureError("spandrel does not know it either") from error
    except (RuntimeError, ValueError, LookupError, TypeError, AssertionError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise ArchitectureError(f"spandrel cannot load it ({reason})") from error
    name = descriptor.architecture.id
    channels = (descriptor.input_channels, descriptor.output_channels)
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose == "FaceSR":
        raise ArchitectureError(f"it is a {name} for {descriptor.purpose}, which does not enlarge")
    if channels not in ((1, 1), (3, 3)):
        raise ArchitectureError(f"it is a {name} from {channels[0]} to {channels[1]} channels")
    return SpandrelConfig(name, descriptor.scale, channels[0]), descriptor


def _windows(model: torch.nn.Module) -> set[int]:
    """Sides of the windows that the layers of a network attend in."""
    values = [getattr(module, name, None) for module in model.modules() for name in WINDOWS]
    sides = [s for v in values for s in (v if isinstance(v, list | tuple) else (v,))]
    return {side for side in sides if type(side) is int and 1 < side <= 64}
