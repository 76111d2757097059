"""What an output says of itself: the provenance in it names its input and its settings.

Where there is no journal (a single picture, an output that went elsewhere), this tells an output
that is done, and a picture of a folder that is an output of another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from upscale import storage
from upscale.batch.inputs import Input
from upscale.errors import ImageError

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.batch.task import Task

MARK = b"urn:upscale:provenance"  # in every file that has one
ENDS = 1 << 18  # bytes at either end of a file that are searched for the mark


def is_made(task: Task, plan: Plan) -> bool:
    """Whether an output says that it was made from this very input, with these settings.

    What another program has changed since in its pixels alone is not told apart.
    """
    record = _record(task.output)
    if record is None or record.get("settings") != plan.digest_of(task):
        return False
    if task.seed is not None and record.get("seed") != task.seed:
        return False
    if not all(os.path.exists(path) for path, _ in task.maps):
        return False
    return record.get("input") == _sha256(task.source)


def outputs_among(sources: Sequence[Input]) -> set[str]:
    """The locations of those pictures that are outputs of other ones among them."""
    files = (s.location for s in sources if s.stat is not None and s.data is None)
    records = {location: record for location in files if (record := _record(location))}
    made_from = {location: str(r["input"]) for location, r in records.items() if r.get("input")}
    if not made_from:
        return set()
    known = _hashes(sources)
    return {location for location, sha256 in made_from.items() if sha256 in known}


def _hashes(sources: Iterable[Input]) -> set[str]:
    return {sha256 for source in sources if (sha256 := _sha256(source))}


def _sha256(source: Input) -> str:
    """The SHA-256 of an input; empty where it cannot be read, or only once."""
    if isinstance(source.data, bytes):
        return storage.sha256(source.data)
    is_stream = source.data is not None or source.stat is None
    if is_stream or not (storage.is_url(source.location) or os.path.isfile(source.location)):
        return ""
    try:
        return storage.content(source.location).sha256
    except (OSError, ImageError):
        return ""


def _record(location: str) -> dict[str, Any] | None:
    """The provenance in a file of this machine; ``None`` where there is none."""
    from upscale.image import probe, provenance

    if storage.is_url(location) or not os.path.isfile(location):
        return None
    try:
        # Most files have none, and their headers are not worth reading.
        with open(location, "rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS))
            if MARK not in head and MARK not in file.read(ENDS):
                return None
        return provenance(probe(location).metadata)
    except (OSError, ImageError):
        return None
