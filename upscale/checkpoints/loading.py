"""Checkpoints out of files and into safetensors files.

The header of a file says what it is, under the names of ModelSpec 1.0.1 where it has one
(``modelspec.architecture``, ``modelspec.title``, …) and under ``upscale.*`` otherwise; loading
needs nothing else. A file without such a header is recognised by its keys and shapes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from upscale.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    Hints,
    SourceFile,
    as_float32,
)
from upscale.checkpoints.files import (
    CONTENT_HASH,
    check_content,
    check_sha256,
    read_bytes,
    safetensors_errors,
)
from upscale.checkpoints.index import WeightsFile
from upscale.errors import ArchitectureError, CheckpointError, UsageError
from upscale.files import write_bytes
from upscale.models import (
    MODELS,
    OTHERS,
    Config,
    Network,
    check_state,
    config_from_dict,
    network_class,
)

SPEC = "1.0.1"


def load_safetensors(entry: WeightsFile, hints: Hints | None = None) -> Checkpoint:
    """Load a safetensors file; check it against the index and its own header and keys.

    Raises:
        HashError: The SHA-256 of the file or of its tensors is not the recorded one.
        ArchitectureError: Another network, or tensors that do not fit the header.
        CheckpointError: No such file; empty, truncated, damaged.
    """
    header, tensors, sha256 = read_tensors(entry.path, entry.sha256, entry.remedy)
    try:
        checkpoint = _from_header(header, tensors, hints)
        if checkpoint is None:
            from upscale.checkpoints.layouts.recognition import recognise  # ours do without

            checkpoint = recognise(tensors, with_name(hints, entry.path))
    except CheckpointError as error:
        raise type(error)(f"{entry.path}: {error}") from error
    if entry.architecture and entry.architecture != checkpoint.architecture:
        raise ArchitectureError(
            f"{entry.path}: holds a network of {checkpoint.architecture}, and the index says "
            f"{entry.architecture}; {entry.remedy}"
        )
    return replace(
        checkpoint,
        metadata=CheckpointInfo.from_header(header),
        name=entry.name,
        sources=(SourceFile(entry.name, sha256),),
        path=entry.path,
    )


def with_name(hints: Hints | None, file: Path) -> Hints:
    """Hints with SRCNN's scale from the file's name (``x3``), which alone may tell it."""
    named = re.search(r"(?:^|[^0-9a-z])x([2-8])(?![0-9])", file.name.lower())
    given = hints or Hints()
    return replace(given, final_scale=float(named[1])) if named else given


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
    state = as_float32(tensors)
    check_state(architecture, config, state)
    return Checkpoint(architecture, config, state)


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
    with safetensors_errors(path, data[:16]):
        tensors = safetensors.torch.load(data)
        # the library gives the header's text only of files, so it is taken from the checked bytes
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__") or {}
    if not sha256:
        check_content(path, metadata, data)
    return metadata, tensors, found


@dataclass(frozen=True)
class Saved:
    """A file that was written, its SHA-256 and its size in bytes."""

    path: Path
    sha256: str
    bytes: int


def save(
    path: str | os.PathLike[str],
    network: Network | Checkpoint,
    metadata: CheckpointInfo | None = None,
    *,
    half: bool = False,
    overwrite: bool = False,
) -> Saved:
    """Write a self-describing safetensors file, whole or not at all.

    The same network and metadata give the same bytes.

    Args:
        path: Where; the suffix is to be ``.safetensors``.
        network: What to write; a network in its training form.
        metadata: What the header is to say besides; of a checkpoint, its own where None.
        half: Store floats as float16, half the size; they come back rounded.
        overwrite: Replace an existing file.

    Raises:
        UsageError: Another suffix, or a value beyond float16's range with ``half``.
        CheckpointError: Values that are not finite, or a state that does not fit the configuration.
        OutputError: The file exists or cannot be written.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise UsageError(f"{target}: checkpoints are written as .safetensors; change the suffix")
    architecture, config = network.architecture, network.config
    if isinstance(network, Checkpoint):
        state = network.state
        metadata = network.metadata if metadata is None else metadata
    else:
        state = {k: v.detach().cpu() for k, v in network.state_dict().items()}
    check_state(architecture, config, state)
    if half:
        state = _halved(state)
    header = {
        "modelspec.title": target.stem,
        **(metadata or CheckpointInfo()).to_header(),
        **_network_header(architecture, config, state, half),
    }
    return write_tensors(target, state, header, overwrite=overwrite)


def _network_header(
    architecture: str, config: Config, state: Mapping[str, Tensor], half: bool
) -> dict[str, str]:
    return {
        "modelspec.sai_model_spec": SPEC,
        "modelspec.architecture": architecture,
        "modelspec.implementation": "upscale",
        "upscale.architecture": architecture,
        "upscale.config": json.dumps(asdict(config), sort_keys=True),
        "upscale.scale": str(getattr(config, "scale", 1)),
        "upscale.parameters": str(sum(t.numel() for t in state.values())),
        "upscale.dtype": "float16" if half else "float32",
    }


def _halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    halved = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    for key, tensor in halved.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{key} has values beyond float16's range; save it without half")
    return halved


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool
) -> Saved:
    """Write a safetensors file, with the hash of its tensors in the header.

    The library writes what the header says in another order every time. Here it is sorted: the same
    checkpoint gives the same bytes, hence the same SHA-256.
    """
    plain = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in tensors.items()  # copies: the library refuses tensors that overlap
    }
    written = safetensors.torch.save(plain)
    start = 8 + int.from_bytes(written[:8], "little")
    table, content = json.loads(written[8:start]), written[start:]
    notes = {**metadata, "format": "pt", CONTENT_HASH: f"0x{hashlib.sha256(content).hexdigest()}"}
    header = {"__metadata__": dict(sorted(notes.items())), **table}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    data = b"".join([len(text).to_bytes(8, "little"), text, content])
    write_bytes(path, [data], overwrite=overwrite)
    return Saved(path, hashlib.sha256(data).hexdigest(), len(data))
