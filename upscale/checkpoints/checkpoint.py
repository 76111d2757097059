"""A checkpoint in memory, and interpolation of networks: the weighted mean of several.

Two walks, of which ``loading.resolve`` takes both at once: alpha from a PSNR-oriented net to a GAN
net (ESRGAN, arXiv 1809.00219, section 3.4), and denoise from the nets for clean pictures to those
for compressed and noisy ones (deep network interpolation, arXiv 1811.10515). All nets of a family
must have been trained from the same one, else their mean is no network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from upscale.errors import ArchitectureError, UsageError
from upscale.models import Config

TOLERANCE = 1e-6  # of the sum of the weights


@dataclass(frozen=True)
class Hints:
    """What a file cannot tell; None leaves it to the documented rule."""

    scale: int | None = None  # SRCNN's; 3 for an ESRGAN whose one upsampling stage is a x3
    img_range: float | None = None  # SwinIR's value range, 1 or 255
    # SRCNN's where ``scale`` is None: that of the file's name, else what the user enlarges by.
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


# Field of CheckpointInfo -> key of the header, where ModelSpec has a name for the first seven.
HEADER = {
    field.name: f"{'modelspec' if place < 7 else 'upscale'}.{field.name}"
    for place, field in enumerate(fields(CheckpointInfo))
}


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
    layout: str = "native"  # of the file's keys: "native" with a header of this program's
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


# --- interpolation --------------------------------------------------------------------------------


def check_alpha(alpha: float) -> float:
    """Return ``alpha``; :class:`UsageError` where it is not in [0, 1]."""
    return _in_unit("alpha", alpha, "0 is the PSNR net and 1 the GAN net")


def check_denoise(denoise: float) -> float:
    """Return ``denoise``; :class:`UsageError` where it is not in [0, 1]."""
    return _in_unit("denoise", denoise, "0 is for clean pictures and 1 for noisy, compressed ones")


def _in_unit(name: str, share: float, remedy: str) -> float:
    if not 0 <= share <= 1:
        raise UsageError(f"{name} {share:g} is outside [0, 1]; {remedy}")
    return share


def shares(alpha: float, denoise: float) -> tuple[float, float, float, float]:
    """Shares of the clean PSNR, clean GAN, real PSNR and real GAN net; 1 in sum."""
    a, d = check_alpha(alpha), check_denoise(denoise)
    return (1 - d) * (1 - a), (1 - d) * a, d * (1 - a), d * a


def blend(checkpoints: Sequence[Checkpoint], weights: Sequence[float]) -> Checkpoint:
    """The weighted mean of checkpoints; sums are made in float64 and rounded once.

    Each has a weight in [0, 1], and these are 1 in sum. A weight of 1 gives that net's tensors bit
    for bit; a weight of 0 leaves the net out. Integer tensors must be equal.

    Raises:
        UsageError: The weights are others, or too many or few.
        ArchitectureError: Architecture, configuration, keys or shapes differ.
    """
    if not checkpoints or len(checkpoints) != len(weights):
        raise UsageError(
            f"{len(checkpoints)} checkpoints and {len(weights)} weights; give one weight for each"
        )
    for weight in weights:
        _in_unit("weight", weight, "give weights that sum to 1")
    if abs(math.fsum(weights) - 1) > TOLERANCE:
        raise UsageError(f"the weights sum to {math.fsum(weights):g}; they must sum to 1")
    for other in checkpoints[1:]:
        _compare(checkpoints[0], other)
    parts = [(c, w) for c, w in zip(checkpoints, weights, strict=True) if w > 0]
    first = parts[0][0]
    if len(parts) == 1:
        return first
    state = {key: _mean(key, [(c.state[key], w) for c, w in parts]) for key in first.state}
    sources = tuple(SourceFile(s.name, s.sha256, s.weight * w) for c, w in parts for s in c.sources)
    return Checkpoint(
        first.architecture,
        first.config,
        state,
        metadata=_metadata([c.metadata for c, _ in parts], sources),
        name=" + ".join(f"{s.name}*{s.weight:.6g}" for s in sources),
        sources=sources,
    )


def _compare(first: Checkpoint, other: Checkpoint) -> None:
    """Raise :class:`ArchitectureError`, saying what differs, unless both are of one layout."""
    if first.architecture != other.architecture:
        raise ArchitectureError(
            f"{first.name} is of {first.architecture} and {other.name} of {other.architecture}; "
            f"blend networks of one architecture"
        )
    mine, others = ({k: list(t.shape) for k, t in c.state.items()} for c in (first, other))
    differ = [k for k in mine | others if mine.get(k) != others.get(k)]
    if differ:
        key, missing = differ[0], "missing"
        raise ArchitectureError(
            f"{first.name} and {other.name} differ in {len(differ)} tensors ({key}: "
            f"{mine.get(key, missing)} in {first.name} and {others.get(key, missing)} in "
            f"{other.name}); blend networks of the same sizes"
        )
    values = vars(first.config)
    if unlike := [k for k, v in vars(other.config).items() if values[k] != v]:
        key = unlike[0]
        raise ArchitectureError(
            f"{first.name} has {key} {values[key]} and {other.name} {getattr(other.config, key)}; "
            f"blend networks of the same configuration"
        )


def _mean(key: str, parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    first = parts[0][0]
    if not first.is_floating_point():
        if any(not torch.equal(first, tensor) for tensor, _ in parts[1:]):
            raise ArchitectureError(
                f"the integers in {key} differ; such networks cannot be blended"
            )
        return first.clone()
    total = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, weight in parts:
        total.add_(tensor.double(), alpha=weight)
    return total.to(first.dtype)


def _metadata(infos: Sequence[CheckpointInfo], sources: Sequence[SourceFile]) -> CheckpointInfo:
    listed = [{"name": s.name, "sha256": s.sha256, "weight": s.weight} for s in sources]
    joined = {
        field: "; ".join(dict.fromkeys(v for info in infos if (v := getattr(info, field))))
        for field in ("author", "license", "data", "degradation")
    }
    return CheckpointInfo(
        title="Blend: " + " + ".join(f"{s.weight:.6g} {s.name}" for s in sources),
        merged_from=", ".join(s.name for s in sources),
        blend=json.dumps(listed),
        **joined,
    )
