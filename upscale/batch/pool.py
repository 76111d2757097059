"""The pool: pictures go to workers, here threads or on a cluster actors, and come back as results.

Threads read and decode the next pictures and encode and write the last ones while the network runs
the one between. Memory is bounded by the bytes of the pictures in hand, whatever their number.

PyTorch keeps its own workers for each thread that calls it, so the networks have one thread for
each device, which all pictures share.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from upscale import memory
from upscale.batch.plan import Plan
from upscale.batch.task import Task
from upscale.batch.work import Stopped, Worker, failed, skipped
from upscale.image import Reader
from upscale.inference import Progress
from upscale.options import RunOptions
from upscale.settings import Settings
from upscale.upscaler import Result, Upscaler
from upscale.upscaler.job import Write, process, process_together

POLL_SECONDS = 0.2  # a signal's handler runs between two waits
RETRY_SECONDS = 0.5  # until a picture that another process had in hand is asked for again

TaskProgress = Callable[[Task, float, int], None]  # picture, tiles done, tiles in all


class Pool(Protocol):
    """What does pictures side by side.

    Attributes:
        count: How many pictures are in hand at most.
    """

    count: int

    def submit(self, task: Task) -> None:
        """Do a picture."""

    def finished(self) -> Iterator[tuple[Task, Result | None]]:
        """Wait a moment; give what is done, and ``None`` for what another process has in hand."""

    def stop(self) -> None:
        """Discard the pictures that the network has not finished; their results are ``None``."""

    def close(self) -> None:
        """End, once no picture is in hand."""


class Run:
    """A run in progress: iterate over it, once, for its results; ``stop`` it from anywhere."""

    def __init__(self, plan: Plan, start: Callable[[], Pool], *, fail_fast: bool) -> None:
        """Prepare; ``start`` makes the pool where there is anything to do."""
        self._plan, self._start, self._fail_fast = plan, start, fail_fast
        self._pool: Pool | None = None
        self._is_stopped = False  # no event: a signal's handler may set it at any moment

    def stop(self) -> None:
        """Give out no further picture; see ``Pool.stop`` for those in hand."""
        self._is_stopped = True
        if self._pool is not None:
            self._pool.stop()

    def __iter__(self) -> Iterator[Result]:
        """Yield a result for every task as it finishes; skipped and unreadable ones first."""
        self._plan.clean()
        for task in self._plan.tasks:
            if task.action == "skip":
                yield skipped(task, task.reason)
            elif task.action == "fail":
                yield failed(task, task.reason)
                if self._fail_fast:
                    return
        todo = self._plan.todo
        if not todo or self._is_stopped:
            return
        self._pool = self._start()
        try:
            for result in self._results(self._pool, todo):
                yield result
                if result.is_fatal or (result.status == "failed" and self._fail_fast):
                    self.stop()
        finally:
            self.stop()
            self._pool.close()

    def _results(self, pool: Pool, tasks: Sequence[Task]) -> Iterator[Result]:
        todo, later, in_hand = deque(tasks), deque[tuple[float, Task]](), 0
        while in_hand or ((todo or later) and not self._is_stopped):
            # 1. Pictures that another process had in hand come back after a while.
            while later and later[0][0] <= time.monotonic():
                todo.append(later.popleft()[1])
            # 2. Every worker has a picture; no more than that is in hand.
            while todo and in_hand < pool.count and not self._is_stopped:
                pool.submit(todo.popleft())
                in_hand += 1
            # 3. What is finished is passed on.
            if not in_hand:
                time.sleep(POLL_SECONDS)
                continue
            for task, result in pool.finished():
                in_hand -= 1
                if result is None:
                    later.append((time.monotonic() + RETRY_SECONDS, task))
                else:
                    yield result


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A picture that waits for a device."""

    reader: Reader
    write: Write
    settings: Settings
    progress: Progress
    result: Future[Result] = field(default_factory=Future)

    def is_like(self, other: _Waiting) -> bool:
        """Whether both can run at once."""
        sizes = {(r.width, r.height) for r in (self.reader, other.reader)}
        return len(sizes) == 1 and self.settings == other.settings


def together_on(upscaler: Upscaler) -> int:
    """How many small pictures of one size run at once on a device, at most."""
    return memory.MAX_BATCH if upscaler.device.type == "cuda" else 1


class Devices:
    """Runs pictures on whichever device is free; on a GPU, small ones of one size together."""

    def __init__(self, upscalers: Sequence[Upscaler]) -> None:
        """Start a thread for each device."""
        self.together = max(together_on(upscaler) for upscaler in upscalers)
        self._free: queue.SimpleQueue[Upscaler] = queue.SimpleQueue()
        for upscaler in upscalers:
            self._free.put(upscaler)
        self._own = threading.local()
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(len(upscalers), "network", self._take_device)

    def _take_device(self) -> None:
        self._own.upscaler = self._free.get()

    def process(
        self, reader: Reader, write: Write, settings: Settings, progress: Progress
    ) -> Result:
        """Wait for a device, and for the result."""
        progress(0, 1)
        item = _Waiting(reader, write, settings, progress)
        with self._lock:
            self._waiting.append(item)
        self._threads.submit(self._next)  # it may take another picture first; each has its call
        return item.result.result()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def _next(self) -> None:
        group = self._take()
        if len(group) > 1 and self._run_together(group):
            return
        for item in group:
            try:
                upscaler: Upscaler = self._own.upscaler
                done = process(item.reader, item.write, upscaler, item.settings, item.progress)
                item.result.set_result(done)
            except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
                item.result.set_exception(error)

    def _run_together(self, group: list[_Waiting]) -> bool:
        """Run small pictures at once; ``False``: each is to be run alone, one of them is bad."""
        try:
            readers, writes = [w.reader for w in group], [w.write for w in group]
            results = process_together(readers, writes, self._own.upscaler, group[0].settings)
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
            alike = [item for item in self._waiting if item.is_like(first)][: self._room(first) - 1]
            for item in alike:
                self._waiting.remove(item)
        return [first, *alike]

    def _room(self, item: _Waiting) -> int:
        """How many pictures like this one run together; those that are cut into tiles run alone."""
        width, height, tile = item.reader.width, item.reader.height, item.settings.tile
        side = memory.LARGEST_AUTO["cuda"] if isinstance(tile, str) else tile
        if self.together <= 1 or max(width, height) > side:
            return 1
        return memory.at_once(width * height, self.together)


class Threads:
    """A pool of threads of this process around one network on each device."""

    def __init__(
        self,
        plan: Plan,
        upscalers: Sequence[Upscaler],
        options: RunOptions,
        progress: TaskProgress | None = None,
    ) -> None:
        """Prepare; ``progress`` is called from the networks' threads."""
        self._progress, self._is_stopped = progress, False
        self._devices = Devices(upscalers)
        process, together = self._devices.process, self._devices.together
        self._worker = Worker(plan, upscalers[0], process, options.max_pixels, together)
        side = options.jobs or max(1, min(4, (os.cpu_count() or 2) // 2))
        self.count = 2 * side + max(len(upscalers), together)
        self._threads = ThreadPoolExecutor(self.count, "picture")
        self._pending: dict[Future[Result | None], Task] = {}

    def submit(self, task: Task) -> None:
        """Do a picture in a thread."""
        self._pending[self._threads.submit(self._do, task)] = task

    def _do(self, task: Task) -> Result | None:
        with suppress(Stopped):
            return self._worker.do(task, partial(self._note, task))
        return None

    def _note(self, task: Task, done: float, total: int) -> None:
        if self._is_stopped:
            raise Stopped
        if self._progress is not None:
            self._progress(task, done, total)

    def finished(self) -> Iterator[tuple[Task, Result | None]]:
        """Wait for the next picture."""
        for future in wait(self._pending, POLL_SECONDS, FIRST_COMPLETED).done:
            yield self._pending.pop(future), future.result()

    def stop(self) -> None:
        """Discard what waits for the network or is in it; what left it is still written."""
        self._is_stopped = True
        self._worker.budget.close()

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()
        self._devices.close()
        self._worker.close()


def run(
    plan: Plan,
    upscalers: Sequence[Upscaler],
    options: RunOptions,
    progress: TaskProgress | None = None,
) -> Run:
    """Prepare a run in threads of this process."""
    start = partial(Threads, plan, upscalers, options, progress)
    return Run(plan, start, fail_fast=options.fail_fast)
