"""From a name or a file to a checkpoint, and from it to the network.

The header of a safetensors file says what it is, under the names of ModelSpec 1.0.1 where it has
one (``modelspec.architecture``, ``modelspec.title``, …) and under ``upscale.*`` otherwise; loading
needs nothing else. A file without such a header is recognised by its keys and shapes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from upscale.checkpoints.checkpoint import (
    HEADER,
    Checkpoint,
    CheckpointInfo,
    Hints,
    SourceFile,
    blend,
    check_alpha,
    check_denoise,
    shares,
)
from upscale.checkpoints.files import DAMAGED, check_content, to_convert, unreadable
from upscale.checkpoints.index import (
    BICUBIC,
    WeightsFile,
    check_sha256,
    find,
    normal,
    read_bytes,
    select,
)
from upscale.errors import ArchitectureError, CheckpointError, UsageError
from upscale.models import MODELS, OTHERS, Network, check_state, config_from_dict, network_class
from upscale.settings import DEFAULT_DENOISE

DEFAULT_ALPHA = 0.8


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


def load(what: str | os.PathLike[str] | WeightsFile, hints: Hints | None = None) -> Checkpoint:
    """Load a checkpoint by weights name, path, or row; check it against the index and its keys.

    A ``.pth``, ``.mat`` or ncnn's ``.param`` is read as it is; nothing of it is run. The content of
    a file decides, not its name. ``hints`` tell what a file without header cannot; they override
    the header where they differ.

    Raises:
        HashError: The SHA-256 of the file or of its tensors is not the recorded one.
        ArchitectureError: Another network, or tensors that do not fit the header.
        CheckpointError: No such name or file; empty, truncated, damaged.
    """
    entry = what if isinstance(what, WeightsFile) else find(what)
    if not entry.sha256 and to_convert(entry.path):
        from upscale.checkpoints.conversion import read_foreign  # other files do without

        return read_foreign(entry.path, hints)
    header, tensors, sha256 = read_tensors(entry.path, entry.sha256, entry.remedy)
    try:
        checkpoint = _from_header(header, tensors, hints)
        if checkpoint is None:
            from upscale.checkpoints.layouts import recognise  # ours do without

            checkpoint = recognise(tensors, hints, entry.path.name)
    except CheckpointError as error:
        raise type(error)(f"{entry.path}: {error}") from error
    if entry.architecture and entry.architecture != checkpoint.architecture:
        raise ArchitectureError(
            f"{entry.path}: holds a network of {checkpoint.architecture}, and the index says "
            f"{entry.architecture}; {entry.remedy}"
        )
    return replace(
        checkpoint,
        metadata=CheckpointInfo(**{name: header.get(key, "") for name, key in HEADER.items()}),
        name=entry.name,
        sources=(SourceFile(entry.name, sha256),),
        path=entry.path,
    )


def _from_header(
    header: Mapping[str, str], tensors: Mapping[str, Tensor], hints: Hints | None
) -> Checkpoint | None:
    """The network that this program's header describes; None where there is no such header."""
    architecture = header.get("upscale.architecture")
    if architecture is None:
        return None
    if architecture not in MODELS | OTHERS:
        raise ArchitectureError(
            f"its header names the network {architecture!r}; this version runs {', '.join(MODELS)}"
        )
    try:
        values: dict[str, Any] = json.loads(header.get("upscale.config", ""))
        config = config_from_dict(network_class(architecture).config_type, values)
        given = {k: v for k, v in asdict(hints or Hints()).items() if v is not None}
        config = replace(config, **{k: v for k, v in given.items() if hasattr(config, k)})
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the configuration in its header is damaged ({error}); fetch or save it again"
        ) from error
    return Checkpoint(architecture, config, check_state(architecture, config, tensors))


def read_tensors(
    path: Path, sha256: str = "", remedy: str = ""
) -> tuple[dict[str, str], dict[str, Tensor], str]:
    """Read a safetensors file, hashing the same bytes that are parsed.

    What no index vouches for is compared with the hash of the tensors in its own header.

    Returns:
        Header, tensors by name as stored, SHA-256 of the file.
    """
    data = read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256:
        check_sha256(path, found, sha256, remedy)
    try:
        tensors = safetensors.torch.load(data)
        # the library gives the header's text only of files, so it is taken from the checked bytes
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except DAMAGED as error:
        raise unreadable(path, data[:16], error) from error
    metadata: dict[str, str] = header.get("__metadata__") or {}
    if not sha256:
        check_content(path, metadata, data)
    return metadata, tensors, found


def build(checkpoint: Checkpoint) -> Network:
    """The network with the checkpoint's values, in evaluation mode, on the CPU in float32.

    The state of the random generators is left as it was.
    """
    network_type = network_class(checkpoint.architecture)
    with torch.random.fork_rng(devices=[]):
        network = network_type.from_state(checkpoint.config, checkpoint.state)
    return network.eval().requires_grad_(False)
