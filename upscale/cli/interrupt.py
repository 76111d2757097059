"""Ctrl-C and SIGTERM, from the start of a command to its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

INTERRUPTED, TERMINATED = 130, 143


class Interrupted(KeyboardInterrupt):
    """SIGINT arrived.

    A ``KeyboardInterrupt`` itself, on its way out of a string that is executed (every dataclass is
    made so), would have Python end by the signal, though it was caught, and whatever the status.
    """


class Terminated(BaseException):
    """SIGTERM arrived; like ``KeyboardInterrupt``, not to be caught by accident."""


class Signals:
    """The one handler of both signals; ``signals`` is the only instance.

    The first signal calls what ``stopping`` was given, and the work ends in order; elsewhere it
    raises :class:`Interrupted` or :class:`Terminated`. The second ends the process at once.

    Attributes:
        status: 130 or 143 once a signal has come, else 0.
    """

    def __init__(self) -> None:
        self.status = 0
        self._stop: Callable[[], None] | None = None
        self._previous: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """What happened, for people."""
        return "terminated" if self.status == TERMINATED else "interrupted"

    def __enter__(self) -> Self:
        self.status = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = _on_signal(number, self._handle)
        return self

    def __exit__(self, *reason: object) -> None:
        for number, handler in self._previous.items():
            _on_signal(number, signal.SIG_IGN if self.status else handler)

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Within, the first signal calls ``stop``; after it, nothing is left to interrupt."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None
            if self.status:
                self.ignore()

    def ignore(self) -> None:
        """Let no signal disturb the end of the process."""
        for number in self._previous:
            _on_signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        status = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        if self.status:  # wait for no thread, and leave no temporary file
            from upscale.files import remove_own

            remove_own()
            os._exit(status)
        self.status = status
        if self._stop is None:
            raise Terminated if status == TERMINATED else Interrupted
        self._stop()


def _on_signal(number: int, handler: Any) -> Any:
    """Set the handler of a signal where that is possible (the main thread); return the previous."""
    try:
        return signal.signal(number, handler)
    except ValueError:
        return None


signals = Signals()
