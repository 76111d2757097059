"""Tensors to and from safetensors files.

Files are written here, not by the library, because its header comes out in another order every
time: the same checkpoint is to give the same bytes, hence the same SHA-256. The library reads.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from upscale.checkpoints.files import (
    CONTENT_HASH,
    Header,
    check_content,
    check_sha256,
    parse_header,
    read_bytes,
)
from upscale.errors import CheckpointError
from upscale.files import write_bytes

DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_tensors(
    path: Path, sha256: str = "", remedy: str = ""
) -> tuple[Header, dict[str, Tensor], str]:
    """Read a safetensors file, hashing the same bytes that are parsed.

    What no index vouches for is compared with the hash of the tensors in its own header.

    Args:
        path: The file.
        sha256: The recorded hash; empty for a file that no index vouches for.
        remedy: What to do when the hash is another.

    Returns:
        Header, tensors by name as stored, SHA-256 of the file.

    Raises:
        HashError: The hash is another, or that of the tensors is not the one in the header.
        CheckpointError: Missing, empty, truncated, damaged.
    """
    data = read_bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256:
        check_sha256(path, found, sha256, remedy)
    file = io.BytesIO(data)
    header = parse_header(path, file.read(8), file, len(data))
    if not sha256:
        check_content(path, header, hashlib.sha256(memoryview(data)[header.start :]).hexdigest())
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); fetch or save it again") from error
    return header, tensors, found


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool
) -> tuple[str, int]:
    """Write a safetensors file, with the hash of its tensors in the header.

    Keys are sorted and the data begins at a multiple of 8: the same input gives the same bytes.

    Returns:
        SHA-256 and size of the file.

    Raises:
        OutputError: It exists and ``overwrite`` is false, or cannot be written.
    """
    blobs: list[bytes] = []
    table: dict[str, object] = {}
    content = hashlib.sha256()
    at = 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):  # keeps alignment
        tensor = tensors[name].detach().cpu().contiguous()
        blob = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        table[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(blob)],
        }
        content.update(blob)
        blobs.append(blob)
        at += len(blob)
    notes = {**metadata, "format": "pt", CONTENT_HASH: f"0x{content.hexdigest()}"}
    table = {"__metadata__": dict(sorted(notes.items())), **table}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text, *blobs]
    write_bytes(path, parts, overwrite=overwrite)
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest(), 8 + len(text) + at
