"""The same plan on many machines: workers are Ray actors, results come back to one report.

A worker holds the model (the checkpoint travels once, through Ray's object store), reads, enlarges
and writes a picture, and appends to the same journal as a single process; folders must therefore be
seen by all machines under one name (a shared file system, or URLs). A worker that dies loses
nothing: its picture is given to another, up to ``ATTEMPTS`` times.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upscale.batch import large, stages
from upscale.batch.claims import Claims
from upscale.batch.engines import load_engines
from upscale.batch.feed import RETRY_SECONDS
from upscale.batch.journal import Journal, folder_of, open_journal
from upscale.batch.plan import Plan
from upscale.batch.report import Record
from upscale.batch.run import Options
from upscale.batch.settings import Settings
from upscale.batch.stages import Payload
from upscale.batch.storage import is_url
from upscale.batch.task import STDOUT, Task
from upscale.checkpoints import Entry, families, select, update_index
from upscale.checkpoints.index import normal
from upscale.errors import UsageError

ATTEMPTS = 3
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Limits:
    """What a worker may use."""

    threads: int
    max_pixels: int | None


@dataclass(frozen=True)
class Cluster:
    """The workers.

    Attributes:
        address: Of a running cluster; ``None``: ``RAY_ADDRESS``, else one on this machine.
        workers: How many; 0: one for each GPU of the cluster, else one for each two cores.
        cpus: Cores for each worker; its threads too.
        gpus: GPUs for each worker, a part of one is possible.
    """

    address: str | None = None
    workers: int = 0
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class Freight:
    """Checkpoints that another machine may not have: what is embedded is everywhere.

    Attributes:
        entries: Their rows of the index.
        contents: Their files.
    """

    entries: tuple[Entry, ...]
    contents: tuple[bytes, ...]

    @staticmethod
    def pack(model: str) -> Freight:
        """Pack the checkpoints that a model is made of."""
        rows = families().get(normal(model)) or select(model)
        foreign = tuple(entry for entry in rows if entry.origin != "embedded")
        return Freight(foreign, tuple(entry.path.read_bytes() for entry in foreign))

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
    """Hold this process to ``count`` threads: the network's, OpenCV's, the encoders'."""
    import cv2
    import torch

    from upscale.image import parallel

    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    parallel.limit(count)


class Worker:
    """One model in one process of the cluster."""

    def __init__(self, settings: Settings, freight: Freight, digest: str, limits: Limits) -> None:
        use_threads(limits.threads)
        self._folder = tempfile.TemporaryDirectory(prefix="upscale-worker-")
        name = freight.unpack(Path(self._folder.name), settings.model)
        self._upscaler = load_engines(replace(settings, model=name))[0]
        self._settings, self._digest, self._limits = settings, digest, limits
        self._journals: dict[str, Journal] = {}
        self._claims: dict[str, Claims] = {}

    def do(self, task: Task, overwrite: bool) -> Payload | None:
        """Read, enlarge and write one picture; ``None`` when another process has it in hand."""
        claims = self._claims_of(task)
        if claims is not None and not claims.take(task.relative):
            time.sleep(RETRY_SECONDS)
            return None
        try:
            done = self._do(task, overwrite)
            return replace(done, record=replace(done.record, model=self._settings.model))
        except Exception as error:  # noqa: BLE001 - one bad picture is one failed record
            return Payload(stages.failed(task, error), is_fatal=stages.is_fatal(error))
        finally:
            if claims is not None:
                claims.release(task.relative)

    def _claims_of(self, task: Task) -> Claims | None:
        if task.root is None or is_url(task.root):
            return None
        if task.root not in self._claims:
            self._claims[task.root] = Claims(folder_of(task.root))
        return self._claims[task.root]

    def _journal_of(self, task: Task) -> Journal | None:
        if task.root is None:
            return None
        if task.root not in self._journals:
            self._journals[task.root] = open_journal(task.root)
        return self._journals[task.root]

    def _do(self, task: Task, overwrite: bool) -> Payload:
        journal = self._journal_of(task)
        if journal is not None:
            now = stages.recheck(task, journal, self._digest, overwrite=overwrite)
            if isinstance(now, Record):
                return Payload(now)
            task = now
        max_pixels = self._limits.max_pixels
        found = large.inspect(task, self._settings, self._upscaler, max_pixels=max_pixels)
        if found is not None:
            return large.enlarge_file(found, self._upscaler, self._settings, self._digest, journal)
        started = time.perf_counter()
        data, stat = stages.read(task)
        loaded = stages.load(
            task,
            data,
            stat,
            self._settings,
            self._upscaler,
            max_pixels=max_pixels,
            started=started,
        )
        enlarged = stages.enlarge(loaded, self._upscaler)
        return stages.write(enlarged, self._settings, self._digest, journal)


@dataclass
class _Hand:
    """A worker and the picture it has in hand."""

    actor: Any
    task: Task | None = None
    lost: bool = False


class ClusterRun:
    """A run on a cluster: iterate over it for its results, ``stop`` it from anywhere."""

    def __init__(self, plan: Plan, settings: Settings, options: Options, cluster: Cluster) -> None:
        """Prepare; the cluster is entered with the iteration.

        Raises:
            UsageError: Ray is not installed, or stdout is an output.
        """
        if any(task.output == STDOUT for task in plan.tasks):
            raise UsageError("a cluster writes files, not stdout: give a folder with -o")
        try:
            import ray
        except ImportError as error:
            raise UsageError("--engine ray needs Ray: pip install 'upscale[ray]'") from error
        self._ray: Any = ray
        self._plan, self._options, self._cluster = plan, options, cluster
        self._settings = settings
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give out no further picture; those in hand are finished."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Payload]:
        """Yield a payload for every task as it finishes; skipped and unreadable ones first."""
        for payload in stages.foregone(self._plan):
            yield payload
            if payload.record.status == "failed" and self._options.fail_fast:
                return
        todo = deque(task for task in self._plan.tasks if task.action == "do")
        if not todo:
            return
        was_running = self._ray.is_initialized()
        if not was_running:
            self._ray.init(
                address=self._cluster.address or os.environ.get("RAY_ADDRESS"),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="warning",
            )
        try:
            yield from self._work(todo)
        finally:
            if not was_running:
                self._ray.shutdown()

    def _count(self, tasks: int) -> int:
        resources = self._ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        return min(tasks, self._cluster.workers or gpus or max(1, cpus // 2))

    def _work(self, todo: deque[Task]) -> Iterator[Payload]:
        kind = self._ray.remote(Worker).options(
            num_cpus=self._cluster.cpus, num_gpus=self._cluster.gpus
        )
        settings = replace(self._settings, device=self._device())
        freight = self._ray.put(Freight.pack(settings.model))
        limits = Limits(max(1, int(self._cluster.cpus)), self._options.max_pixels)

        def start() -> Any:
            return kind.remote(settings, freight, self._plan.request.settings, limits)

        hands = [_Hand(start()) for _ in range(self._count(len(todo)))]
        attempts: dict[str, int] = {}
        pending: dict[Any, _Hand] = {}
        try:
            while todo or pending:
                self._give(hands, todo, pending)
                if not pending:
                    return
                finished, _ = self._ray.wait(list(pending), timeout=POLL_SECONDS)
                for reference in finished:
                    hand = pending.pop(reference)
                    payload = self._result(reference, hand, attempts, todo)
                    if hand.lost:
                        hand.actor, hand.lost = start(), False
                    if payload is not None:
                        yield payload
                        failed = payload.record.status == "failed"
                        if payload.is_fatal or (failed and self._options.fail_fast):
                            self.stop()
        finally:
            for hand in hands:
                self._ray.kill(hand.actor)

    def _device(self) -> str:
        return "cuda" if self._cluster.gpus else self._settings.device

    def _give(self, hands: list[_Hand], todo: deque[Task], pending: dict[Any, _Hand]) -> None:
        """Give a picture to every worker that has none."""
        for hand in hands:
            if hand.task is None and todo and not self._stopped.is_set():
                hand.task = todo.popleft()
                reference = hand.actor.do.remote(hand.task, self._plan.request.overwrite)
                pending[reference] = hand

    def _result(
        self, reference: Any, hand: _Hand, attempts: dict[str, int], todo: deque[Task]
    ) -> Payload | None:
        """Return a worker's result; ``None`` where it died and its picture waits for another."""
        task, hand.task = hand.task, None
        assert task is not None
        try:
            payload: Payload | None = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            hand.lost = True
            attempts[task.output] = attempts.get(task.output, 0) + 1
            if attempts[task.output] >= ATTEMPTS:
                reason = f"its worker died {ATTEMPTS} times: {' '.join(str(error).split())[:200]}"
                return Payload(stages.failed(task, reason))
            todo.appendleft(task)
            return None
        except self._ray.exceptions.RayTaskError as error:
            return Payload(stages.failed(task, stages.describe(error.cause or error)))
        if payload is None:
            todo.append(task)
        return payload
