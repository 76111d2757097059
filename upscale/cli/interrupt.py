"""Ctrl-C and SIGTERM during a run: the first ends it in order, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from upscale.cli import INTERRUPTED, TERMINATED


class Interrupt:
    """While in this context, the first signal calls what ``call`` was given; the second ends all.

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

    def call(self, stop: Callable[[], None]) -> None:
        """Set what the first signal calls."""
        self._stop = stop
        if self.status:
            stop()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *reason: object) -> None:
        for number, handler in self._previous.items():
            # After a signal nothing is left to interrupt but the end of the process itself.
            signal.signal(number, signal.SIG_IGN if self.status else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        status = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        if self.status:
            self._end_at_once(status)
        self.status = status
        if self._stop is not None:
            self._stop()

    @staticmethod
    def _end_at_once(status: int) -> None:
        """Leave without waiting for any thread; remove the temporary files of this process."""
        from upscale.files import remove_own

        remove_own()
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
        os._exit(status)
