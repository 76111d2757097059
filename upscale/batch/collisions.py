"""What makes a set of outputs impossible: refused before any work."""

from __future__ import annotations

import os

from upscale.batch import naming
from upscale.batch.discover import STDIN
from upscale.batch.storage import is_url
from upscale.batch.task import STDOUT, Task
from upscale.errors import UsageError


def refuse_collisions(tasks: list[Task], case_sensitive: bool | None) -> None:
    """Refuse two sources with one output, and an output that is a source."""
    files = [task for task in tasks if task.output != STDOUT]
    inputs = {_identity(task.source.location): task.source.location for task in files}
    outputs: dict[str, Task] = {}
    folds: dict[str, Task] = {}
    for task in files:
        own = naming.key(task.output)
        if own in inputs or _identity(task.output) in inputs:
            raise UsageError(f"output {task.output} is an input too; choose another with -o")
        if own in outputs:
            raise UsageError(_collision(outputs[own], task))
        outputs[own] = task
        other = folds.setdefault(naming.folded(own), task)
        if other is not task and not _tells_case(task.output, case_sensitive):
            raise UsageError(_collision(other, task) + " (this file system ignores case)")


def _identity(location: str) -> str:
    return location if is_url(location) or location == STDIN else os.path.realpath(location)


def _collision(first: Task, second: Task) -> str:
    names = f"{first.source.location} and {second.source.location}"
    remedy = "use a template such as -o 'DIR/{parent}/{stem}.{ext}'"
    return f"{names} would both become {second.output}; {remedy}"


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


def refuse_folders(tasks: list[Task]) -> None:
    """Refuse outputs whose folder is missing (for a single file), a file, or not writable."""
    checked: set[str] = set()
    for task in tasks:
        if task.output == STDOUT or is_url(task.output):
            continue
        folder = os.path.dirname(task.output) or "."
        if folder in checked:
            continue
        checked.add(folder)
        if task.root is None and not os.path.isdir(folder):
            raise UsageError(f"output folder {folder} does not exist; make it first")
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder) or "."
        if not os.path.isdir(folder):
            raise UsageError(f"output {task.output}: {folder} is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"output folder {folder} cannot be written; choose another with -o")
