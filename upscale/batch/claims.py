"""Claims, so that two processes on one output folder never do the same picture twice.

A claim is a lock on one byte of one file, ``.upscale/claims``; which byte is told by a hash of the
output's name. The system lets go of it when the process ends, however it ends, so nothing is left
to clean up. Within one process a set does the same. Object stores have no locks: there every claim
is granted, and ``--shard`` divides the work instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from upscale import storage
from upscale.batch.journal import Journal, folder_of, open_journal
from upscale.batch.task import Task

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[tuple[str, int]] = set()
_files: dict[str, tuple[int, int]] = {}  # path -> (file descriptor, users)
_guard = threading.Lock()


def _byte_of(key: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:8], "big") >> 2


class Claims:
    """The claims of this process on the outputs of one local folder."""

    def __init__(self, folder: str) -> None:
        """Open (and make) the lock file.

        Args:
            folder: The folder for the journal and the locks, ``<output folder>/.upscale``.
        """
        self._path = os.path.realpath(os.path.join(folder, "claims"))
        with _guard:
            number, users = _files.get(self._path, (-1, 0))
            if users == 0:
                os.makedirs(folder, exist_ok=True)
                number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            _files[self._path] = (number, users + 1)
        self._number = number

    def take(self, key: str) -> bool:
        """Claim an output; ``False`` when another process or thread has it in hand."""
        byte = _byte_of(key)
        with _guard:
            if (self._path, byte) in _held:
                return False
            if fcntl is not None:
                try:
                    fcntl.lockf(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                except (BlockingIOError, PermissionError):
                    return False
            _held.add((self._path, byte))
        return True

    def release(self, key: str) -> None:
        """Let go of an output."""
        byte = _byte_of(key)
        with _guard:
            _held.discard((self._path, byte))
            if fcntl is not None:
                fcntl.lockf(self._number, fcntl.LOCK_UN, 1, byte)

    def close(self) -> None:
        """Let go of everything, once nobody in this process uses the file any more."""
        with _guard:
            number, users = _files[self._path]
            if users > 1:
                _files[self._path] = (number, users - 1)
                return
            del _files[self._path]
            with contextlib.suppress(OSError):
                os.close(number)


class Folders:
    """Opens the journal and the claims of each folder once; threads may share it."""

    def __init__(self) -> None:
        self._journals: dict[str, Journal] = {}
        self._claims: dict[str, Claims] = {}
        self._lock = threading.Lock()

    def journal(self, task: Task) -> Journal | None:
        """Return the journal of a task's folder; ``None`` where it has none."""
        if task.root is None:
            return None
        with self._lock:
            if task.root not in self._journals:
                self._journals[task.root] = open_journal(task.root)
            return self._journals[task.root]

    @contextmanager
    def claim(self, task: Task) -> Iterator[bool]:
        """Hold a task's output; gives ``False`` where another process or thread has it in hand."""
        if task.root is None or storage.is_url(task.root):
            yield True
            return
        with self._lock:
            if task.root not in self._claims:
                self._claims[task.root] = Claims(folder_of(task.root))
            claims = self._claims[task.root]
        if not claims.take(task.relative):
            yield False
            return
        try:
            yield True
        finally:
            claims.release(task.relative)

    def close(self) -> None:
        """Close what is open."""
        for claims in self._claims.values():
            claims.close()
        for journal in self._journals.values():
            journal.close()
