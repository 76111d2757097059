"""What a picture leaves beside its output: maps of uncertainty, and each draw by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from upscale import storage
from upscale.batch import naming
from upscale.batch.naming import SAMPLE, Labels
from upscale.batch.task import STDOUT, MapFile, Request, Task
from upscale.errors import ImageError, UsageError
from upscale.files import publish, temporary

if TYPE_CHECKING:
    from upscale.upscaler.uncertainty import MapRows

MEAN = "mean"  # in names, instead of the number of a draw
MAP_FORMATS = ("png", "tiff")  # of 16-bit gray


def with_extras(tasks: Sequence[Task], request: Request) -> list[Task]:
    """The tasks with their maps named, each followed by one for each draw that is kept.

    Raises:
        UsageError: A name serves several pictures, is taken, or cannot be written.
    """
    if request.samples > 1 and any(task.output == STDOUT for task in tasks):
        raise UsageError(
            f"samples {request.samples} and -o - (stdout): give a file, -o FILE, for their mean"
        )
    if request.keep_samples and any(task.output == STDOUT for task in tasks):
        raise UsageError("--keep-samples writes several pictures: give a file, -o FILE, not -o -")
    found = []
    for task in tasks:
        maps = tuple(
            _map(path, is_view, task, request.labels, len(tasks) > 1)
            for path, is_view in ((request.uncertainty, False), (request.uncertainty_view, True))
            if path is not None
        )
        output, relative = (name.replace(SAMPLE, MEAN) for name in (task.output, task.relative))
        found.append(replace(task, output=output, relative=relative, maps=maps))
        if request.keep_samples:
            found += [_kept(task, request.seed + k, k) for k in range(request.samples)]
    _refuse_maps(found)
    return [replace(task, replaces_maps=request.overwrite) for task in found]


def _kept(task: Task, seed: int, sample: int) -> Task:
    """The task of one draw: its name is the output's with the number of the draw."""
    names = (task.output, task.relative)
    if SAMPLE in task.output:
        output, relative = (name.replace(SAMPLE, str(sample)) for name in names)
    else:
        output, relative = (naming.numbered(name, sample) for name in names)
    return replace(task, output=output, relative=relative, seed=seed, maps=())


def _map(path: str, is_view: bool, task: Task, labels: Labels, many: bool) -> MapFile:
    from upscale.image import FORMATS, format_of

    flag = "--uncertainty-view" if is_view else "--uncertainty"
    if path == STDOUT or storage.is_url(path):
        raise UsageError(f"{flag} {path}: a map goes to a file of this machine; give its name")
    if naming.is_template(path):
        naming.check_template(path)
        path = naming.fill(path, task.source.location, "png", labels).replace(SAMPLE, MEAN)
    elif many:
        raise UsageError(
            f"{flag} {path}: several pictures cannot share it; give a template such as "
            "'maps/{stem}.png'"
        )
    try:
        kind = format_of(path)
    except ImageError as error:
        raise UsageError(f"{flag} {path}: {error}") from error
    if not is_view and kind not in MAP_FORMATS:
        raise UsageError(f"{flag} {path}: give .png or .tif, which hold 16-bit gray")
    if not FORMATS[kind].writable:
        raise UsageError(f"{flag} {path}: {kind} can be read, not written; give .png")
    return MapFile(path, kind, is_view)


def _refuse_maps(tasks: Sequence[Task]) -> None:
    """Refuse a map that is something else too, or that has no folder."""
    taken = {os.path.realpath(task.source.location): "an input" for task in tasks}
    taken |= {os.path.realpath(task.output): "the output" for task in tasks}
    for task in tasks:
        for one in task.maps:
            own = os.path.realpath(one.path)
            if own in taken:
                raise UsageError(f"uncertainty {one.path} is {taken[own]} too; choose another name")
            taken[own] = "another map"
            folder = os.path.dirname(one.path) or "."
            if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
                raise UsageError(f"uncertainty {one.path}: no folder {folder} that can be written")


def refuse_existing_maps(tasks: Sequence[Task]) -> None:
    """Refuse, of what is to be done anew, maps that exist.

    Raises:
        UsageError: With the first of them.
    """
    for task in tasks:
        for one in task.maps:
            is_new = task.action == "do" and not task.replace
            if is_new and not task.replaces_maps and os.path.lexists(one.path):
                raise UsageError(f"{one.path} exists; give --overwrite or another name")


def write_maps(task: Task, rows: MapRows, record: dict[str, object]) -> None:
    """Write the maps of a picture, each whole or not at all.

    Raises:
        OutputError: A file appeared meanwhile.
        OSError: It cannot be written.
    """
    from upscale.image import Metadata, create, with_provenance

    metadata = with_provenance(Metadata(), {**record, "uncertainty": rows.record})
    for one in task.maps:
        shape = rows.view_shape if one.is_view else (rows.height, rows.width, 1)
        strips = rows.view() if one.is_view else rows.rows()
        with temporary(one.path) as name:
            with open(name, "x+b") as file:
                dtype = "uint8" if one.is_view else "uint16"
                create(file, one.format, shape, dtype, metadata).write(strips)
                file.flush()
                os.fsync(file.fileno())
            publish(name, one.path, replace=task.replaces_maps or task.replace)
