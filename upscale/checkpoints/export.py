"""Networks for other runtimes: ONNX, any batch and picture size, with what the network is in it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path

import torch

from upscale.checkpoints.checkpoint import Checkpoint, build
from upscale.checkpoints.loading import Saved
from upscale.errors import UsageError
from upscale.files import refuse_existing, write_bytes
from upscale.models import MODELS, OTHERS

OPSET = 17
EXAMPLE = (2, 19, 22)  # batch, height and width that are traced; none is a multiple of a window


def export_onnx(
    checkpoint: Checkpoint, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Saved:
    """Write a network as ONNX: input ``lr`` (N, C, H, W) in [0, 1], output ``sr``; all N, H, W.

    ``metadata_props`` hold title, architecture, scale, channels, licence, and the names and SHA-256
    of the weights. The exporter is the tracing one, which needs no package beside onnx.

    Args:
        checkpoint: What to write; of ``resolve``, blended as asked for.
        path: Where; the suffix is to be ``.onnx``.
        overwrite: Replace an existing file.

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
    data = model.SerializeToString(deterministic=True)
    write_bytes(target, [data], overwrite=overwrite)
    return Saved(target, hashlib.sha256(data).hexdigest(), len(data))


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
    kind = "RGB" if checkpoint.channels == 3 else "gray or luma"
    given = {
        "title": checkpoint.metadata.title or checkpoint.name,
        "architecture": checkpoint.architecture,
        "scale": str(checkpoint.scale),
        "channels": str(checkpoint.channels),
        "input": f"{kind}, float32 in [0, 1], N x C x H x W",
        "license": checkpoint.metadata.license,
        "weights": json.dumps({s.name: s.sha256 for s in checkpoint.sources}),
        "sha256": checkpoint.sha256,
        "alpha": "" if checkpoint.alpha is None else f"{checkpoint.alpha:g}",
        "denoise": "" if checkpoint.denoise is None else f"{checkpoint.denoise:g}",
        "blend": checkpoint.metadata.blend,
    }
    return {key: value for key, value in given.items() if value}
