"""Batches from Python: ``for record in upscale.batch("photos", "out", recursive=True): ...``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from inspect import Parameter
from typing import Any

from upscale.batch.job import Job
from upscale.batch.report import Record
from upscale.errors import UsageError
from upscale.options import divide, signature
from upscale.settings import Outputs, RunOptions, Selection, Settings

Location = str | os.PathLike[str]
KINDS = (Settings, Outputs, Selection, RunOptions)


def batch(
    inputs: Location | Iterable[Location], output: Location | None = None, **options: Any
) -> Iterator[Record]:
    """Enlarge many pictures; yield a record for each as it finishes.

    A picture that fails is a record with ``status == "failed"`` and does not end the batch. Leaving
    the loop stops the batch: what is written stays, and the same call goes on with the rest.

    Args:
        inputs: Files, folders, globs, URLs of any fsspec file system.
        output: A folder (the tree is mirrored), a file (one input), a template, or ``None``: beside
            the inputs.
        options: The options of the command line by their long names, with underscores: ``model``,
            ``alpha``, ``scale``, ``size=(width, height)``, ``format``, ``quality``, ``recursive``,
            ``include``, ``overwrite``, ``skip_existing``, ``shard=(1, 16)``, ``device``, ``jobs``,
            ``fail_fast``, …

    Raises:
        UsageError: There is no such option, or the plan is impossible (before the first record;
            nothing was started).
        CheckpointError: There is no such model.
        DeviceError: There is no such device.
    """
    output = None if output is None else os.fspath(output)
    if output == "-":
        raise UsageError("output '-' is for the shell; give a file or a folder")
    settings, outputs, selection, run_options = divide({"output": output, **options}, *KINDS)
    return _records(Job(_locations(inputs), settings, outputs, selection, run_options))


batch.__signature__ = signature(  # type: ignore[attr-defined]
    [
        Parameter("inputs", Parameter.POSITIONAL_OR_KEYWORD),
        Parameter("output", Parameter.POSITIONAL_OR_KEYWORD, default=None),
    ],
    *KINDS,
)


def _records(job: Job) -> Iterator[Record]:
    """Plan a job at once; do it as its records are asked for."""
    sources = job.discover()
    upscalers = job.load()
    plan = job.plan(sources, upscalers[0])
    return (outcome.record for outcome in job.run(plan, upscalers))


def _locations(inputs: Location | Iterable[Location]) -> tuple[str, ...]:
    if isinstance(inputs, str | os.PathLike):
        inputs = (inputs,)
    names = tuple(os.fspath(name) for name in inputs)
    if not names or "-" in names:
        raise UsageError("inputs: give files, folders, globs, or URLs; stdin is for the shell")
    return names
