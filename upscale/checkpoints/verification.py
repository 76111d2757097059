"""Whether files are what they were: against the SHA-256 of an index, or of their own header."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

from upscale.checkpoints.files import check_content, digest, read_bytes, read_header
from upscale.checkpoints.index import WeightsFile, entries, find
from upscale.errors import CheckpointError


@dataclass(frozen=True)
class Verdict:
    """The result for one file."""

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
