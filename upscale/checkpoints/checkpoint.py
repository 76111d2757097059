"""A checkpoint in memory, what its header says, and the network that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from upscale.models import Config, Network, network_class

NATIVE = "native"
# Fields of a header that ModelSpec names; the others are this program's.
_MODELSPEC = ("title", "description", "author", "date", "license", "usage_hint", "merged_from")


@dataclass(frozen=True)
class Hints:
    """What a file cannot tell; None leaves it to the documented rule.

    Attributes:
        scale: SRCNN's enlargement; 3 for an ESRGAN whose one upsampling stage is a x3.
        img_range: SwinIR's value range, 1 or 255.
        final_scale: SRCNN's enlargement where ``scale`` is not given: that of the file's name, else
            what the user enlarges by.
    """

    scale: int | None = None
    img_range: float | None = None
    final_scale: float | None = None


@dataclass(frozen=True)
class CheckpointInfo:
    """What a header says besides the network itself; empty fields are not written."""

    title: str = ""  # one line
    description: str = ""  # what it is for and how it was made
    author: str = ""  # who made it
    date: str = ""  # ISO 8601
    license: str = ""  # SPDX identifier, or a sentence
    usage_hint: str = ""  # what a user should know when choosing it
    merged_from: str = ""  # names of blended checkpoints, comma-separated
    recipe: str = ""  # of its training
    data: str = ""  # of its training, and their licence
    degradation: str = ""  # of the training's low-resolution pictures; "bicubic": they were clean
    source: str = ""  # address or file that it was converted from
    source_sha256: str = ""  # of that file
    layout: str = ""  # of that file's keys
    rules: str = ""  # what a rule decided when it was converted
    blend: str = ""  # JSON list of name, sha256, weight
    training: str = ""  # JSON with steps, seconds, scores

    def to_header(self) -> dict[str, str]:
        """Header keys and values of the fields that are not empty."""
        return {_header_key(name): value for name, value in asdict(self).items() if value}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> CheckpointInfo:
        """The fields that ``header`` holds."""
        return cls(**{f.name: header.get(_header_key(f.name), "") for f in fields(cls)})


def _header_key(name: str) -> str:
    return f"modelspec.{name}" if name in _MODELSPEC else f"upscale.{name}"


@dataclass(frozen=True)
class SourceFile:
    """A file that a checkpoint consists of."""

    name: str  # weights name, or stem of the file
    sha256: str
    weight: float = 1.0  # its share in a blend


@dataclass(frozen=True)
class Checkpoint:
    """A network's values with what they are."""

    architecture: str  # key of MODELS or OTHERS
    config: Config
    state: dict[str, Tensor]  # under native keys, float32 on the CPU
    metadata: CheckpointInfo = CheckpointInfo()  # what the header says besides
    name: str = ""  # weights name, stem of the file, or "A*0.2 + B*0.8" of a blend
    sources: tuple[SourceFile, ...] = ()  # the file, or the files that were blended
    path: Path | None = None  # where it was read from; None for a blend
    layout: str = NATIVE  # of the file's keys: "native" with a header of this program's
    rules: tuple[str, ...] = ()  # what was decided by a rule and not read from the file, for people
    alpha: float | None = None  # share of the GAN nets in a family's blend; None for other networks
    denoise: float | None = None  # share of the pair for real pictures; None where there is none

    @property
    def scale(self) -> int:
        """Enlargement of the network."""
        return int(getattr(self.config, "scale", 1))

    @property
    def channels(self) -> int:
        """1 for gray or luma, 3 for RGB."""
        return int(getattr(self.config, "channels", getattr(self.config, "in_channels", 3)))

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(t.numel() for t in self.state.values())

    @property
    def sha256(self) -> str:
        """Hash of the file; of a blend, the hashes joined by ``+``."""
        return "+".join(source.sha256 for source in self.sources)


def build(checkpoint: Checkpoint) -> Network:
    """The network with the checkpoint's values, in evaluation mode, on the CPU in float32.

    The state of the random generators is left as it was.
    """
    network_type = network_class(checkpoint.architecture)
    with torch.random.fork_rng(devices=[]):
        network = network_type.from_state(checkpoint.config, checkpoint.state)
    return network.eval().requires_grad_(False)


def as_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point tensors as float32, contiguous; others as they are."""
    return {k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in state.items()}
