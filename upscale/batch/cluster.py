"""The same plan on many machines: workers are Ray actors, results come back to one report.

A worker holds the model (the checkpoint travels once, through Ray's object store), reads, enlarges
and writes a picture, and appends to the same journal as a single process; folders must therefore be
seen by all machines under one name (a shared file system, or URLs). A worker that dies loses
nothing: Ray starts it anew and does its picture again, ``ATTEMPTS`` times in all.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upscale.batch.plan import Plan
from upscale.batch.run import Run
from upscale.batch.task import STDOUT, Task
from upscale.batch.work import Outcome, Work
from upscale.checkpoints import Entry, families, select, update_index
from upscale.checkpoints.names import normal
from upscale.errors import UsageError
from upscale.image import Reader
from upscale.inference import Progress
from upscale.settings import RunOptions, Settings
from upscale.upscaler import Result, Target, load_settings, process

ATTEMPTS = 3


@dataclass(frozen=True)
class Weights:
    """Checkpoints that another machine may not have: what is embedded is everywhere.

    Attributes:
        entries: Their rows of the index.
        contents: Their files.
    """

    entries: tuple[Entry, ...]
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
    """One model in one process of the cluster."""

    def __init__(
        self, settings: Settings, device: str, weights: Weights, threads: int, plan: Any
    ) -> None:
        use_threads(threads)
        self._folder = tempfile.TemporaryDirectory(prefix="upscale-worker-")
        name = weights.unpack(Path(self._folder.name), settings.model)
        self.upscaler = load_settings(replace(settings, model=name), device)
        self._work = Work(settings, *plan)

    def do(self, task: Task) -> Outcome | None:
        """Read, enlarge and write one picture; ``None`` when another process has it in hand."""
        return self._work.do(task, self, lambda done, total: None)

    def run(self, reader: Reader, target: Target, settings: Settings, progress: Progress) -> Result:
        """Run the network in this thread."""
        return process(reader, target, self.upscaler, settings, progress)


class Actors:
    """Workers that are actors of Ray."""

    def __init__(self, ray: Any, actors: list[Any], weights: Any, *, owns_ray: bool) -> None:
        self._ray, self._actors, self._owns_ray = ray, actors, owns_ray
        self._weights = weights  # in the object store: one that is started anew needs them
        self._idle = deque(actors)
        self.count = len(actors)

    def submit(self, task: Task) -> Future[Outcome | None]:
        """Give a picture to an idle worker."""
        actor = self._idle.popleft()
        future: Future[Outcome | None] = actor.do.remote(task).future()
        future.add_done_callback(lambda _: self._idle.append(actor))
        return future

    def stop(self) -> None:
        """Nothing: the pictures in hand are finished."""

    def close(self) -> None:
        """End the workers."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._owns_ray:
            self._ray.shutdown()


def run_on_cluster(
    plan: Plan, settings: Settings, options: RunOptions, *, workers: int = 0, gpus: float = 0
) -> Run:
    """Prepare a run on the cluster of ``RAY_ADDRESS``, else on Ray on this machine.

    Args:
        plan: What is done.
        settings: As in the plan.
        options: How.
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
        owns_ray = not ray.is_initialized()
        if owns_ray:
            ray.init(
                address=os.environ.get("RAY_ADDRESS"),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="warning",
            )
        resources = ray.cluster_resources()
        fitting = int(resources.get("GPU", 0)) or max(1, int(resources.get("CPU", 1)) // 2)
        kind = ray.remote(Worker).options(
            num_cpus=1,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,
        )
        device = "cuda" if gpus else options.device
        weights = ray.put(Weights.pack(settings.model))
        common = (plan.request.digest, plan.request.overwrite, options.max_pixels)
        count = min(workers or fitting, plan.count("do"))
        actors = [kind.remote(settings, device, weights, 1, common) for _ in range(count)]
        return Actors(ray, actors, weights, owns_ray=owns_ray)

    return Run(plan, start, fail_fast=options.fail_fast)
