"""Checkpoint files: reading, hashes, what a file is by its content, headers. Loads no torch."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from upscale.errors import CheckpointError, HashError, reason

PICKLES = ("a PyTorch (zip) file", "a pickle file")
MATLAB = "a MATLAB file"
NCNN = "an ncnn model"
NCNN_VALUES = "the values of an ncnn model"
ONNX = "an ONNX file"
CONTENT_HASH = "modelspec.hash_sha256"  # of what follows the header, 0x before it


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The file, open for reading; :class:`CheckpointError` in place of :class:`OSError`."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint file {path}; check the path") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{path} is a folder; give a checkpoint file") from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({reason(error)}); check its permissions"
        ) from error


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The file, or its first bytes; ``CheckpointError`` where it cannot be read."""
    with _opened(path) as file:
        return file.read(size)


def digest(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hex digits; ``CheckpointError`` where it cannot be read."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, found: str, recorded: str, remedy: str) -> None:
    """Raise :class:`HashError` unless ``found`` begins with ``recorded``."""
    if not recorded or not found.startswith(recorded.lower()):
        raise HashError(
            f"{path}: its SHA-256 is {found[:16]}…, recorded is {recorded[:16]}…; {remedy}"
        )


def foreign_format(first: bytes) -> str:
    """What the first bytes of a file show it to be, when that is no safetensors file; else ''."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    for beginning, name in (
        (b"PK\x03\x04", PICKLES[0]),
        (b"<", "a web page"),
        (b"version", "a Git LFS pointer"),
    ):
        if start.startswith(beginning):
            return name
    for beginning, name in (
        *((bytes((0x80, protocol)), PICKLES[1]) for protocol in (2, 3, 4, 5)),
        (b"MATLAB", MATLAB),
        (b"7767517", NCNN),
        (b"\x47\x6b\x30\x01", NCNN_VALUES),  # the mark of float16 before the first weights
    ):
        if first.startswith(beginning):
            return name
    return ""


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
            f"{path}: {ONNX}, which is not run here; give the .pth or .safetensors that it was "
            f"made from"
        )
    return contents in (*PICKLES, MATLAB, NCNN) or suffix in (".mat", ".param")


@contextlib.contextmanager
def safetensors_errors(path: Path, first: bytes) -> Iterator[None]:
    """The errors of the safetensors library in our words; ``first`` are bytes of the file."""
    from safetensors import SafetensorError  # lists of names do without

    contents = foreign_format(first)
    if not first:
        raise CheckpointError(f"{path}: the file is empty; fetch or save it again")
    try:
        yield
    except (SafetensorError, ValueError, RuntimeError, LookupError) as error:
        if contents in (*PICKLES, MATLAB, NCNN):
            target = path.with_suffix(".safetensors").name
            remedy = f"convert it: upscale weights convert {path.name} {target}"
            raise CheckpointError(f"{path}: {contents}, no safetensors file; {remedy}") from error
        if contents or len(first) < 8:
            what = f"{contents}, no" if contents else "not a"
            raise CheckpointError(
                f"{path}: {what} safetensors file; fetch or save it again"
            ) from error
        detail = str(error).partition("\n")[0].rpartition("deserializing")[2]
        detail = detail.removeprefix(" header").lstrip(": ")[:120]
        raise CheckpointError(
            f"{path}: truncated or damaged, or no safetensors file ({detail}); fetch or save it "
            f"again"
        ) from error


def read_header(path: Path) -> dict[str, str]:
    """The free text in the header of a safetensors file, which is checked; no tensor is read."""
    from safetensors import safe_open

    with safetensors_errors(path, read_bytes(path, 16)), safe_open(path, "np") as file:
        return dict(file.metadata() or {})


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
