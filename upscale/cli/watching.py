"""``--watch``: enlarge what comes into a folder, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.batch.inputs import GLOB, POLL_SECONDS, STDIN, Input, Watcher
from upscale.batch.plan import NothingNewError
from upscale.cli.interrupt import signals
from upscale.errors import UsageError
from upscale.storage import is_url, localize

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.cli.console import Console
    from upscale.cli.main_job import MainJob
    from upscale.upscaler import Result, Upscaler

Do = Callable[["Plan"], None]
Fail = Callable[["Result"], None]


def check(job: MainJob) -> None:
    """Refuse what cannot be watched.

    Raises:
        UsageError: stdin or a list is among the inputs, there are none, or one does not exist.
    """
    if STDIN in job.names or job.selection.files_from is not None or not job.names:
        raise UsageError("--watch looks into folders: give folders, and no list or -")
    for name in map(localize, job.names):
        if not is_url(name) and not GLOB & set(name) and not Path(name).exists():
            raise UsageError(f"--watch {name}: there is no such folder; make it first")


def watch(
    job: MainJob, upscalers: Sequence[Upscaler], do: Do, fail: Fail, console: Console
) -> None:
    """Look into the folders again and again; return once a signal has come.

    Args:
        job: Inputs and settings.
        upscalers: The loaded model.
        do: Carries out a plan, its signals handled.
        fail: Takes the result of a picture that cannot be planned.
        console: Where to say that it waits.
    """
    watcher = Watcher()
    console.note("watching; Ctrl-C ends")
    while not signals.status:
        with signals.stopping(lambda: None):
            ready = watcher.ready(job.discover())
            plans = _plans(job, ready, upscalers[0], fail)
            if not ready:
                time.sleep(POLL_SECONDS)
        for plan in plans:
            if not signals.status:
                do(plan)


def _plans(job: MainJob, ready: list[Input], upscaler: Upscaler, fail: Fail) -> list[Plan]:
    """Plan all new pictures at once; where that is impossible, each for itself."""
    if not ready:
        return []
    try:
        return [job.plan(ready, upscaler)]
    except NothingNewError:
        return []
    except UsageError:
        from upscale.upscaler import Result

        plans = []
        for source in ready:
            try:
                plans.append(job.plan([source], upscaler))
            except NothingNewError:
                continue
            except UsageError as error:
                fail(Result(source.location, "", "failed", str(error)))
        return plans
