"""The networks of a run: one thread for each device, fed by the threads that read and write.

PyTorch keeps its workers for each thread that calls it, so one thread computes for all pictures.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from upscale.image import Reader
from upscale.inference import Progress
from upscale.inference.engine import BATCH_PIXELS, LARGEST_AUTO, MAX_BATCH
from upscale.settings import Settings
from upscale.upscaler import Result, Target, Upscaler, process, process_together


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A picture that waits for a network."""

    reader: Reader
    target: Target
    settings: Settings
    progress: Progress
    result: Future[Result] = field(default_factory=Future)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.reader.height, self.reader.width


def together_on(upscaler: Upscaler) -> int:
    """Return how many small pictures of one size run at once on a device, at most."""
    return MAX_BATCH if upscaler.device.type == "cuda" else 1


class Network:
    """Runs pictures on whichever device is free; on a GPU, small ones of one size together."""

    def __init__(self, upscalers: Sequence[Upscaler]) -> None:
        """Start a thread for each device.

        Args:
            upscalers: The model on each of its devices.
        """
        self.upscaler = upscalers[0]
        self.together = max(together_on(upscaler) for upscaler in upscalers)
        self._free: queue.SimpleQueue[Upscaler] = queue.SimpleQueue()
        for upscaler in upscalers:
            self._free.put(upscaler)
        self._own = threading.local()
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(len(upscalers), "network", self._take_device)

    def _take_device(self) -> None:
        self._own.upscaler = self._free.get()

    def run(self, reader: Reader, target: Target, settings: Settings, progress: Progress) -> Result:
        """Wait for a network, and for its result."""
        progress(0, 1)
        item = _Waiting(reader, target, settings, progress)
        with self._lock:
            self._waiting.append(item)
        self._pool.submit(self._next)  # it may take another picture first, but each has its call
        return item.result.result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _next(self) -> None:
        group = self._take()
        if len(group) > 1 and self._run_together(group):
            return
        for item in group:
            try:
                upscaler: Upscaler = self._own.upscaler
                done = process(item.reader, item.target, upscaler, item.settings, item.progress)
            except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
                item.result.set_exception(error)
            else:
                item.result.set_result(done)

    def _run_together(self, group: list[_Waiting]) -> bool:
        """Run small pictures at once; ``False``: each is to be run alone, one of them is bad."""
        try:
            readers, targets = [w.reader for w in group], [w.target for w in group]
            results = process_together(readers, targets, self._own.upscaler, group[0].settings)
            for item in group:
                item.progress(1, 1)
        except BaseException:  # noqa: BLE001 - alone, it says what is wrong
            return False
        for item, result in zip(group, results, strict=True):
            item.result.set_result(result)
        return True

    def _take(self) -> list[_Waiting]:
        """The picture that has waited longest, and with it those of its size."""
        with self._lock:
            if not self._waiting:
                return []
            first = self._waiting.popleft()
            room = self._room(first)
            alike = [
                w for w in self._waiting if w.size == first.size and w.settings == first.settings
            ][: room - 1]
            for item in alike:
                self._waiting.remove(item)
        return [first, *alike]

    def _room(self, item: _Waiting) -> int:
        """How many pictures like this one run together; those that are cut into tiles run alone."""
        tile = item.settings.tile
        side = LARGEST_AUTO["cuda"] if isinstance(tile, str) else tile
        if self.together <= 1 or max(item.size) > side:
            return 1
        return max(1, min(self.together, BATCH_PIXELS // (item.size[0] * item.size[1])))
