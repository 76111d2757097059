"""What a checkpoint file is by its content, and whether it is what it was. Loads no torch."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from upscale.checkpoints.index import WeightsFile, digest, entries, find, read_bytes
from upscale.errors import CheckpointError, HashError

PICKLES = ("a PyTorch (zip) file", "a pickle file")
MATLAB = "a MATLAB file"
NCNN = "an ncnn model"
NCNN_VALUES = "the values of an ncnn model"
CONTENT_HASH = "modelspec.hash_sha256"  # of what follows the header, 0x before it
# what the safetensors library raises of files that are none, cut short or altered
DAMAGED = SafetensorError, ValueError, RuntimeError, LookupError
_BEGINNINGS = (
    *((bytes((0x80, protocol)), PICKLES[1]) for protocol in (2, 3, 4, 5)),
    (b"MATLAB", MATLAB),
    (b"7767517", NCNN),
    (b"\x47\x6b\x30\x01", NCNN_VALUES),  # the mark of float16 before the first weights
)
_TEXTS = ((b"PK\x03\x04", PICKLES[0]), (b"<", "a web page"), (b"version", "a Git LFS pointer"))


def foreign_format(first: bytes) -> str:
    """What the first bytes of a file show it to be, when that is no safetensors file; else ''."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    names = [name for beginning, name in _TEXTS if start.startswith(beginning)]
    names += [name for beginning, name in _BEGINNINGS if first.startswith(beginning)]
    return names[0] if names else ""


def to_convert(path: Path) -> bool:
    """Whether a file is a checkpoint that is read by conversion; its content decides.

    Raises:
        CheckpointError: It cannot be read, or is of no use for a reason that can be told.
    """
    suffix, contents = path.suffix.lower(), foreign_format(read_bytes(path, 16))
    graph = path.with_suffix(".param")
    if contents == NCNN_VALUES or (suffix == ".bin" and not contents and graph.is_file()):
        raise CheckpointError(f"{path}: {NCNN_VALUES}; give its graph, {graph.name}")
    if suffix == ".onnx" and not contents:
        raise CheckpointError(
            f"{path}: an ONNX file, which is not run here; give the .pth or .safetensors that it "
            f"was made from"
        )
    return contents in (*PICKLES, MATLAB, NCNN) or suffix in (".mat", ".param")


def unreadable(path: Path, first: bytes, error: Exception) -> CheckpointError:
    """What the safetensors library said of a file, in our words; ``first`` are its first bytes."""
    contents = foreign_format(first)
    if not first:
        return CheckpointError(f"{path}: the file is empty; fetch or save it again")
    if contents in (*PICKLES, MATLAB, NCNN):
        target = path.with_suffix(".safetensors").name
        remedy = f"convert it: upscale weights convert {path.name} {target}"
        return CheckpointError(f"{path}: {contents}, no safetensors file; {remedy}")
    if contents or len(first) < 8:
        what = f"{contents}, no" if contents else "not a"
        return CheckpointError(f"{path}: {what} safetensors file; fetch or save it again")
    detail = str(error).partition("\n")[0].rpartition("deserializing")[2]
    detail = detail.removeprefix(" header").lstrip(": ")[:120]
    return CheckpointError(
        f"{path}: truncated or damaged, or no safetensors file ({detail}); fetch or save it again"
    )


def read_header(path: Path) -> dict[str, str]:
    """The free text in the header of a safetensors file, which is checked; no tensor is read."""
    first = read_bytes(path, 16)
    try:
        with safe_open(path, "np") as file:
            return dict(file.metadata() or {})
    except DAMAGED as error:
        raise unreadable(path, first, error) from error


def check_content(path: Path, header: dict[str, str], data: bytes) -> bool:
    """Compare the tensors of a file's bytes with the hash in its header; False: it has none."""
    recorded = header.get(CONTENT_HASH, "").strip().lower().removeprefix("0x")
    if not recorded:
        return False
    start = 8 + int.from_bytes(data[:8], "little")
    if hashlib.sha256(memoryview(data)[start:]).hexdigest() != recorded:
        raise HashError(
            f"{path}: damaged: the tensors are not those its header was written for; fetch or save "
            f"it again"
        )
    return True


@dataclass(frozen=True)
class Verdict:
    """Whether one file is what it was: by the SHA-256 of an index, or of its own header."""

    name: str  # weights name or path
    status: Literal["ok", "unknown", "failed"]  # unknown: there is nothing to compare it with
    sha256: str  # of the file; empty where it cannot be read
    detail: str  # what it was compared with, or what is wrong


def check_all() -> list[Verdict]:
    """Every embedded and cached file."""
    return [check(entry) for entry in entries()]


def check(what: str | os.PathLike[str] | WeightsFile) -> Verdict:
    """One file, by weights name, path or row; damage is a verdict, not an error."""
    entry = what if isinstance(what, WeightsFile) else find(what)
    name = str(entry.path) if entry.origin == "file" else entry.name
    try:
        if entry.sha256:
            return Verdict(name, "ok", entry.verify(), f"as in the {entry.origin} index")
        header, data = read_header(entry.path), read_bytes(entry.path)
        sha256 = hashlib.sha256(data).hexdigest()
        if check_content(entry.path, header, data):
            return Verdict(name, "ok", sha256, "the tensors are as its header says; in no index")
        return Verdict(name, "unknown", sha256, "in no index, and its header has no hash")
    except CheckpointError as error:
        sha256 = digest(entry.path) if entry.path.is_file() else ""
        return Verdict(name, "failed", sha256, str(error))
