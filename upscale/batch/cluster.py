"""The same plan on many machines: workers are Ray actors, results come back to one report.

A worker holds the model (the checkpoint travels once, through Ray's object store), reads, enlarges
and writes a picture, and appends to the same journal as a single process; folders must therefore be
seen by all machines under one name (a shared file system, or URLs). A worker that dies loses
nothing: Ray starts it anew and does its picture again, ``ATTEMPTS`` times in all.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from upscale.batch.plan import Plan
from upscale.batch.pool import POLL_SECONDS, Run, TaskProgress
from upscale.batch.task import STDOUT, Task
from upscale.batch.work import Stopped, Worker, failed
from upscale.checkpoints import WeightsFile, families, select, update_index
from upscale.checkpoints.index import BICUBIC, chain_of, normal
from upscale.errors import UsageError
from upscale.image import Reader
from upscale.inference import Progress
from upscale.options import RunOptions
from upscale.settings import Settings
from upscale.upscaler import Result, load_settings
from upscale.upscaler.job import Write, process

ATTEMPTS = 3

# of checkpoints that another machine may not have: the model, the row, the files by name
Weights = list[tuple[str, WeightsFile, dict[str, bytes]]]


def pack(model: str) -> Weights:
    """Pack the checkpoints of a chain of models; what is embedded is everywhere."""
    packed: Weights = []
    for name in chain_of(model):
        rows = families().get(normal(name)) or (select(name) if normal(name) != BICUBIC else ())
        packed += [
            (name, entry, {path.name: path.read_bytes() for path in entry.paths})
            for entry in rows
            if entry.origin != "embedded"
        ]
    return packed


def unpack(weights: Weights, folder: Path, model: str) -> str:
    """Make the checkpoints known to this process; return the model's name here."""
    target, named = folder / "weights", {}
    for name, entry, contents in weights:
        target.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            (target / file).write_bytes(content)
        if entry.origin == "file":
            named[name] = str(target / entry.file)
        else:
            update_index(target, entry)
            os.environ["UPSCALE_CACHE"] = str(folder)
    return ",".join(named.get(name, name) for name in chain_of(model))


def use_threads(count: int) -> None:
    """Hold this process to ``count`` threads: the network's and OpenCV's."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


class WorkerActor:
    """A worker in a process of the cluster; it is asked how far it is while it works."""

    def __init__(self, plan: Plan, options: RunOptions, weights: Weights) -> None:
        use_threads(1)
        self._folder = tempfile.TemporaryDirectory(prefix="upscale-worker-")
        name = unpack(weights, Path(self._folder.name), plan.settings.model)
        upscaler = load_settings(replace(plan.settings, model=name), options.device)

        def run(reader: Reader, write: Write, settings: Settings, note: Progress) -> Result:
            return process(reader, write, upscaler, settings, note)

        self._worker = Worker(plan, upscaler, run, options.max_pixels)
        self._at: tuple[str, float, int] = ("", 0.0, 1)
        self._is_stopped = False

    def do(self, task: Task) -> Result | None:
        """Do one picture; ``None`` when another process has it in hand, or it was stopped."""

        def note(done: float, total: int) -> None:
            if self._is_stopped:
                raise Stopped
            self._at = (task.source.location, done, total)

        with suppress(Stopped):
            return self._worker.do(task, note)
        return None

    def ask(self, is_stopped: bool) -> tuple[str, float, int]:
        """The picture last in the network, its tiles done and in all; say whether to discard it."""
        self._is_stopped = is_stopped
        return self._at


class Actors:
    """A pool of workers that are actors of Ray."""

    def __init__(
        self,
        plan: Plan,
        options: RunOptions,
        progress: TaskProgress | None,
        workers: int,
        gpus: float,
    ) -> None:
        """Start Ray, unless it runs, and the workers; see ``run_on_cluster``."""
        self._ray = ray = importlib.import_module("ray")
        # Called from the main thread, Ray would take the signals; and its own processes end with
        # the thread that started them.
        self._starter = ThreadPoolExecutor(1, "ray")
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            self._starter.submit(
                ray.init,
                address=os.environ.get("RAY_ADDRESS"),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            ).result()
            if threading.current_thread() is threading.main_thread():
                # Ray sets a handler below Python's, which aborts the process after 3 seconds.
                signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        resources = ray.cluster_resources()
        fitting = int(resources.get("GPU", 0)) or max(1, int(resources.get("CPU", 1)) // 2)
        self.count = min(workers or fitting, len(plan.todo))
        actor = ray.remote(WorkerActor).options(
            num_cpus=1,
            num_gpus=gpus,
            max_concurrency=2,  # it works, and is asked how far it is
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )
        options = replace(options, device="cuda") if gpus else options
        weights: Any = pack(plan.settings.model)
        # Large ones travel once; they are held here for a worker that is started anew.
        self._weights = ray.put(weights) if weights else weights
        common = replace(plan, tasks=())
        self._idle = [actor.remote(common, options, self._weights) for _ in range(self.count)]
        self._busy: dict[Any, tuple[Any, Task]] = {}
        self._progress, self._is_stopped = progress, False

    def submit(self, task: Task) -> None:
        """Give a picture to an idle worker."""
        actor = self._idle.pop()
        self._busy[actor.do.remote(task)] = (actor, task)

    def finished(self) -> Iterator[tuple[Task, Result | None]]:
        """Wait for the next picture; meanwhile ask how far the others are."""
        self._ask()
        for answer in self._ray.wait(list(self._busy), timeout=POLL_SECONDS)[0]:
            actor, task = self._busy.pop(answer)
            self._idle.append(actor)
            try:
                result = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:  # it died, again and again
                result = failed(task, error)
            yield task, result

    def _ask(self) -> None:
        """Ask the workers how far they are, and tell them of a stop."""
        tasks = {task.source.location: task for _, task in self._busy.values()}
        # A question to a worker that dies is not asked again: Ray would say so on the terminal.
        asks = (actor.ask.options(max_task_retries=0) for actor, _ in self._busy.values())
        asked = [ask.remote(self._is_stopped) for ask in asks]
        for answer in self._ray.wait(asked, num_returns=len(asked), timeout=POLL_SECONDS)[0]:
            with suppress(self._ray.exceptions.RayError):  # it died, and is started anew
                location, *at = self._ray.get(answer)
                if location in tasks and self._progress is not None:
                    self._progress(tasks[location], *at)

    def stop(self) -> None:
        """Discard the pictures in hand; a signal's handler may call this at any moment."""
        self._is_stopped = True

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        for actor in (*self._idle, *(actor for actor, _ in self._busy.values())):
            self._ray.kill(actor)
        if self._owns_ray:
            self._ray.shutdown()
        self._starter.shutdown()


def run_on_cluster(
    plan: Plan,
    options: RunOptions,
    progress: TaskProgress | None = None,
    *,
    workers: int = 0,
    gpus: float = 0,
) -> Run:
    """Prepare a run on the cluster of ``RAY_ADDRESS``, else on Ray on this machine.

    Args:
        plan: What is done.
        options: How.
        progress: Called now and then.
        workers: How many; 0: one for each GPU of the cluster, else one for each two cores.
        gpus: GPUs for each worker.

    Raises:
        UsageError: Ray is not installed, or pictures come from or go to this process alone.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray: pip install 'upscale[ray]'")
    for task in plan.tasks:
        if task.source.data is not None or task.output == STDOUT:
            raise UsageError("--engine ray: stdin and stdout are of one machine; give files")
    start = partial(Actors, plan, options, progress, workers, gpus)
    return Run(plan, start, fail_fast=options.fail_fast)
