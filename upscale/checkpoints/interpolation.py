"""Interpolation of networks: a weighted mean of checkpoints of one layout (ESRGAN, section 3.4)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Metadata, Source, load
from upscale.checkpoints.index import select
from upscale.errors import ArchitectureError, UsageError

DEFAULT_ALPHA = 0.8
TOLERANCE = 1e-6  # of the sum of the weights


def check_alpha(alpha: float) -> float:
    """Return ``alpha``.

    Raises:
        UsageError: It is not in [0, 1].
    """
    if not (math.isfinite(alpha) and 0 <= alpha <= 1):
        raise UsageError(f"alpha {alpha:g} is outside [0, 1]; 0 is the PSNR net and 1 the GAN net")
    return alpha


def interpolate(psnr: Checkpoint, gan: Checkpoint, alpha: float) -> Checkpoint:
    """``(1 - alpha) * psnr + alpha * gan``; the very nets at 0 and at 1.

    Raises:
        UsageError: ``alpha`` is not in [0, 1].
        ArchitectureError: The two are not of one layout.
    """
    check_alpha(alpha)
    return blend((psnr, gan), (1 - alpha, alpha))


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
        if not (math.isfinite(weight) and 0 <= weight <= 1):
            raise UsageError(f"weight {weight:g} is outside [0, 1]; give weights that sum to 1")
    if abs(math.fsum(weights) - 1) > TOLERANCE:
        raise UsageError(f"the weights sum to {math.fsum(weights):g}; they must sum to 1")
    for other in checkpoints[1:]:
        _compare(checkpoints[0], other)
    shares = [(c, w) for c, w in zip(checkpoints, weights, strict=True) if w > 0]
    if len(shares) == 1:
        return shares[0][0]
    first = shares[0][0]
    state = {key: _mean(key, [(c.state[key], w) for c, w in shares]) for key in first.state}
    sources = tuple(Source(s.name, s.sha256, s.weight * w) for c, w in shares for s in c.sources)
    return Checkpoint(
        first.architecture,
        first.config,
        state,
        metadata=_metadata(shares, sources),
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
    odd = sorted(set(first.state) ^ set(other.state))
    shaped = [k for k in first.state if k in other.state]
    differ = [k for k in shaped if first.state[k].shape != other.state[k].shape]
    if odd or differ:
        key = odd[0] if odd else differ[0]
        sides = " and ".join(
            f"{list(c.state[key].shape) if key in c.state else 'missing'} in {c.name}"
            for c in (first, other)
        )
        count = len(odd) + len(differ)
        raise ArchitectureError(
            f"{first.name} and {other.name} differ in {count} tensors ({key}: {sides}); "
            f"blend networks of the same sizes"
        )
    values = vars(first.config)
    unlike = [k for k, v in vars(other.config).items() if values[k] != v]
    if unlike:
        key = unlike[0]
        raise ArchitectureError(
            f"{first.name} has {key} {values[key]} and {other.name} {getattr(other.config, key)}; "
            f"blend networks of the same configuration"
        )


def _mean(key: str, shares: Sequence[tuple[Tensor, float]]) -> Tensor:
    first = shares[0][0]
    if not first.is_floating_point():
        if any(not torch.equal(first, tensor) for tensor, _ in shares[1:]):
            raise ArchitectureError(
                f"the integers in {key} differ; such networks cannot be blended"
            )
        return first.clone()
    total = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, weight in shares:
        total.add_(tensor.double(), alpha=weight)
    return total.to(first.dtype)


def _metadata(shares: Sequence[tuple[Checkpoint, float]], sources: Sequence[Source]) -> Metadata:
    parts = [{"name": s.name, "sha256": s.sha256, "weight": s.weight} for s in sources]
    metadatas = [c.metadata for c, _ in shares]

    def joined(field: str) -> str:
        return "; ".join(dict.fromkeys(v for m in metadatas if (v := getattr(m, field))))

    return Metadata(
        title="Blend: " + " + ".join(f"{s.weight:.6g} {s.name}" for s in sources),
        author=joined("author"),
        license=joined("license"),
        data=joined("data"),
        merged_from=", ".join(s.name for s in sources),
        blend=json.dumps(parts),
    )


def resolve(
    name: str | os.PathLike[str], *, alpha: float | None = None, scale: float | None = None
) -> Checkpoint:
    """What ``--model NAME --alpha ALPHA --scale SCALE`` runs, loaded and blended.

    Args:
        name: A family, a weights name, or the path of a safetensors file.
        alpha: Share of the GAN net where the family has a pair, in [0, 1]; None for 0.8.
        scale: Chooses among a family's native scales: the nearest at or above, else the largest.

    Raises:
        UsageError: ``alpha`` is not in [0, 1], or was given for a single network.
        CheckpointError: As :func:`load`.
    """
    chosen = select(name, scale=scale)
    if alpha is not None:
        check_alpha(alpha)
    if len(chosen) == 1:
        if alpha is not None:
            raise UsageError(
                f"{name} is one network and takes no alpha; leave it out, or choose a family with "
                f"a PSNR and a GAN net such as esrgan"
            )
        return load(chosen[0])
    share = DEFAULT_ALPHA if alpha is None else alpha
    if share in (0, 1):
        return load(chosen[int(share)])
    return interpolate(load(chosen[0]), load(chosen[1]), share)
