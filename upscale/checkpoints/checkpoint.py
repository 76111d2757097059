"""A checkpoint in memory, and the way between it, a file, and a network.

The header of a file says what it is, under the names of ModelSpec 1.0.1 where it has one
(``modelspec.architecture``, ``modelspec.title``, …) and under ``upscale.*`` otherwise; loading
needs nothing else. A file without such a header is recognised by its keys and shapes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from upscale.checkpoints.files import refuse_values
from upscale.checkpoints.index import Entry
from upscale.checkpoints.layouts.form import Hints, as_float32, check_state
from upscale.checkpoints.tensors import read_tensors, write_tensors
from upscale.errors import ArchitectureError, CheckpointError, UsageError
from upscale.models import MODELS, OTHERS, Config, Network, config_from_dict, network_class

NATIVE = "native"
IMPLEMENTATION = "upscale"
SPEC = "1.0.1"
_OWN = (
    "recipe",
    "data",
    "degradation",
    "source",
    "source_sha256",
    "layout",
    "blend",
    "training",
    "rules",
)


@dataclass(frozen=True)
class Metadata:
    """What a header says besides the network itself; empty fields are not written.

    Attributes:
        title: One line.
        description: What it is for and how it was made.
        author: Who made it.
        date: ISO 8601.
        license: SPDX identifier, or a sentence.
        usage_hint: What a user should know when choosing it.
        merged_from: Names of blended checkpoints, comma-separated.
        recipe: Training recipe.
        data: Training data and their licence.
        degradation: How the training's low-resolution pictures were made: "bicubic" where they were
            clean.
        source: Address or file that it was converted from.
        source_sha256: Hash of that file.
        layout: Key layout of that file.
        rules: What a rule decided when it was converted.
        blend: JSON list of name, sha256, weight.
        training: JSON with steps, seconds, scores.
    """

    title: str = ""
    description: str = ""
    author: str = ""
    date: str = ""
    license: str = ""
    usage_hint: str = ""
    merged_from: str = ""
    recipe: str = ""
    data: str = ""
    degradation: str = ""
    source: str = ""
    source_sha256: str = ""
    layout: str = ""
    rules: str = ""
    blend: str = ""
    training: str = ""

    def to_header(self) -> dict[str, str]:
        """Header keys and values of the fields that are not empty."""
        return {_header_key(name): value for name, value in asdict(self).items() if value}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Metadata:
        """The fields that ``header`` holds."""
        return cls(**{f.name: header.get(_header_key(f.name), "") for f in fields(cls)})


def _header_key(name: str) -> str:
    return f"upscale.{name}" if name in _OWN else f"modelspec.{name}"


@dataclass(frozen=True)
class SourceFile:
    """A file that a checkpoint consists of.

    Attributes:
        name: Weights name, or stem of the file.
        sha256: Of the file.
        weight: Its share in a blend; 1 otherwise.
    """

    name: str
    sha256: str
    weight: float = 1.0


@dataclass(frozen=True)
class Checkpoint:
    """A network's values with what they are.

    Attributes:
        architecture: Key of ``MODELS`` or ``OTHERS``.
        config: Configuration of the network.
        state: Tensors under native keys, float32 on the CPU.
        metadata: What the header says besides.
        name: Weights name, stem of the file, or ``A*0.2 + B*0.8`` of a blend.
        sources: The file, or the files that were blended.
        path: Where it was read from; None for a blend.
        layout: Key layout of the file: "native" with a header of this program's.
        rules: What was decided by a rule and not read from the file, for people.
        alpha: Share of the GAN nets that a family's blend was made with; None for other networks.
        denoise: Share of the pair for real pictures in it; None where the family has none.
    """

    architecture: str
    config: Config
    state: dict[str, Tensor]
    metadata: Metadata = Metadata()
    name: str = ""
    sources: tuple[SourceFile, ...] = ()
    path: Path | None = None
    layout: str = NATIVE
    rules: tuple[str, ...] = ()
    alpha: float | None = None
    denoise: float | None = None

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


def load_safetensors(entry: Entry, hints: Hints | None = None) -> Checkpoint:
    """Load a safetensors file; check it against the index and its own header and keys.

    Raises:
        HashError: The SHA-256 of the file or of its tensors is not the recorded one.
        ArchitectureError: Another network, or tensors that do not fit the header.
        CheckpointError: No such file; empty, truncated, damaged.
    """
    refuse_values(entry.path)
    header, tensors, sha256 = read_tensors(entry.path, entry.sha256, entry.remedy)
    try:
        found = _from_header(header.metadata, tensors, hints) or _from_keys(
            tensors, with_name(hints, entry.path, tensors)
        )
    except CheckpointError as error:
        raise type(error)(f"{entry.path}: {error}") from error
    if entry.architecture and entry.architecture != found.architecture:
        raise ArchitectureError(
            f"{entry.path}: holds a network of {found.architecture}, and the index says "
            f"{entry.architecture}; {entry.remedy}"
        )
    return replace(
        found,
        metadata=Metadata.from_header(header.metadata),
        name=entry.name,
        sources=(SourceFile(entry.name, sha256),),
        path=entry.path,
    )


def with_name(hints: Hints | None, file: Path, tensors: Mapping[str, Tensor]) -> Hints:
    """Hints with SRCNN's scale from the file's name (``x3``), which alone may tell it."""
    given = hints or Hints()
    if given.scale is not None or len(tensors) != 6:
        return given
    named = re.search(r"(?:^|[^0-9a-z])x([2-8])(?![0-9])", file.name.lower())
    return replace(given, scale=int(named[1])) if named else given


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


def _from_keys(tensors: Mapping[str, Tensor], hints: Hints | None) -> Checkpoint:
    from upscale.checkpoints.layouts.recognition import recognise  # files of ours do without

    found = recognise(tensors, hints)
    return Checkpoint(
        found.architecture, found.config, found.state, layout=found.layout, rules=found.rules
    )


def build(checkpoint: Checkpoint) -> Network:
    """The network with the checkpoint's values, in evaluation mode, on the CPU in float32.

    The state of the random generators is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        network = network_class(checkpoint.architecture).from_state(
            checkpoint.config, checkpoint.state
        )
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Saved:
    """A file that was written.

    Attributes:
        path: Where.
        sha256: Of the file.
        bytes: Its size.
    """

    path: Path
    sha256: str
    bytes: int


def save(
    path: str | os.PathLike[str],
    network: Network | Checkpoint,
    metadata: Metadata | None = None,
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
    if isinstance(network, Checkpoint):
        architecture, config, state = network.architecture, network.config, network.state
        metadata = network.metadata if metadata is None else metadata
    else:
        architecture, config = network.architecture, network.config
        state = {k: v.detach().cpu() for k, v in network.state_dict().items()}
    check_state(architecture, config, state)
    if half:
        state = _halved(state)
    header = {
        **(metadata or Metadata()).to_header(),
        **_network_header(architecture, config, state, half),
    }
    header.setdefault("modelspec.title", target.stem)
    sha256, size = write_tensors(target, state, header, overwrite=overwrite)
    return Saved(target, sha256, size)


def _network_header(
    architecture: str, config: Config, state: Mapping[str, Tensor], half: bool
) -> dict[str, str]:
    return {
        "modelspec.sai_model_spec": SPEC,
        "modelspec.architecture": architecture,
        "modelspec.implementation": IMPLEMENTATION,
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
