"""Bounded memory: how many bytes of pictures may be in hand at once."""

from __future__ import annotations

import threading


class Gate:
    """Lets pictures in while their bytes fit; one picture alone is always let in."""

    def __init__(self, budget: int) -> None:
        """Make a gate.

        Args:
            budget: Bytes.
        """
        self._budget = budget
        self._inside = 0
        self._pictures = 0
        self._closed = False
        self._condition = threading.Condition()

    def enter(self, weight: int) -> bool:
        """Wait until ``weight`` bytes fit; ``False`` when the gate was closed."""
        with self._condition:
            while not self._closed and self._pictures and self._inside + weight > self._budget:
                self._condition.wait()
            if self._closed:
                return False
            self._inside += weight
            self._pictures += 1
            return True

    def leave(self, weight: int) -> None:
        """Give back what ``enter`` took."""
        with self._condition:
            self._inside -= weight
            self._pictures -= 1
            self._condition.notify_all()

    def close(self) -> None:
        """Let nobody in any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
