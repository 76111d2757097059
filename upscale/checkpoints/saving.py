"""Checkpoints into files: self-describing safetensors, also of foreign ones, and ONNX."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from upscale.checkpoints.checkpoint import HEADER, Checkpoint, CheckpointInfo, Hints
from upscale.checkpoints.files import CONTENT_HASH
from upscale.checkpoints.index import by_path
from upscale.checkpoints.loading import build, load
from upscale.errors import UsageError
from upscale.files import refuse_existing, write_bytes
from upscale.models import MODELS, OTHERS, Network, check_state

SPEC = "1.0.1"  # of ModelSpec
OPSET = 17
EXAMPLE = (2, 19, 22)  # batch, height and width that are traced; none is a multiple of a window


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

    The same network (in its training form) and metadata (None: the checkpoint's own) give the same
    bytes. With ``half`` floats are stored as float16 and come back rounded.

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
    notes = asdict(metadata or CheckpointInfo())
    header = {
        "modelspec.title": target.stem,
        **{HEADER[name]: value for name, value in notes.items() if value},
        "modelspec.sai_model_spec": SPEC,
        "modelspec.architecture": architecture,
        "modelspec.implementation": "upscale",
        "upscale.architecture": architecture,
        "upscale.config": json.dumps(asdict(config), sort_keys=True),
        "upscale.scale": str(getattr(config, "scale", 1)),
        "upscale.parameters": str(sum(t.numel() for t in state.values())),
        "upscale.dtype": "float16" if half else "float32",
    }
    return write_tensors(target, state, header, overwrite=overwrite)


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
    return _written(path, b"".join([len(text).to_bytes(8, "little"), text, content]), overwrite)


def _written(path: Path, data: bytes, overwrite: bool) -> Saved:
    write_bytes(path, [data], overwrite=overwrite)
    return Saved(path, hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Converted:
    """What a file held, and the file that was written."""

    checkpoint: Checkpoint
    saved: Saved


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    hints: Hints | None = None,
    metadata: CheckpointInfo | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> Converted:
    """Write a foreign checkpoint as self-describing safetensors under native keys.

    ``src`` is ``.pth``, ``.pt``, ``.pth.tar``, ``.ckpt``, ``.bin``, ``.mat``, ``.safetensors``, or
    ncnn's ``.param`` with its ``.bin`` beside it; ``hints`` are what it cannot tell. Origin, layout
    and rules are added to ``metadata``.

    Raises:
        ArchitectureError: Another network, by name where it is known.
        CheckpointError: Missing, empty, damaged, or holding objects other than tensors.
        OutputError: The output exists or cannot be written.
    """
    source, target = Path(src), Path(dst)
    refuse_existing(target, overwrite)
    if source.exists() and target.exists() and source.samefile(target):
        raise UsageError(f"{dst} is the input itself; give another name")
    checkpoint = load(by_path(source), hints)
    given = metadata or checkpoint.metadata
    described = replace(
        given,
        source=given.source or source.name,
        title=given.title or source.name,
        layout=checkpoint.layout,
        rules="; ".join(checkpoint.rules),
        source_sha256=checkpoint.sha256,
    )
    checkpoint = replace(checkpoint, metadata=described)
    return Converted(checkpoint, save(target, checkpoint, half=half, overwrite=overwrite))


# --- ONNX -----------------------------------------------------------------------------------------


def export_onnx(
    checkpoint: Checkpoint, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Saved:
    """Write a network as ONNX: input ``lr`` (N, C, H, W) in [0, 1], output ``sr``; all N, H, W.

    ``metadata_props`` hold title, architecture, scale, channels, licence, and the names and SHA-256
    of the weights. The exporter is the tracing one, which needs no package beside onnx.

    Raises:
        UsageError: Another suffix, a network of another package, or no extra ``onnx``.
        OutputError: The file exists or cannot be written.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise UsageError(f"{target}: networks are exported as .onnx; change the suffix")
    if checkpoint.architecture in OTHERS:
        raise UsageError(
            f"{checkpoint.name} is run by {checkpoint.architecture}, which is not exported here; "
            f"choose a network of {', '.join(MODELS)}"
        )
    refuse_existing(target, overwrite)
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            f"{target}: ONNX needs the package onnx: pip install 'upscale[onnx]'"
        ) from error
    model = onnx.load_model_from_string(_traced(checkpoint))
    onnx.helper.set_model_props(model, _props(checkpoint))
    onnx.checker.check_model(model, full_check=True)
    return _written(target, model.SerializeToString(deterministic=True), overwrite)


def _traced(checkpoint: Checkpoint) -> bytes:
    network = build(checkpoint)
    batch, height, width = EXAMPLE
    lr = torch.zeros(batch, network.channels + network.noise_channels, height, width)
    axes = {0: "N", 2: "H", 3: "W"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        out = Path(folder) / "net.onnx"
        warnings.simplefilter("ignore")  # of tracing; what it warns of is tested in every size
        torch.onnx.export(
            network,
            (lr,),
            out,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_axes={"lr": axes, "sr": {k: f"{v}_out" if k else v for k, v in axes.items()}},
            opset_version=OPSET,
            dynamo=False,
        )
        return out.read_bytes()


def _props(checkpoint: Checkpoint) -> dict[str, str]:
    colours = "RGB" if checkpoint.channels == 3 else "gray or luma"
    given = {
        "title": checkpoint.metadata.title or checkpoint.name,
        "architecture": checkpoint.architecture,
        "scale": str(checkpoint.scale),
        "channels": str(checkpoint.channels),
        "input": f"{colours}, float32 in [0, 1], N x C x H x W",
        "license": checkpoint.metadata.license,
        "weights": json.dumps({s.name: s.sha256 for s in checkpoint.sources}),
        "sha256": checkpoint.sha256,
        "alpha": "" if checkpoint.alpha is None else f"{checkpoint.alpha:g}",
        "denoise": "" if checkpoint.denoise is None else f"{checkpoint.denoise:g}",
        "blend": checkpoint.metadata.blend,
    }
    return {key: value for key, value in given.items() if value}
