"""Interpolation of networks: a weighted mean of checkpoints of one layout.

Two walks, of which ``resolve`` takes both at once: alpha from a PSNR-oriented net to a GAN net
(ESRGAN, arXiv 1809.00219, section 3.4), and denoise from the nets for clean pictures to those for
compressed and noisy ones (deep network interpolation, arXiv 1811.10515). All nets of a family must
have been trained from the same one, else their mean is no network.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, CheckpointInfo, Hints, SourceFile
from upscale.checkpoints.files import to_convert
from upscale.checkpoints.index import BICUBIC, WeightsFile, find, normal, select
from upscale.checkpoints.loading import load_safetensors
from upscale.errors import ArchitectureError, UsageError
from upscale.models import network_class
from upscale.settings import DEFAULT_DENOISE

DEFAULT_ALPHA = 0.8
TOLERANCE = 1e-6  # of the sum of the weights


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

    A weight of 1 gives that net's tensors bit for bit; a weight of 0 leaves the net out. Integer
    tensors are not blended; they must be equal.

    Args:
        checkpoints: One or more, of one architecture, configuration and layout.
        weights: One for each, in [0, 1], 1 in sum.

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
    if len(parts) == 1:
        return parts[0][0]
    first = parts[0][0]
    state = {key: _mean(key, [(c.state[key], w) for c, w in parts]) for key in first.state}
    sources = tuple(SourceFile(s.name, s.sha256, s.weight * w) for c, w in parts for s in c.sources)
    return Checkpoint(
        first.architecture,
        first.config,
        state,
        metadata=_metadata(parts, sources),
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


def _metadata(
    parts: Sequence[tuple[Checkpoint, float]], sources: Sequence[SourceFile]
) -> CheckpointInfo:
    listed = [{"name": s.name, "sha256": s.sha256, "weight": s.weight} for s in sources]
    metadatas = [c.metadata for c, _ in parts]

    def joined(field: str) -> str:
        return "; ".join(dict.fromkeys(v for m in metadatas if (v := getattr(m, field))))

    return CheckpointInfo(
        title="Blend: " + " + ".join(f"{s.weight:.6g} {s.name}" for s in sources),
        author=joined("author"),
        license=joined("license"),
        data=joined("data"),
        degradation=joined("degradation"),
        merged_from=", ".join(s.name for s in sources),
        blend=json.dumps(listed),
    )


def load(what: str | os.PathLike[str] | WeightsFile, hints: Hints | None = None) -> Checkpoint:
    """Load a checkpoint by weights name, path, or row; check it against the index and its keys.

    A ``.pth``, ``.mat`` or ncnn's ``.param`` is read as it is; nothing of it is run.

    Args:
        what: A weights name, the path of a checkpoint file, or a row of the index.
        hints: What a file without header cannot tell; overrides the header where they differ.

    Raises:
        HashError: The SHA-256 of the file or of its tensors is not the recorded one.
        ArchitectureError: Another network, or tensors that do not fit the header.
        CheckpointError: No such name or file; empty, truncated, damaged.
    """
    entry = what if isinstance(what, WeightsFile) else find(what)
    if not entry.sha256 and to_convert(entry.path):
        from upscale.checkpoints.conversion import read_foreign  # other files do without

        return read_foreign(entry.path, hints)
    return load_safetensors(entry, hints)


def resolve(
    name: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    denoise: float | None = None,
    scale: float | None = None,
) -> Checkpoint:
    """What ``--model NAME --alpha A --denoise D --scale S`` runs, loaded and blended.

    With the clean pair P, G and the pair P', G' for real pictures, every value is
    (1 - D)[(1 - A)P + A·G] + D[(1 - A)P' + A·G']. Only files with a share above 0 are read, and
    ``sources`` names those; one that has it all comes back bit for bit.

    Args:
        name: A family, a weights name, the path of a checkpoint file, or ``bicubic``.
        alpha: Share of the GAN nets where the family has a pair, in [0, 1]; None for 0.8.
        denoise: Share of the pair for real pictures where the family has one, in [0, 1]; None for
            ``DEFAULT_DENOISE``.
        scale: Chooses among a family's native scales: the nearest at or above, else the largest.
            Of a file of SRCNN that tells no scale, the scale.

    Raises:
        UsageError: ``alpha`` or ``denoise`` is not in [0, 1], or the model does not take it.
        CheckpointError: As :func:`load`.
    """
    # what the name means: no file, one file, a pair, or two pairs; options must fit that
    bicubic = normal(os.fspath(name)) == BICUBIC
    chosen = () if bicubic else select(name, scale=scale)
    if alpha is not None:
        check_alpha(alpha)
    if denoise is not None:
        check_denoise(denoise)
        if len(chosen) < 4:
            raise UsageError(
                f"denoise {denoise:g} was given and {name} has no pair of nets for real pictures; "
                f"leave it out, or choose a family that has one such as esrgan"
            )
    if len(chosen) < 2:
        if alpha is not None:
            raise UsageError(
                f"{name} is one network and takes no alpha; leave it out, or choose a family with "
                f"a PSNR and a GAN net such as esrgan"
            )
        if bicubic:
            return Checkpoint(BICUBIC, network_class(BICUBIC).config_type(), {}, name=BICUBIC)
        return load(chosen[0], Hints(final_scale=scale))
    # a family: only files with a share are read, and their mean is made
    share = DEFAULT_ALPHA if alpha is None else alpha
    real = None if len(chosen) < 4 else DEFAULT_DENOISE if denoise is None else denoise
    parts = [(e, w) for e, w in zip(chosen, shares(share, real or 0.0), strict=False) if w > 0]
    mixed = blend([load(entry) for entry, _ in parts], [weight for _, weight in parts])
    return replace(mixed, alpha=share, denoise=real)
