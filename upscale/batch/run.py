"""A run: pictures go to workers, here threads or on a cluster actors, and come back as outcomes.

Threads read and decode the next pictures and encode and write the last ones while the network runs
the one between. Memory is bounded by the bytes of the pictures in hand, whatever their number. A
picture that fails is one failed record.

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
from dataclasses import dataclass, field
from typing import Protocol

from upscale import memory
from upscale.batch.plan import Plan
from upscale.batch.task import Task
from upscale.batch.work import Outcome, Stopped, Work, failed, settled
from upscale.image import Reader
from upscale.inference import Progress
from upscale.settings import RunOptions, Settings
from upscale.upscaler import Result, Upscaler, Write, process, process_together

POLL_SECONDS = 0.2  # a signal's handler runs between two waits
RETRY_SECONDS = 0.5  # until a picture that another process had in hand is asked for again

TaskProgress = Callable[[Task, float, int], None]  # picture, tiles done, tiles in all


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A picture that waits for a network."""

    reader: Reader
    write: Write
    settings: Settings
    progress: Progress
    result: Future[Result] = field(default_factory=Future)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.reader.height, self.reader.width


def together_on(upscaler: Upscaler) -> int:
    """Return how many small pictures of one size run at once on a device, at most."""
    return memory.MAX_BATCH if upscaler.device.type == "cuda" else 1


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

    def run(self, reader: Reader, write: Write, settings: Settings, progress: Progress) -> Result:
        """Wait for a network, and for its result."""
        progress(0, 1)
        item = _Waiting(reader, write, settings, progress)
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
                done = process(item.reader, item.write, upscaler, item.settings, item.progress)
            except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
                item.result.set_exception(error)
            else:
                item.result.set_result(done)

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
        side = memory.LARGEST_AUTO["cuda"] if isinstance(tile, str) else tile
        if self.together <= 1 or max(item.size) > side:
            return 1
        return memory.at_once(item.size[0] * item.size[1], self.together)


class Workers(Protocol):
    """What does pictures side by side.

    Attributes:
        count: How many pictures are in hand at most.
    """

    count: int

    def submit(self, task: Task) -> Future[Outcome | None]:
        """Do a picture; ``None`` where another process has it in hand."""

    def stop(self) -> None:
        """Discard the pictures that the network has not finished."""

    def close(self) -> None:
        """End, once no picture is in hand."""


class Threads:
    """Workers that are threads of this process around one network on each device."""

    def __init__(
        self,
        work: Work,
        upscalers: Sequence[Upscaler],
        jobs: int = 0,
        progress: TaskProgress | None = None,
    ) -> None:
        """Prepare; threads start with the first picture.

        Args:
            work: What the pictures have in common.
            upscalers: The model on each of its devices.
            jobs: Threads that decode, and as many that encode; 0: from the number of cores.
            progress: Called from the network's thread as the tiles get done.
        """
        self._work, self._progress = work, progress
        self._network = Network(upscalers)
        self._is_stopped = False
        side = jobs or max(1, min(4, (os.cpu_count() or 2) // 2))
        self.count = 2 * side + max(len(upscalers), self._network.together)
        self._pool = ThreadPoolExecutor(self.count, "picture")

    def submit(self, task: Task) -> Future[Outcome | None]:
        """Do a picture in a thread."""

        def progress(done: float, total: int) -> None:
            if self._is_stopped:
                raise Stopped
            if self._progress is not None:
                self._progress(task, done, total)

        return self._pool.submit(self._work.do, task, self._network, progress)

    def stop(self) -> None:
        """Discard what waits for the network or is in it; what left it is still written."""
        self._is_stopped = True
        self._work.budget.close()

    def close(self) -> None:
        """Wait for the threads."""
        self._pool.shutdown()
        self._network.close()
        self._work.folders.close()


class Run:
    """A run in progress: iterate over it, once, for its outcomes; ``stop`` it from anywhere."""

    def __init__(self, plan: Plan, start: Callable[[], Workers], *, fail_fast: bool) -> None:
        """Prepare.

        Args:
            plan: What is done.
            start: Starts the workers; it is called where there is anything to do.
            fail_fast: Stop at the first failure.
        """
        self._plan, self._start, self._fail_fast = plan, start, fail_fast
        self._workers: Workers | None = None
        self._is_stopped = False  # no event: a signal's handler may set it at any moment

    def stop(self) -> None:
        """Give out no further picture; see ``Workers.stop`` for those in hand."""
        self._is_stopped = True
        if self._workers is not None:
            self._workers.stop()

    def __iter__(self) -> Iterator[Outcome]:
        """Yield an outcome for every task as it finishes; skipped and unreadable ones first."""
        for outcome in settled(self._plan):
            yield outcome
            if outcome.record.status == "failed" and self._fail_fast:
                return
        todo = [task for task in self._plan.tasks if task.action == "do"]
        if not todo or self._is_stopped:
            return
        self._workers = workers = self._start()
        try:
            for outcome in self._outcomes(workers, todo):
                yield outcome
                is_bad = outcome.record.status == "failed" and self._fail_fast
                if outcome.is_fatal or is_bad:
                    self.stop()
        finally:
            self.stop()
            workers.close()

    def _outcomes(self, workers: Workers, tasks: Sequence[Task]) -> Iterator[Outcome]:
        todo, later = deque(tasks), deque[tuple[float, Task]]()
        pending: dict[Future[Outcome | None], Task] = {}
        while pending or ((todo or later) and not self._is_stopped):
            # 1. Pictures that another process had in hand come back after a while.
            while later and later[0][0] <= time.monotonic():
                todo.append(later.popleft()[1])
            # 2. Every worker has a picture; no more than that is in hand.
            while todo and len(pending) < workers.count and not self._is_stopped:
                task = todo.popleft()
                pending[workers.submit(task)] = task
            # 3. What is finished is passed on.
            if not pending:
                time.sleep(POLL_SECONDS)
                continue
            for future in wait(pending, POLL_SECONDS, FIRST_COMPLETED).done:
                task = pending.pop(future)
                try:
                    outcome = future.result()
                except Stopped:
                    continue
                except BrokenPipeError:
                    raise
                except Exception as error:  # noqa: BLE001 - a worker that died is one failed record
                    outcome = Outcome(failed(task, error))
                if outcome is None:
                    later.append((time.monotonic() + RETRY_SECONDS, task))
                else:
                    yield outcome


def run_here(
    plan: Plan,
    upscalers: Sequence[Upscaler],
    settings: Settings,
    options: RunOptions,
    progress: TaskProgress | None = None,
) -> Run:
    """Prepare a run in threads of this process."""

    def start() -> Threads:
        request = plan.request
        work = Work(settings, request.digest, request.overwrite, options.max_pixels)
        return Threads(work, upscalers, options.jobs, progress)

    return Run(plan, start, fail_fast=options.fail_fast)
