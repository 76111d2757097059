"""The pipeline: decode threads | network | encode threads, with bounded queues between them.

The network never waits for the disk: while it runs, threads read and decode the next pictures and
encode and write the last ones. Memory is bounded by the bytes of the pictures in hand (``Gate``),
whatever their number. A picture that fails is one failed record.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from upscale.batch import large, stages
from upscale.batch.feed import Feed
from upscale.batch.gate import Gate
from upscale.batch.large import Large
from upscale.batch.plan import Plan
from upscale.batch.report import Record
from upscale.batch.settings import Settings
from upscale.batch.stages import Enlarged, Loaded, Payload
from upscale.batch.task import Task
from upscale.batch.together import Groups, Item, together_on
from upscale.errors import OutputError
from upscale.image import probe
from upscale.upscaler import Upscaler

BUDGET_BYTES = 1 << 30
QUEUED = 2  # pictures that wait between two stages, beyond those in the threads' hands

TaskProgress = Callable[[Task, int, int], None]  # picture, tiles done, tiles in all


class Stopped(BaseException):
    """The run was stopped while a picture was in the network; it is discarded."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a byte of an output.

    Attributes:
        jobs: Threads that decode, and as many that encode; 0: from the number of cores.
        fail_fast: Stop at the first failure.
        max_pixels: Largest input in pixels; ``None``: what can be done.
        budget: Bytes of pictures in hand at once.
        progress: Called from the network's thread after each tile.
    """

    jobs: int = 0
    fail_fast: bool = False
    max_pixels: int | None = None
    budget: int = BUDGET_BYTES
    progress: TaskProgress | None = None

    @property
    def threads(self) -> int:
        """Threads for each side of the network."""
        return self.jobs or max(1, min(4, (os.cpu_count() or 2) // 2))


class Run:
    """A run in progress: iterate over it for its results; ``stop`` it from anywhere.

    After ``stop``, pictures that left the network are still written; the one in the network is
    discarded whole at its next tile.
    """

    def __init__(
        self, plan: Plan, upscalers: Sequence[Upscaler], settings: Settings, options: Options
    ) -> None:
        """Prepare a run; threads start with the iteration.

        Args:
            plan: What is done.
            upscalers: One for each device; each runs in a thread of its own.
            settings: As in the plan.
            options: How.
        """
        self._plan, self._settings, self._options = plan, settings, options
        self._upscalers = list(upscalers)
        todo = [task for task in plan.tasks if task.action == "do"]
        self._feed = Feed(todo)
        self._gate = Gate(options.budget)
        waiting = max(QUEUED, *(together_on(upscaler) for upscaler in upscalers))
        self._ready: queue.Queue[Item | None] = queue.Queue(waiting)
        self._done: queue.Queue[tuple[Enlarged, int] | None] = queue.Queue(QUEUED)
        self._results: queue.Queue[Payload | BaseException | None] = queue.Queue()
        self._stopped = threading.Event()
        self._workers = min(options.threads, max(1, len(todo)))
        self._lock = threading.Lock()
        self._alive = {
            "load": self._workers,
            "network": len(self._upscalers),
            "write": self._workers,
        }

    def stop(self) -> None:
        """Start no further picture and discard the one in the network."""
        self._stopped.set()
        self._feed.stop()
        self._gate.close()

    def __iter__(self) -> Iterator[Payload]:
        """Yield a payload for every task as it finishes; skipped and unreadable ones first."""
        for payload in stages.foregone(self._plan):
            yield payload
            if payload.record.status == "failed" and self._options.fail_fast:
                return
        yield from self._pipeline()

    def _pipeline(self) -> Iterator[Payload]:
        threads = [threading.Thread(target=self._load_all) for _ in range(self._workers)]
        threads += [threading.Thread(target=self._run_all, args=(e,)) for e in self._upscalers]
        threads += [threading.Thread(target=self._write_all) for _ in range(self._workers)]
        for thread in threads:
            thread.daemon = True
            thread.start()
        try:
            while (result := self._next()) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield result
                if result.record.status == "failed" and self._options.fail_fast:
                    self.stop()
        finally:
            self.stop()
            for thread in threads:
                thread.join()
            self._feed.close()

    def _next(self) -> Payload | BaseException | None:
        while True:  # short waits: a signal's handler runs between them
            try:
                return self._results.get(timeout=0.2)
            except queue.Empty:
                continue

    def _last_of(self, stage: str) -> bool:
        """Count a thread of a stage as ended; whether it was the last."""
        with self._lock:
            self._alive[stage] -= 1
            return self._alive[stage] == 0

    def _load_all(self) -> None:
        """Thread: read and decode until there is nothing left."""
        try:
            while (task := self._feed.take()) is not None:
                self._load(task)
        except BaseException as error:  # noqa: BLE001 - raised again by the iterating thread
            self._results.put(error)
        finally:
            if self._last_of("load"):
                for _ in self._upscalers:
                    self._ready.put(None)

    def _load(self, task: Task) -> None:
        weight = 0
        try:
            journal = self._feed.journal(task)
            if journal is not None:
                overwrite = self._plan.request.overwrite
                now = stages.recheck(
                    task, journal, self._plan.request.settings, overwrite=overwrite
                )
                if isinstance(now, Record):
                    self._finish(task, Payload(now), 0)
                    return
                task = now
            started = time.perf_counter()
            found = large.inspect(
                task, self._settings, self._upscalers[0], max_pixels=self._options.max_pixels
            )
            if found is not None:
                self._ready.put((found, 0))
                return
            data, stat = stages.read(task)
            weight = self._weigh(data)
            if not self._gate.enter(weight):
                self._feed.release(task)
                return
            loaded = stages.load(
                task,
                data,
                stat,
                self._settings,
                self._upscalers[0],
                max_pixels=self._options.max_pixels,
                started=started,
            )
        except Exception as error:  # noqa: BLE001 - one bad picture is one failed record
            self._fail(task, error, weight)
            return
        self._ready.put((loaded, weight))

    def _weigh(self, data: bytes) -> int:
        """Return the bytes that a picture takes decoded and enlarged."""
        info = probe(data)
        size = stages.final_size(self._settings, self._upscalers[0], info.width, info.height)
        sample = info.channels * info.depth // 8
        return max(1, (info.width * info.height + 2 * size[0] * size[1]) * sample)

    def _run_all(self, upscaler: Upscaler) -> None:
        """Thread: one network."""
        groups = Groups(self._ready, together_on(upscaler), upscaler.options.tile)
        try:
            while (group := groups.take()) is not None:
                if len(group) == 1 or not self._run_together(upscaler, group):
                    for item in group:
                        self._run(upscaler, *item)
        except BaseException as error:  # noqa: BLE001 - raised again by the iterating thread
            self._results.put(error)
            self.stop()
            while groups.take() is not None:
                continue
        finally:
            if self._last_of("network"):
                for _ in range(self._workers):
                    self._done.put(None)

    def _run(self, upscaler: Upscaler, loaded: Loaded | Large, weight: int) -> None:
        def progress(done: int, total: int) -> None:
            if self._stopped.is_set():
                raise Stopped
            if self._options.progress is not None:
                self._options.progress(loaded.task, done, total)

        try:
            progress(0, 1)
            if isinstance(loaded, Large):
                self._run_large(upscaler, loaded, progress)
                return
            enlarged = stages.enlarge(loaded, upscaler, progress)
        except Stopped:
            if weight:
                self._gate.leave(weight)
            self._feed.release(loaded.task)
        except Exception as error:  # noqa: BLE001 - one bad picture is one failed record
            self._fail(loaded.task, error, weight)
        else:
            self._done.put((enlarged, weight))

    def _run_together(self, upscaler: Upscaler, group: list[Item]) -> bool:
        """Run small pictures at once; ``False``: each is to be run alone, one of them is bad."""
        loaded = [item[0] for item in group if isinstance(item[0], Loaded)]
        if self._stopped.is_set() or len(loaded) != len(group):
            return False
        try:
            done = stages.enlarge_together(loaded, upscaler)
        except Exception:  # noqa: BLE001 - alone, it says what is wrong
            return False
        for enlarged, (_, weight) in zip(done, group, strict=True):
            if self._options.progress is not None:
                self._options.progress(enlarged.loaded.task, 1, 1)
            self._done.put((enlarged, weight))
        return True

    def _run_large(self, upscaler: Upscaler, found: Large, progress: stages.Progress) -> None:
        digest, journal = self._plan.request.settings, self._feed.journal(found.task)
        try:
            payload = large.enlarge_file(
                found, upscaler, self._settings, digest, journal, progress=progress
            )
        except OutputError as error:
            if stages.is_fatal(error):
                self.stop()
            raise
        self._finish(found.task, payload, 0)

    def _write_all(self) -> None:
        """Thread: encode and write until the networks have ended."""
        try:
            while (item := self._done.get()) is not None:
                self._write(*item)
        except BaseException as error:  # noqa: BLE001 - raised again by the iterating thread
            self._results.put(error)
            self.stop()
            while self._done.get() is not None:
                continue
        finally:
            if self._last_of("write"):
                self._results.put(None)

    def _write(self, enlarged: Enlarged, weight: int) -> None:
        task = enlarged.loaded.task
        try:
            payload = stages.write(
                enlarged, self._settings, self._plan.request.settings, self._feed.journal(task)
            )
        except Exception as error:  # noqa: BLE001 - one bad picture is one failed record
            self._fail(task, error, weight)
            if stages.is_fatal(error):
                self.stop()
        else:
            self._finish(task, payload, weight)

    def _fail(self, task: Task, error: BaseException, weight: int) -> None:
        self._finish(task, Payload(stages.failed(task, error)), weight)

    def _finish(self, task: Task, payload: Payload, weight: int) -> None:
        if weight:
            self._gate.leave(weight)
        self._feed.release(task)
        self._results.put(payload)
