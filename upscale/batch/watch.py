"""Hot folders: a file is taken once it has stopped growing, and again when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from upscale.batch.discover import Input
from upscale.storage import Stat

POLL_SECONDS = 0.5
SETTLE_SECONDS = 1.0


class Watcher:
    """Remembers what was seen, and tells which pictures are at rest and new."""

    def __init__(
        self, settle: float = SETTLE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing seen.

        Args:
            settle: Seconds for which size and time must stay the same.
            clock: Seconds from anywhere.
        """
        self._settle, self._clock = settle, clock
        self._seen: dict[str, tuple[Stat, float]] = {}
        self._taken: dict[str, Stat] = {}

    def ready(self, sources: Sequence[Input]) -> list[Input]:
        """Return the pictures that are at rest and were not returned as they are now."""
        now = self._clock()
        found = []
        for source in sources:
            if source.stat is None or source.stat.size == 0:
                continue
            stat, since = self._seen.get(source.location, (None, now))
            if stat != source.stat:
                self._seen[source.location] = (source.stat, now)
            elif now - since >= self._settle and self._taken.get(source.location) != stat:
                self._taken[source.location] = source.stat
                found.append(source)
        here = {source.location for source in sources}
        for location in set(self._seen) - here:
            self._seen.pop(location)
            self._taken.pop(location, None)
        return found
