"""The journals and claims of the output folders that a run writes to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from upscale.batch import storage
from upscale.batch.claims import Claims
from upscale.batch.journal import Journal, folder_of, open_journal
from upscale.batch.task import Task


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
