"""Checkpoint files: hashes, and the header of a safetensors file. No torch.

The safetensors format is eight bytes (little endian: length of the header), a JSON header that
gives every tensor its dtype, shape and place, and the tensors' bytes without gaps.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from upscale.errors import CheckpointError, HashError

MAX_HEADER = 100 << 20  # bytes; the limit of the safetensors library
CHUNK = 1 << 20
PICKLES = ("a PyTorch (zip) file", "a pickle file")
MATLAB = "a MATLAB file"
NCNN = "an ncnn model"
NCNN_VALUES = "the values of an ncnn model"
CONTENT_HASH = "modelspec.hash_sha256"  # of what follows the header, 0x before it
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 1),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of one tensor.

    Attributes:
        dtype: In safetensors' words: ``F32``, ``F16``, ``I64``, ….
        shape: Its shape.
        begin: First byte in the data section.
        end: One past the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """A checked header: every tensor lies inside the file, and the tensors fill it without gaps.

    Attributes:
        metadata: Free text by key.
        tensors: By name.
        start: Where the data section begins, in bytes.
    """

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    start: int

    @property
    def content_sha256(self) -> str:
        """What the header says of the data section: lower-case hex digits; empty: nothing."""
        return self.metadata.get(CONTENT_HASH, "").strip().lower().removeprefix("0x")


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file; the tensors are not read.

    Raises:
        CheckpointError: No such file; empty, truncated, or no safetensors file.
    """
    with open_checkpoint(path) as file:
        size = os.fstat(file.fileno()).st_size
        return parse_header(path, file.read(8), file, size)


def parse_header(path: Path, first: bytes, file: BinaryIO, size: int) -> Header:
    """Parse the header after the eight bytes ``first``; ``size`` is that of the whole file."""
    if size == 0:
        raise CheckpointError(f"{path}: the file is empty; fetch or save it again")
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not first or length < 2:
        raise _not_safetensors(path, first)
    if length > MAX_HEADER or length > size - 8:
        if looks_foreign(first):
            raise _not_safetensors(path, first)
        raise CheckpointError(
            f"{path}: truncated, or no safetensors file: its header claims {length:,} bytes "
            f"and the file has {size:,}; fetch or save it again"
        )
    try:
        table = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: damaged: its header is no JSON ({error}); fetch or save it again"
        ) from error
    header = _header(path, table, 8 + length)
    filled = max((t.end for t in header.tensors.values()), default=0)
    if filled != size - header.start:
        state = "truncated" if filled > size - header.start else "damaged"
        raise CheckpointError(
            f"{path}: {state}: its header describes {filled + header.start:,} bytes and the file "
            f"has {size:,}; fetch or save it again"
        )
    return header


def _header(path: Path, table: Any, start: int) -> Header:
    damaged = CheckpointError(
        f"{path}: damaged: its header is not that of a safetensors file; fetch or save it again"
    )
    if not isinstance(table, dict):
        raise damaged
    metadata = table.pop("__metadata__", {})
    try:
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
            raise damaged
        tensors = {name: _tensor_info(info) for name, info in table.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged from error
    at = 0
    for info in sorted(tensors.values(), key=lambda t: (t.begin, t.end)):
        if info.begin != at:
            raise damaged
        at = info.end
    return Header(metadata, tensors, start)


def _tensor_info(info: dict[str, Any]) -> TensorInfo:
    begin, end = info["data_offsets"]
    shape = tuple(info["shape"])
    if any(type(n) is not int or n < 0 for n in (begin, end, *shape)):
        raise ValueError
    if end - begin != math.prod(shape) * ITEM_BYTES[info["dtype"]]:
        raise ValueError
    return TensorInfo(info["dtype"], shape, begin, end)


def looks_foreign(first: bytes) -> str:
    """What the first bytes of a file show it to be, when that is no safetensors file; else ''."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"PK\x03\x04"):
        return PICKLES[0]
    if first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLES[1]
    if start[:1] == b"<":
        return "a web page"
    if first.startswith(b"MATLAB"):
        return MATLAB
    if first.startswith(b"7767517"):
        return NCNN
    if first.startswith(b"\x47\x6b\x30\x01"):  # the mark of float16 before the first weights
        return NCNN_VALUES
    if start.startswith(b"version"):
        return "a Git LFS pointer"
    return ""


def to_convert(path: Path) -> bool:
    """Whether a file is a checkpoint that is read by conversion; its content decides.

    Raises:
        CheckpointError: It cannot be read.
    """
    with open_checkpoint(path) as file, _reading(path):
        kind = looks_foreign(file.read(16))
    return kind in (*PICKLES, MATLAB, NCNN) or path.suffix.lower() in (".mat", ".param")


def refuse_values(path: Path) -> None:
    """Refuse the ``.bin`` of an ncnn model, which is nothing without its graph.

    Raises:
        CheckpointError: It is one.
    """
    graph = path.with_suffix(".param")
    with open_checkpoint(path) as file, _reading(path):
        first = file.read(16)
    beside = path.suffix.lower() == ".bin" and looks_foreign(first) == "" and graph.is_file()
    if beside or looks_foreign(first) == NCNN_VALUES:
        raise CheckpointError(f"{path}: {NCNN_VALUES}; give its graph, {graph.name}")


def _not_safetensors(path: Path, first: bytes) -> CheckpointError:
    kind = looks_foreign(first)
    if kind in (*PICKLES, MATLAB, NCNN):
        target = path.with_suffix(".safetensors").name
        remedy = f"convert it: upscale weights convert {path.name} {target}"
        return CheckpointError(f"{path}: {kind}, no safetensors file; {remedy}")
    what = f"{kind}, no" if kind else "not a"
    return CheckpointError(f"{path}: {what} safetensors file; fetch or save it again")


@contextlib.contextmanager
def _reading(path: Path) -> Any:
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint file {path}; check the path") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{path} is a folder; give a checkpoint file") from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def open_checkpoint(path: Path) -> io.BufferedReader:
    """Open for reading; :class:`CheckpointError` in place of :class:`OSError`."""
    with _reading(path):
        if path.is_dir():
            raise IsADirectoryError(path)
        return path.open("rb")


def read_bytes(path: Path) -> bytes:
    """The whole file; :class:`CheckpointError` in place of :class:`OSError`."""
    with open_checkpoint(path) as file, _reading(path):
        return file.read()


def digest(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hex digits; ``CheckpointError`` where it cannot be read."""
    with open_checkpoint(path) as file, _reading(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path, start: int) -> str:
    """SHA-256 of what follows the first ``start`` bytes, as ModelSpec's ``hash_sha256`` counts."""
    with open_checkpoint(path) as file, _reading(path):
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_content(path: Path, header: Header, found: str) -> None:
    """Raise :class:`HashError` where the header records another hash of the data section."""
    if header.content_sha256 not in ("", found):
        raise HashError(
            f"{path}: damaged: the tensors are not those its header was written for; fetch or save "
            f"it again"
        )


def check_sha256(path: Path, found: str, wanted: str, remedy: str) -> None:
    """Raise :class:`HashError` unless ``found`` begins with ``wanted``."""
    if not wanted or not found.startswith(wanted.lower()):
        raise HashError(
            f"{path}: its SHA-256 is {found[:16]}…, recorded is {wanted[:16]}…; {remedy}"
        )
