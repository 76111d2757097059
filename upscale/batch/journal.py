"""The journal of an output folder: which picture was made from what, so that a run resumes.

Locally it is ``.upscale/journal.ndjson`` in the output folder, one line per picture, appended
*before* the output gets its final name. A line counts only while the output's size and time are
those that it names (or, where a copy changed the time, its SHA-256), so that a line whose rename
never happened, a half-written line, and a file changed by someone else all mean what they should.

In an object store, which cannot append, it is one small object per picture,
``.upscale/journal/<hash>.json``, written before the output (without its tag: the output may then be
replaced) and again after it.

Beside it lie the claims, so that two processes on one folder never do the same picture twice.

Where there is no journal (a single picture, an output that went elsewhere), the provenance in an
output, which names its input and its settings, tells that it is done, or no input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from io import FileIO
from typing import TYPE_CHECKING, Any

from upscale import storage
from upscale.batch.inputs import HIDDEN, Input
from upscale.errors import ImageError
from upscale.storage import Stat

if TYPE_CHECKING:
    from upscale.batch.task import Task

NAME = "journal.ndjson"
MARK = b"urn:upscale:provenance"  # in every file that has one
ENDS = 1 << 18  # bytes at either end of a file that are searched for the mark


@dataclass(frozen=True)
class JournalLine:
    """One line: what an output was made from, and what it is.

    Attributes:
        output: Its location relative to the journal's folder, with forward slashes.
        settings: Digest of settings and weights (``Settings.digest``).
        output_stamp: Time or tag; empty when it is not known yet.
    """

    output: str
    input: str
    input_size: int
    input_stamp: str
    input_sha256: str
    settings: str
    output_size: int
    output_stamp: str
    output_sha256: str

    def made_from(self, location: str, now: Stat | None) -> bool:
        """Whether ``location``, which has the stat ``now``, still is the input of this line."""
        return now is not None and _is(
            location, now, Stat(self.input_size, self.input_stamp), self.input_sha256
        )

    def is_output(self, location: str, now: Stat) -> bool:
        """Whether the file at ``location``, which has the stat ``now``, is what this line says."""
        return _is(location, now, Stat(self.output_size, self.output_stamp), self.output_sha256)


def _is(location: str, now: Stat, then: Stat, sha256: str) -> bool:
    """Whether a file is what it was: by its size and stamp, or, where that differs, by its hash."""
    if now.size != then.size or (now.stamp and now.stamp == then.stamp):
        return now.size == then.size
    try:
        return storage.sha256(storage.read(location)[0]) == sha256
    except (OSError, ImageError):
        return False


class Journal:
    """The lines of an output folder, by output."""

    def __init__(self) -> None:
        self._lines: dict[str, JournalLine] = {}
        self._news: set[str] = set()  # outputs whose last line another process has written since

    def get(self, output: str) -> JournalLine | None:
        """Return the last line about an output, as of the last ``refresh``."""
        return self._lines.get(output)

    def add(self, line: JournalLine) -> None:
        """Write a line."""
        self._lines[line.output] = line

    def refresh(self) -> None:
        """Take in what other processes wrote since; an object store is not read again."""

    def is_news(self, output: str) -> bool:
        """Whether the last line about an output was written by another process since opening."""
        return output in self._news

    def close(self) -> None:
        """Release what is open."""


def open_journal(root: str) -> Journal:
    """Open the journal of an output folder; nothing is written before the first ``add``."""
    return UrlJournal(root) if storage.is_url(root) else LocalJournal(root)


@contextlib.contextmanager
def claim(root: str, relative: str) -> Iterator[bool]:
    """Hold an output while it is made; gives ``False`` where another process or thread holds it.

    A claim is a lock of the operating system on a small file in ``.upscale/locks``, which is
    released when the process ends, however it ends. Object stores have no locks: there every claim
    is granted, and ``--shard`` divides the work instead.
    """
    if storage.is_url(root):
        yield True
        return
    from filelock import FileLock, Timeout  # a single picture does without

    folder = os.path.join(root, HIDDEN, "locks")
    os.makedirs(folder, exist_ok=True)
    name = hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]
    lock = FileLock(os.path.join(folder, name), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # Who opened the file before and locks it after finds the journal's line, and does nothing.
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            os.unlink(lock.lock_file)
        lock.release()


def _bytes(line: JournalLine) -> bytes:
    return json.dumps(asdict(line)).encode("ascii") + b"\n"


def _parse(text: bytes) -> JournalLine | None:
    """Return the entry on a line; ``None`` for a torn or foreign one."""
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            return None
        return JournalLine(**{field.name: value[field.name] for field in fields(JournalLine)})
    except (ValueError, KeyError, TypeError):
        return None


class LocalJournal(Journal):
    """A journal in a local folder; several processes may append to it at once."""

    def __init__(self, root: str) -> None:
        """Read what is there; the output folder ``root`` need not exist."""
        self._path = os.path.join(root, HIDDEN, NAME)
        super().__init__()
        self._read = 0  # bytes taken in; always at the beginning of a line
        self._file: FileIO | None = None
        self._lock = threading.Lock()
        self.refresh()
        self._news.clear()

    def refresh(self) -> None:
        """Take in the lines that were appended since the last call."""
        with self._lock:
            try:
                with open(self._path, "rb") as file:
                    file.seek(self._read)
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                return
            whole = data.rfind(b"\n") + 1  # the rest is being written; it is read the next time
            for text in data[:whole].splitlines():
                line = _parse(text)
                if line is not None and self._lines.get(line.output) != line:
                    self._lines[line.output] = line
                    self._news.add(line.output)
            self._read += whole

    def add(self, line: JournalLine) -> None:
        """Append a line."""
        with self._lock:
            if self._file is None:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115 - it stays open
            data = _bytes(line)
            if self._file.seek(0, os.SEEK_END):
                self._file.seek(-1, os.SEEK_END)
                if self._file.read(1) != b"\n":  # a process that died left half a line
                    data = b"\n" + data
            written = self._file.write(data)
            if written != len(data):  # the disk is full: this raises, and the torn line is ignored
                self._file.write(data[written:])
            super().add(line)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


class UrlJournal(Journal):
    """A journal of one object per picture."""

    def __init__(self, root: str) -> None:
        """Read all objects, in parallel where the file system can; ``root`` need not exist."""
        super().__init__()
        self._file_system, self._path = storage.open_url(f"{root.rstrip('/')}/{HIDDEN}/journal")
        self._file_system.invalidate_cache()
        try:
            names = self._file_system.ls(self._path, detail=False)
        except FileNotFoundError:
            return
        objects: Any = self._file_system.cat(names, on_error="omit") if names else {}
        for data in objects.values() if isinstance(objects, dict) else [objects]:
            line = _parse(data)
            if line is not None:
                self._lines[line.output] = line

    def add(self, line: JournalLine) -> None:
        """Write the object of a picture."""
        name = storage.sha256(line.output.encode("utf-8", "surrogateescape"))[:32]
        with contextlib.suppress(NotImplementedError):
            self._file_system.makedirs(self._path, exist_ok=True)
        self._file_system.pipe_file(f"{self._path}/{name}.json", _bytes(line))
        super().add(line)


def is_made(task: Task) -> bool:
    """Whether an output says that it was made from this very input, with these settings.

    What another program has changed since in its pixels alone is not told apart.
    """
    record = _record(task.output)
    if record is None or record.get("settings") != task.digest:
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
    known = {_sha256(source) for source in sources} if made_from else set()
    return {location for location, sha256 in made_from.items() if sha256 in known}


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
