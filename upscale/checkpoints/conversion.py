"""Foreign checkpoints: PyTorch's, MATLAB's, ncnn's.

A pickle is a program. It is read by ``torch.load(weights_only=True)``, which knows tensors and
plain containers and runs nothing else; a file that needs more is refused.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Hints, SourceFile
from upscale.checkpoints.files import NCNN, PICKLES, foreign_format
from upscale.checkpoints.index import read_bytes
from upscale.checkpoints.layouts import recognise
from upscale.checkpoints.ncnn import read_ncnn
from upscale.errors import ArchitectureError, CheckpointError

WRAPPERS = (  # dictionaries around a state dict; averaged weights before those of the last step
    *("net_g_ema", "generator_ema", "g_ema", "ema_model", "model_state_dict", "state_dict"),
    *("params_ema", "params-ema", "params", "model", "net", "net_g", "netG", "generator"),
)
# what torch.load raises of files that are cut short or altered
_DAMAGED = RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, OSError
# NumPy scalars, which trainers store beside the tensors (a best PSNR); they run nothing
_HARMLESS: list[Any] = [
    *(  # under its name before and since NumPy 2.0
        (np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar")
        for core in ("core", "_core")
    ),
    *(np.dtype, *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?"))),
]
_KERNELS = {f"weights_conv{k}" for k in (1, 2, 3)} | {f"biases_conv{k}" for k in (1, 2, 3)}


def read_foreign(path: str | os.PathLike[str], hints: Hints | None = None) -> Checkpoint:
    """Read a checkpoint of one of these formats; its content decides which, not its name.

    Raises:
        ArchitectureError: Another network, by name where it is known.
        CheckpointError: Missing, empty, damaged, or holding objects other than tensors.
    """
    file = Path(path)
    data = read_bytes(file)
    contents, values = foreign_format(data[:16]), b""
    try:
        if contents == NCNN or file.suffix.lower() == ".param":
            stored = file.with_suffix(".bin")
            if not stored.is_file():
                raise CheckpointError(
                    f"its values, {stored.name}, are not beside it; put them there"
                )
            values = read_bytes(stored)
            found = _from_ncnn(data, values, hints)
        else:
            tensors = unwrap(read_pickle(data)) if contents in PICKLES else read_mat(data)
            found = recognise(tensors, hints, file.name)
    except CheckpointError as error:
        shown = str(error) if str(error).startswith(f"{file}: ") else f"{file}: {error}"
        raise type(error)(shown) from error
    sha256 = hashlib.sha256(data + values).hexdigest()
    return replace(found, name=file.stem, sources=(SourceFile(file.stem, sha256),), path=file)


def _from_ncnn(graph: bytes, values: bytes, hints: Hints | None) -> Checkpoint:
    """The network of an ncnn model, whose graph tells its scale."""
    network = read_ncnn(graph, values)
    scale = network.scale if hints is None or hints.scale is None else hints.scale
    found = replace(recognise(network.tensors, Hints(scale)), layout="ncnn", rules=())
    if not network.final_scale:
        return found
    rule = f"its resizing at the end, to x{network.final_scale}, is done as a final scale is"
    config = replace(found.config, **{"final_scale": network.final_scale})
    return replace(found, config=config, rules=(rule,))


def read_pickle(data: bytes) -> Any:
    """What a PyTorch file holds, by ``torch.load(weights_only=True)``; no code of it is run."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global|type) `?([\w.]+)`? ", str(error))
        if named or "nsupported" in str(error):
            what = named[1] if named else "objects"
            raise CheckpointError(
                f"it asks to run {what}, which is not loaded: a checkpoint needs tensors alone; "
                f"do not trust it, or save its state_dict alone"
            ) from error
        raise CheckpointError("it is damaged, or no PyTorch file; fetch it again") from error
    except _DAMAGED as error:
        if "TorchScript" in str(error):
            raise CheckpointError(
                "it is a TorchScript archive, a program, which is not run; save the tensors alone "
                "where it was made: torch.save(network.state_dict(), 'net.pth')"
            ) from error
        first = str(error).strip().partition("\n")[0][:120]
        raise CheckpointError(
            f"it is truncated, damaged, or no PyTorch state dict ({first}); fetch it again"
        ) from error


def unwrap(loaded: Any) -> dict[str, Tensor]:
    """The state dict inside the dictionaries that trainers put around it.

    Wrappers are opened in the order of ``WRAPPERS`` (``params_ema`` before ``params``), then any
    dictionary of one dictionary. Values beside the tensors are left out.
    """
    current = loaded
    for _ in range(8):
        if not isinstance(current, Mapping):
            break
        tensors = {k: v for k, v in current.items() if isinstance(v, Tensor)}
        inner = {k: v for k, v in current.items() if isinstance(v, Mapping)}
        wrapper = next((w for w in WRAPPERS if w in inner), None)
        if wrapper is not None:
            current = inner[wrapper]
        elif tensors:
            return _checked(tensors)
        elif len(inner) == 1:
            current = next(iter(inner.values()))
        else:
            break
    kind = type(current).__name__
    raise CheckpointError(f"there is no state dict in it, only a {kind}; give a file of tensors")


def _checked(tensors: Mapping[Any, Tensor]) -> dict[str, Tensor]:
    for key, tensor in tensors.items():
        if not isinstance(key, str):
            raise CheckpointError(f"its key {key!r} is no text; it is no state dict")
        dense = tensor.layout is torch.strided and not tensor.is_quantized
        if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"its tensor {key} is no plain array; fetch it again")
    return {key: tensor.detach() for key, tensor in tensors.items()}


def read_mat(data: bytes) -> dict[str, Tensor]:
    """The SRCNN authors' ``.mat`` as ``conv1..3.weight`` (out, in, side, side) and ``.bias``."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise CheckpointError("a .mat needs scipy: pip install 'upscale[convert]'") from error
    try:
        found = {k: v for k, v in loadmat(io.BytesIO(data)).items() if not k.startswith("__")}
    except Exception as error:
        raise CheckpointError(
            f"it is damaged, or no MATLAB 5 file ({type(error).__name__}); fetch it again"
        ) from error
    if not set(found) >= _KERNELS:
        names = ", ".join(sorted(found)[:4]) or "nothing"
        raise ArchitectureError(f"it holds {names}, not an SRCNN's weights_conv1 to biases_conv3")
    arrays = {key: np.asarray(found[key], dtype=np.float32) for key in _KERNELS}
    weights = [arrays[f"weights_conv{k}"] for k in (1, 2, 3)]
    # kernels that are flattened column by column, as MATLAB does, in PyTorch's order
    n1, n2 = arrays["biases_conv1"].size, arrays["biases_conv2"].size
    counts = (n1, n1 * n2, n2)
    f1, f2, f3 = (round((w.size / n) ** 0.5) for w, n in zip(weights, counts, strict=True))
    try:
        first = weights[0].reshape(f1, f1, n1, order="F").transpose(2, 0, 1)[:, None]
        second = weights[1].reshape(n1, f2, f2, n2, order="F").transpose(3, 0, 1, 2)
        third = weights[2].reshape(n2, f3, f3, order="F")[None]
    except ValueError as error:
        raise ArchitectureError(
            f"its kernels are no SRCNN's ({error}); it is another network"
        ) from error
    tensors = {
        f"conv{k}.weight": torch.from_numpy(np.ascontiguousarray(array))
        for k, array in enumerate((first, second, third), 1)
    }
    for k in (1, 2, 3):
        tensors[f"conv{k}.bias"] = torch.from_numpy(arrays[f"biases_conv{k}"].reshape(-1).copy())
    return tensors
