"""``--dry-run``: the plan as lines for people, or as records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from upscale.cli.console import printable

if TYPE_CHECKING:
    from upscale.batch.preflight import Line, Survey
    from upscale.cli.main_job import Show


def write_survey(survey: Survey, show: Show) -> int:
    """Write a survey to stdout; return 1 where pictures or the whole run will fail, else 0."""
    short = _shortage(survey)
    if show.json:
        for item in survey.lines:
            print(json.dumps(_record(item)))
    elif not show.console.quiet:
        for item in survey.lines:
            print(_text(item))
    for item in survey.problems:
        show.console.error(f"{item.task.source.location}: {item.problem}")
    for shortage in short:
        show.console.error(shortage)
    show.console.note(_sum(survey))
    return 1 if survey.problems or short else 0


def _text(line: Line) -> str:
    """One picture on one line, safe on any terminal."""
    task = line.task
    head = f"{printable(task.source.location)} -> {printable(task.output)}"
    if line.problem:
        return f"{head}  will fail"
    if task.action == "skip":
        return f"{head}  skipped: {task.reason}"
    note = ", replaces" if task.replace else ""
    sizes = f"{line.width}x{line.height} -> {line.out_width}x{line.out_height}"
    return f"{head}  {sizes}{note}"


def _record(line: Line) -> dict[str, object]:
    task = line.task
    return {
        "input": task.source.location,
        "output": task.output,
        "action": "fail" if line.problem else task.action,
        "error": line.problem or None,
        "replace": task.replace,
        "width": line.width or None,
        "height": line.height or None,
        "out_width": line.out_width or None,
        "out_height": line.out_height or None,
        "disk_bytes": line.disk,
        "memory_bytes": line.memory,
    }


def _shortage(survey: Survey) -> list[str]:
    """What the disk or the memory will not do."""
    found = []
    need = sum(line.disk for line in survey.todo)
    if len(survey.free) == 1:
        folder, free = next(iter(survey.free.items()))
        if need > free:
            found.append(f"{folder}: about {_size(need)} needed, {_size(free)} free")
    largest = max((line.memory for line in survey.todo), default=0)
    if largest > survey.memory_free:
        have = _size(survey.memory_free)
        found.append(f"memory: the largest picture needs about {_size(largest)}, {have} are free")
    return found


def _sum(survey: Survey) -> str:
    todo = survey.todo
    pixels = sum(line.width * line.height for line in todo) / 1e6
    out = sum(line.out_width * line.out_height for line in todo) / 1e6
    skipped = sum(line.task.action == "skip" for line in survey.lines)
    disk = _size(sum(line.disk for line in todo))
    memory = _size(max((line.memory for line in todo), default=0))
    parts = [
        f"{len(todo)} to do, {skipped} skipped, {len(survey.problems)} will fail",
        f"{pixels:.2f} MP -> {out:.2f} MP",
        f"about {disk} of disk",
        f"{memory} of memory for the largest",
        f"{_time(survey.seconds)} in the network",
    ]
    return "; ".join(parts) + "; nothing was written"


def _size(count: float) -> str:
    count /= 1024
    for unit in ("KiB", "MiB"):
        if count < 1024:
            return f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
