"""``--dry-run``: the plan as lines for people, or as records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from upscale.cli.console import printable

if TYPE_CHECKING:
    from upscale.batch.preflight import Forecast, Preflight
    from upscale.cli.options import CommandOptions


def write_preflight(found: Preflight, command: CommandOptions) -> int:
    """Write it to stdout; return 1 where pictures or the whole run will fail, else 0."""
    short = _shortage(found)
    if command.json:
        for item in found.lines:
            print(json.dumps(_record(item)))
    elif not command.console.quiet:
        for item in found.lines:
            print(_text(item))
    for note in found.notes:
        command.console.warn(note)
    _remark([(line, line.note) for line in found.lines], command)
    _remark([(line, line.doubt) for line in found.todo], command)
    for item in found.problems:
        command.console.error(f"{item.task.source.location}: {item.problem}")
    for shortage in short:
        command.console.error(shortage)
    command.console.note(_sum(found))
    return 1 if found.problems or short else 0


def _remark(remarks: list[tuple[Forecast, str]], command: CommandOptions) -> None:
    """Say the first remark there is, and how many more there are of its kind."""
    said = [(line.task.source.location, text) for line, text in remarks if text]
    if said:
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        command.console.warn(f"{said[0][0]}{more}: {said[0][1]}")


def _text(line: Forecast) -> str:
    """One picture on one line, safe on any terminal."""
    task = line.task
    head = f"{printable(task.source.location)} -> {printable(task.output)}"
    if line.problem:
        return f"{head}  will fail"
    if task.action == "skip":
        return f"{head}  skipped: {task.reason}"
    note = f", replaces ({task.reason or 'it exists'})" if task.replace else ""
    sizes = f"{line.width}x{line.height} -> {line.out_width}x{line.out_height}"
    return f"{head}  {sizes}{note}"


def _record(line: Forecast) -> dict[str, object]:
    task = line.task
    return {
        "input": task.source.location,
        "output": task.output,
        "action": "fail" if line.problem else task.action,
        "error": line.problem or None,
        "doubt": line.doubt or None,
        "replace": task.replace,
        "width": line.width or None,
        "height": line.height or None,
        "out_width": line.out_width or None,
        "out_height": line.out_height or None,
        "disk_bytes": line.disk,
        "memory_bytes": line.memory,
    }


def _shortage(found: Preflight) -> list[str]:
    """What the disk or the memory will not do."""
    short = []
    need = sum(line.disk for line in found.todo)
    if len(found.free) == 1:
        folder, free = next(iter(found.free.items()))
        if need > free:
            short.append(f"{folder}: about {_size(need)} needed, {_size(free)} free")
    largest = max((line.memory for line in found.todo), default=0)
    if largest > found.memory_free:
        have = _size(found.memory_free)
        short.append(f"memory: the largest picture needs about {_size(largest)}, {have} are free")
    return short


def _sum(found: Preflight) -> str:
    todo = found.todo
    pixels = sum(line.width * line.height for line in todo) / 1e6
    out = sum(line.out_width * line.out_height for line in todo) / 1e6
    skipped = sum(line.task.action == "skip" for line in found.lines)
    disk = _size(sum(line.disk for line in todo))
    memory = _size(max((line.memory for line in todo), default=0))
    parts = [
        f"{len(todo)} to do, {skipped} skipped, {len(found.problems)} will fail",
        f"{pixels:.2f} MP -> {out:.2f} MP",
        f"about {disk} of disk",
        f"{memory} of memory for the largest",
        f"{_time(found.seconds)} in the network",
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
