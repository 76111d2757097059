"""Batches: what was named becomes a plan, the plan is carried out, each picture is a ``Result``.

``inputs.discover`` finds each ``Input``, ``plan.plan_for`` makes it a ``Task`` with an output in a
``Plan`` (open it first), ``pool.run`` gives the tasks to ``work.Worker.do``, in threads or, by
``cluster.py``, on many machines; ``journal.py`` remembers what is done.

``upscale.batch(...)`` is ``batch`` below: this package can be called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter
from types import ModuleType
from typing import TYPE_CHECKING, Any

from upscale.errors import UsageError
from upscale.options import Outputs, RunOptions, Selection, divide, signature
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.batch.plan import Plan
    from upscale.batch.pool import Run, TaskProgress
    from upscale.upscaler import Result

Location = str | os.PathLike[str]
OPTIONS = (Settings, Outputs, Selection, RunOptions)


def batch(
    inputs: Location | Iterable[Location],
    output: Location | None = None,
    *,
    progress: bool = False,
    **options: Any,
) -> Iterator[Result]:
    """Enlarge many pictures; yield a result for each as it finishes.

    A picture that fails is a result with ``status == "failed"`` and does not end the batch. Leaving
    the loop stops the batch: what is written stays, and the same call goes on with the rest.

    Args:
        inputs: Files, folders, globs, URLs of any fsspec file system.
        output: A folder (the tree is mirrored), a file (one input), a template, or ``None``: beside
            the inputs.
        progress: Draw a bar of tqdm's.
        options: The options of the command line by their long names, with underscores: ``model``,
            ``alpha``, ``scale``, ``size=(width, height)``, ``format``, ``quality``, ``recursive``,
            ``include``, ``overwrite``, ``skip_existing``, ``shard=(1, 16)``, ``device``, ``jobs``,
            ``fail_fast``, …

    Raises:
        UsageError: There is no such option, or the plan is impossible (before the first result;
            nothing was started).
        CheckpointError: There is no such model.
        DeviceError: There is no such device.
    """
    from upscale.batch.inputs import discover
    from upscale.batch.plan import load, plan_for
    from upscale.batch.pool import run

    output = None if output is None else os.fspath(output)
    if output == "-":
        raise UsageError("output '-' is for the shell; give a file or a folder")
    settings, outputs, selection, run_options = divide({"output": output, **options}, *OPTIONS)
    sources = discover(_names(inputs), selection, outputs.output)
    upscalers = load(settings, run_options)
    plan = plan_for(upscalers[0], sources, settings, outputs)
    if not progress:
        return iter(run(plan, upscalers, run_options))
    return _with_bar(plan, lambda share: run(plan, upscalers, run_options, share))


def _with_bar(plan: Plan, start: Callable[[TaskProgress], Run]) -> Iterator[Result]:
    """The results of a run as they come, with a bar over its pictures."""
    from upscale.bars import PictureBar

    with PictureBar(plan.sizes, "pictures") as bar:
        for result in start(lambda task, done, total: bar.share(task.output, done / total)):
            bar.finish(result.output or "", result.pixels)
            yield result


batch.__signature__ = signature(  # type: ignore[attr-defined]
    [
        Parameter("inputs", Parameter.POSITIONAL_OR_KEYWORD),
        Parameter("output", Parameter.POSITIONAL_OR_KEYWORD, default=None),
        Parameter("progress", Parameter.KEYWORD_ONLY, default=False, annotation="bool"),
    ],
    *OPTIONS,
)


def _names(inputs: Location | Iterable[Location]) -> tuple[str, ...]:
    if isinstance(inputs, str | os.PathLike):
        inputs = (inputs,)
    names = tuple(os.fspath(name) for name in inputs)
    if not names or "-" in names:
        raise UsageError("inputs: give files, folders, globs, or URLs; stdin is for the shell")
    return names


class _Callable(ModuleType):
    """A module that can be called: ``upscale.batch(...)`` beside ``upscale.batch.plan``."""

    def __call__(self, *args: Any, **options: Any) -> Iterator[Result]:
        return batch(*args, **options)


sys.modules[__name__].__class__ = _Callable
