"""The tasks of a run, handed out one at a time to threads, each with its claim in hand."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from upscale.batch import storage
from upscale.batch.claims import Claims
from upscale.batch.journal import Journal, folder_of, open_journal
from upscale.batch.task import Task

RETRY_SECONDS = 0.5


class Feed:
    """Hands out tasks; those that another process has in hand come back later."""

    def __init__(self, tasks: Sequence[Task], *, claim: bool = True) -> None:
        """Open the journals and claims of the tasks' folders.

        Args:
            tasks: In the order in which they are handed out.
            claim: Whether outputs are claimed; not for a plan that only one process can have.
        """
        roots = dict.fromkeys(task.root for task in tasks if task.root is not None)
        self._journals: dict[str, Journal] = {root: open_journal(root) for root in roots}
        self._claims: dict[str, Claims] = {}
        self._wants_claims = claim
        self._first = deque(tasks)
        self._later: deque[tuple[float, Task]] = deque()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def journal(self, task: Task) -> Journal | None:
        """Return the journal of a task's folder."""
        return None if task.root is None else self._journals[task.root]

    def stop(self) -> None:
        """Hand out nothing any more."""
        self._stopped.set()

    def take(self) -> Task | None:
        """Return the next task, claimed; waits for other processes; ``None`` at the end."""
        while not self._stopped.is_set():
            with self._lock:
                task, wait = self._next()
            if task is None and wait is None:
                return None
            if task is None:
                self._stopped.wait(wait)
            elif self._claim(task):
                return task
            else:
                with self._lock:
                    self._later.append((time.monotonic() + RETRY_SECONDS, task))
        return None

    def _next(self) -> tuple[Task | None, float | None]:
        if self._first:
            return self._first.popleft(), None
        if not self._later:
            return None, None
        due, task = self._later[0]
        wait = due - time.monotonic()
        if wait > 0:
            return None, wait
        self._later.popleft()
        return task, None

    def _claim(self, task: Task) -> bool:
        claims = self._claims_of(task)
        return claims is None or claims.take(task.relative)

    def _claims_of(self, task: Task) -> Claims | None:
        if not self._wants_claims or task.root is None or storage.is_url(task.root):
            return None
        with self._lock:
            if task.root not in self._claims:
                self._claims[task.root] = Claims(folder_of(task.root))
            return self._claims[task.root]

    def release(self, task: Task) -> None:
        """Let go of a task's claim."""
        claims = self._claims_of(task)
        if claims is not None:
            claims.release(task.relative)

    def close(self) -> None:
        """Close journals and claims."""
        for claims in self._claims.values():
            claims.close()
        for journal in self._journals.values():
            journal.close()
