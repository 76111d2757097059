"""The same plan on many machines: workers are Ray actors, results come back to one report.

A worker holds the model (the checkpoint travels once, through Ray's object store), reads, enlarges
and writes a picture, and appends to the same journal as a single process; folders must therefore be
seen by all machines under one name (a shared file system, or URLs). A worker that dies loses
nothing: Ray starts it anew and does its picture again, ``ATTEMPTS`` times in all.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upscale.batch.plan import Plan
from upscale.batch.run import Run, TaskProgress
from upscale.batch.task import STDOUT, Task
from upscale.batch.work import Outcome, Stopped, Work
from upscale.checkpoints import WeightsFile, families, select, update_index
from upscale.checkpoints.names import normal
from upscale.errors import UsageError
from upscale.image import Reader
from upscale.inference import Progress
from upscale.settings import RunOptions, Settings
from upscale.upscaler import Result, Write, load_settings, process

ATTEMPTS = 3
ASK_SECONDS = 0.5  # between two questions to the workers how far they are


@dataclass(frozen=True)
class Weights:
    """Checkpoints that another machine may not have: what is embedded is everywhere.

    Attributes:
        entries: Their rows of the index.
        contents: Their files.
    """

    entries: tuple[WeightsFile, ...]
    contents: tuple[bytes, ...]

    @staticmethod
    def pack(model: str) -> Weights:
        """Pack the checkpoints that a model is made of."""
        rows = families().get(normal(model)) or select(model)
        foreign = tuple(entry for entry in rows if entry.origin != "embedded")
        return Weights(foreign, tuple(entry.path.read_bytes() for entry in foreign))

    def unpack(self, folder: Path, model: str) -> str:
        """Make the checkpoints known to this process; return the model's name here."""
        for entry, content in zip(self.entries, self.contents, strict=True):
            path = folder / "weights" / entry.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if entry.origin == "file":
                return str(path)
            update_index(path.parent, entry)
        if self.entries:
            os.environ["UPSCALE_CACHE"] = str(folder)
        return model


def use_threads(count: int) -> None:
    """Hold this process to ``count`` threads: the network's and OpenCV's."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


class Worker:
    """One model in one process of the cluster; it is asked how far it is while it works."""

    together = 1

    def __init__(
        self, settings: Settings, device: str, weights: Weights, threads: int, plan: Any
    ) -> None:
        use_threads(threads)
        self._folder = tempfile.TemporaryDirectory(prefix="upscale-worker-")
        name = weights.unpack(Path(self._folder.name), settings.model)
        self.upscaler = load_settings(replace(settings, model=name), device)
        self._work = Work(settings, *plan)
        self._at: tuple[str, float, int] | None = None
        self._is_stopped = False

    def do(self, task: Task) -> Outcome | None:
        """Read, enlarge and write one picture; ``None`` when another process has it in hand.

        A stop discards it, which is ``None`` too.
        """

        def note(done: float, total: int) -> None:
            if self._is_stopped:
                raise Stopped
            self._at = (task.source.location, done, total)

        try:
            return self._work.do(task, self, note)
        except Stopped:
            return None

    def run(self, reader: Reader, write: Write, settings: Settings, progress: Progress) -> Result:
        """Run the network in this thread."""
        return process(reader, write, self.upscaler, settings, progress)

    def ask(self, is_stopped: bool) -> tuple[str, float, int] | None:
        """The picture last in the network, its tiles done and in all; say whether to discard it."""
        self._is_stopped = is_stopped
        return self._at


class Actors:
    """Workers that are actors of Ray."""

    def __init__(
        self,
        ray: Any,
        actors: list[Any],
        weights: Any,
        progress: TaskProgress | None,
        aside: ThreadPoolExecutor,
        *,
        owns_ray: bool,
    ) -> None:
        self._ray, self._actors, self._owns_ray = ray, actors, owns_ray
        self._weights = weights  # in the object store: one that is started anew needs them
        self._progress = progress
        self._idle, self._busy = deque(actors), dict[Any, Task]()
        self.count = len(actors)
        self._is_stopped = False
        self._closed = threading.Event()
        self._aside = aside
        self._asking = aside.submit(self._ask)

    def submit(self, task: Task) -> Future[Outcome | None]:
        """Give a picture to an idle worker."""
        actor = self._idle.popleft()
        self._busy[actor] = task

        def finished(_: Future[Outcome | None]) -> None:
            self._busy.pop(actor)
            self._idle.append(actor)

        future: Future[Outcome | None] = actor.do.remote(task).future()
        future.add_done_callback(finished)
        return future

    def _ask(self) -> None:
        """Ask the workers how far they are, and tell them of a stop, until all is over."""
        while not self._closed.wait(ASK_SECONDS):
            tasks = {task.source.location: task for task in self._busy.copy().values()}
            # A question to a worker that dies is not asked again: Ray would say so on the terminal.
            asks = (actor.ask.options(max_task_retries=0) for actor in self._busy.copy())
            asked = [ask.remote(self._is_stopped) for ask in asks]
            for answer in (
                self._ray.wait(asked, num_returns=len(asked), timeout=1)[0] if asked else ()
            ):
                with suppress(self._ray.exceptions.RayError):  # it died, and is started anew
                    location, *at = self._ray.get(answer) or ("", 0.0, 1)
                    if location in tasks and self._progress is not None:
                        self._progress(tasks[location], *at)

    def stop(self) -> None:
        """Discard the pictures in hand; a signal's handler may call this at any moment."""
        self._is_stopped = True

    def close(self) -> None:
        """End the workers."""
        self._closed.set()
        wait([self._asking])
        for actor in self._actors:
            self._ray.kill(actor)
        if self._owns_ray:
            self._ray.shutdown()
        self._aside.shutdown()


def _take_sigterm_back() -> None:
    """Ray's library sets a handler below Python's, which aborts the process after 3 seconds."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def run_on_cluster(
    plan: Plan,
    settings: Settings,
    options: RunOptions,
    progress: TaskProgress | None = None,
    *,
    workers: int = 0,
    gpus: float = 0,
) -> Run:
    """Prepare a run on the cluster of ``RAY_ADDRESS``, else on Ray on this machine.

    Args:
        plan: What is done.
        settings: As in the plan.
        options: How.
        progress: Called from a thread of its own, now and then.
        workers: How many; 0: one for each GPU of the cluster, else one for each two cores.
        gpus: GPUs for each worker.

    Raises:
        UsageError: Ray is not installed, or pictures come from or go to this process alone.
    """
    try:
        import ray as _ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'upscale[ray]'") from error
    ray: Any = _ray
    for task in plan.tasks:
        if task.source.data is not None or task.output == STDOUT:
            raise UsageError("--engine ray: stdin and stdout are of one machine; give files")

    def start() -> Actors:
        # Called from the main thread, Ray would take the signals; and its own processes end with
        # the thread that started them.
        aside = ThreadPoolExecutor(1, "ray")
        owns_ray = not ray.is_initialized()
        if owns_ray:
            aside.submit(
                ray.init,
                address=os.environ.get("RAY_ADDRESS"),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            ).result()
            _take_sigterm_back()
        resources = ray.cluster_resources()
        fitting = int(resources.get("GPU", 0)) or max(1, int(resources.get("CPU", 1)) // 2)
        kind = ray.remote(Worker).options(
            num_cpus=1,
            num_gpus=gpus,
            max_concurrency=2,  # it works, and is asked how far it is
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )
        device = "cuda" if gpus else options.device
        weights = ray.put(Weights.pack(settings.model))
        common = (plan.request.digest, plan.request.overwrite, options.max_pixels)
        count = min(workers or fitting, plan.count("do"))
        actors = [kind.remote(settings, device, weights, 1, common) for _ in range(count)]
        return Actors(ray, actors, weights, progress, aside, owns_ray=owns_ray)

    return Run(plan, start, fail_fast=options.fail_fast)
