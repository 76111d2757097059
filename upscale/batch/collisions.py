"""Two pictures with one output, and outputs that are inputs: refused, with a remedy that works."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence

from upscale.batch import naming
from upscale.batch.discover import STDIN
from upscale.batch.task import STDOUT, Task
from upscale.errors import UsageError
from upscale.storage import is_url

# What may tell apart what has one name, the most readable first.
REMEDIES = (
    "{parent}/{stem}.{ext}",
    "{stem}_{input_ext}.{ext}",
    "{parent}/{stem}_{input_ext}.{ext}",
)

Renamed = Callable[[str], list[Task]]


def refuse_collisions(tasks: list[Task], case_sensitive: bool | None, renamed: Renamed) -> None:
    """Refuse two sources with one output, and an output that is a source.

    Args:
        tasks: All of a run.
        case_sensitive: Whether the file system tells ``A`` from ``a``; ``None``: find out.
        renamed: The tasks if the output were a template.

    Raises:
        UsageError: With both, and a template under which none collide, if there is one.
    """
    for first, second, why in _collisions(tasks, case_sensitive):
        if first is None:
            raise UsageError(f"output {second.output} is an input too; choose another with -o")
        names = f"{first.source.location} and {second.source.location}"
        folder = _folder(first.root)
        for template in (folder + name for name in REMEDIES):
            if _is_free(renamed(template), case_sensitive):
                remedy = f"use a template such as -o {shlex.quote(template)}"
                break
        else:
            remedy = "enlarge them in runs of their own, each with another -o"
        raise UsageError(f"{names} would both become {second.output}{why}; {remedy}")


def _folder(root: str | None) -> str:
    """The folder of all outputs with ``/`` behind it, as it stands in a template."""
    folder = "" if root in (None, ".") else f"{root}".rstrip("/") + "/"
    return folder.replace("{", "{{").replace("}", "}}")


def _is_free(tasks: list[Task], case_sensitive: bool | None) -> bool:
    if any(not is_url(task.output) and os.path.lexists(task.output) for task in tasks):
        return False
    return next(_collisions(tasks, case_sensitive), None) is None


def _collisions(
    tasks: Sequence[Task], case_sensitive: bool | None
) -> Iterator[tuple[Task | None, Task, str]]:
    """Yield two tasks with one output; ``None`` and a task whose output is an input."""
    files = [task for task in tasks if task.output != STDOUT]
    inputs = {_identity(task.source.location) for task in files}
    outputs: dict[str, Task] = {}
    folds: dict[str, Task] = {}
    for task in files:
        own = naming.key(task.output)
        if own in inputs or _identity(task.output) in inputs:
            yield None, task, ""
        elif own in outputs:
            yield outputs[own], task, ""
        outputs[own] = task
        other = folds.setdefault(naming.folded(own), task)
        if other is not task and not _tells_case(task.output, case_sensitive):
            yield other, task, " (this file system ignores case)"


def _identity(location: str) -> str:
    return location if is_url(location) or location == STDIN else os.path.realpath(location)


def _tells_case(output: str, known: bool | None) -> bool:
    """Whether the file system of an output tells ``A`` from ``a``, from names that exist."""
    if known is not None or is_url(output):
        return known is not False
    folder = os.path.realpath(os.path.dirname(output) or ".")
    while folder != os.path.dirname(folder):
        name = os.path.basename(folder)
        twin = os.path.join(os.path.dirname(folder), name.swapcase())
        if name.swapcase() != name and os.path.exists(folder):
            return not (os.path.exists(twin) and os.path.samefile(folder, twin))
        folder = os.path.dirname(folder)
    return os.name == "posix"
