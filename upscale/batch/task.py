"""One picture with its output: which file it becomes, and what is written beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from upscale import storage
from upscale.batch import naming
from upscale.batch.inputs import STDIN, Input
from upscale.batch.naming import SAMPLE
from upscale.errors import ImageError, UsageError, reason
from upscale.options import Outputs
from upscale.settings import Settings
from upscale.storage import is_url

STDOUT = "-"
DEFAULT_FORMAT = "png"
MEAN = "mean"  # in names, instead of the number of a draw
MAP_FORMATS = ("png", "tiff")  # of 16-bit gray
STREAM = (
    "a stream or a video does not tell how many pictures it has, which {page} needs to know: make "
    "pictures of it first (ffmpeg -i - %06d.png)"
)


@dataclass(frozen=True)
class Task:
    """One picture and its output.

    Attributes:
        source: The input.
        output: Location of the output; ``-`` is stdout.
        format: Name of the output's format; empty: the input's, known once it is read.
        root: Folder whose journal records it, or ``None``.
        relative: The output's place in ``root``, with forward slashes.
        action: ``do``, ``skip``, or ``fail`` (the input cannot be read).
        reason: Why it is skipped, failed, or made anew.
        replace: Whether an existing output may be replaced.
        maps: Maps of uncertainty that are written too: file, and whether it is in colour.
        seed: Of the one draw that it is, or ``None``: as the settings say.
        page: The one page that it is, from 1; 0: the picture, or all of them.
        pages: How many the input has, where it is one.
        digest: Of settings and weights, for journal and provenance.
    """

    source: Input
    output: str
    format: str
    root: str | None = None
    relative: str = ""
    action: Literal["do", "skip", "fail"] = "do"
    reason: str = ""
    replace: bool = False
    maps: tuple[tuple[str, bool], ...] = ()
    seed: int | None = None
    page: int = 0
    pages: int = 0
    digest: str = ""

    @property
    def label(self) -> str:
        """The number of its page in names: as wide for every page, so that they sort."""
        return str(self.page or 1).zfill(len(str(self.pages)))


def name_tasks(
    sources: Sequence[Input], outputs: Outputs, settings: Settings, labels: Mapping[str, str]
) -> list[Task]:
    """Name the outputs of all sources, their maps of uncertainty and draws that are kept.

    Raises:
        UsageError: What was asked for does not fit these sources.
    """
    many = len(sources) > 1 or sources[0].tree is not None
    if many:
        _refuse_picture_name(outputs.output)
    if naming.has_page(outputs.output):  # each page is a task, as a picture of its own would be
        pages = [page for source in sources for page in _pages(source, settings.page)]
    else:
        pages = [Task(source, "", "") for source in sources]
    tasks = [_named(page, outputs, settings.format, labels, many=many) for page in pages]
    if not needs_draws(outputs, settings) and "{sample}" not in (outputs.output or ""):
        return tasks
    if settings.samples > 1 and tasks[0].output == STDOUT:
        raise UsageError(
            f"samples {settings.samples} and -o - (stdout): give a file, -o FILE, for their mean"
        )
    if outputs.keep_samples and tasks[0].output == STDOUT:
        raise UsageError("--keep-samples writes several pictures: give a file, -o FILE, not -o -")
    drawn: list[Task] = []
    for task in tasks:
        output, relative = (name.replace(SAMPLE, MEAN) for name in (task.output, task.relative))
        maps = tuple(_maps(task, outputs, labels, many=len(tasks) > 1))
        drawn.append(replace(task, output=output, relative=relative, maps=maps))
        if outputs.keep_samples:
            drawn += [_kept(task, settings.seed + k, k) for k in range(settings.samples)]
    _refuse_maps(drawn)
    return drawn


def _pages(source: Input, taken: tuple[int, int] | None) -> Iterator[Task]:
    """A task, not named yet, for each page of a source that is taken, as its header tells.

    What can be read once, a named pipe, is kept with it: each page is read again. Where the pages
    cannot be told, there is one task that says why.
    """
    from upscale.image import probe

    count, data = 0, source.data
    try:
        if source.error or not (data is None or isinstance(data, bytes)):
            raise ImageError(source.error or STREAM)
        content = storage.content(source.location, data)
        info = probe(content.where)
        if info.format == "y4m":
            raise ImageError(STREAM)
        count = info.frames
        if data is None and not (is_url(source.location) or os.path.isfile(source.location)):
            source = replace(source, data=content.where)
        if taken and taken[0] > count:
            raise ImageError(f"there is no page {taken[0]}: give --page 1 to {count}")
    except (OSError, ImageError) as error:
        yield Task(replace(source, error=reason(error)), "", "", page=taken[0] if taken else 1)
        return
    first, last = taken or (1, count)
    for number in range(first, min(last, count) + 1):
        yield Task(source, "", "", page=number, pages=count)


def needs_draws(outputs: Outputs, settings: Settings) -> str:
    """The option that a model must draw for, or ""."""
    asked = {
        "--uncertainty": outputs.uncertainty,
        "--uncertainty-view": outputs.uncertainty_view,
        "--keep-samples": outputs.keep_samples,
        "--samples": settings.samples > 1,
    }
    return next((name for name, value in asked.items() if value), "")


def _refuse_picture_name(output: str | None) -> None:
    """Refuse a picture's name as that of a new folder for several inputs."""
    from upscale.image import FORMATS

    if output is None or output.endswith("/") or naming.kind_of(output, many=True) != "folder":
        return
    ext = naming.split_name(output)[2].lower()
    known = any(ext in kind.extensions for kind in FORMATS.values())
    if known and (is_url(output) or not os.path.isdir(output)):
        raise UsageError(
            f"output {output} is named like a picture and the inputs are several, or a folder; "
            f"for a folder of that name, end it with /: -o {output}/"
        )


def _named(
    task: Task, outputs: Outputs, format_: str | None, labels: Mapping[str, str], *, many: bool
) -> Task:
    """A task with its output, and the folder whose journal records it."""
    source, location = task.source, task.source.location
    kind = naming.kind_of(outputs.output, many=many)
    if kind == "beside" and location == STDIN:
        kind = "stdout"
    if location == STDIN and many:
        raise UsageError("- (stdin) is one picture; other inputs need a run of their own")
    if kind == "stdout":
        if many:
            raise UsageError("-o - (stdout) takes one picture; give a folder: -o DIR/")
        return replace(task, output=STDOUT, format=_format(format_) if format_ else "")
    ext, target = _extension(source, format_), storage.localize(outputs.output or "")
    if storage.is_read_only(target):
        raise UsageError(f"output {target}: {storage.scheme(target)} can be read, not written")
    root: str | None = target
    if kind == "beside":
        if storage.is_read_only(location):
            raise UsageError(f"{location}: nothing can be written beside it; give -o")
        output = naming.beside(location, ext, labels)
        root = source.tree or naming.parent(location)
    elif kind == "template":
        naming.check_template(target)
        output = naming.fill(target, location, ext, {**labels, "page": task.label})
        root = naming.template_root(target)
        if not naming.is_inside(output, root):
            raise UsageError(f"output {output} lies outside of {root}; change the template")
    else:
        output = naming.within(target, source.relative, ext) if kind == "folder" else target
    if kind != "folder" and not (many or (task.page and location != STDIN)):
        root = None
    relative = "" if root is None else naming.relative_to(output, root)
    format_ = _format_of_output(output, format_)
    return replace(task, output=output, format=format_, root=root, relative=relative)


def _format(name: str) -> str:
    """Return the format that a name or extension stands for; it must be one that can be written."""
    from upscale.image import FORMATS, format_of

    try:
        known = format_of(name)
    except ImageError as error:
        raise UsageError(f"format: {error}") from error
    if not FORMATS[known].writable:
        raise UsageError(f"format {name!r} can be read, not written; use -f png")
    return known


def _extension(source: Input, format_: str | None) -> str:
    """Return an output's extension: the one asked for, else the input's if it can be written."""
    from upscale.image import FORMATS

    if format_ is not None:
        _format(format_)
        return format_.lstrip(".").lower()
    ext = naming.split_name(source.relative)[2]
    known = [f for f in FORMATS.values() if ext.lower() in (f.name, *f.extensions)]
    return ext if known and known[0].writable and known[0].kept else DEFAULT_FORMAT


def _format_of_output(output: str, format_: str | None) -> str:
    """Return the format of a named output; its extension must not contradict the one asked for."""
    from upscale.image import format_of

    ext = naming.split_name(output)[2]
    if format_ is None:
        if not ext:
            raise UsageError(
                f"output {output!r} has no extension: add one, give -f, or end it with / for a "
                "folder"
            )
        try:
            return _format("x." + ext)
        except UsageError as error:
            raise UsageError(f"output {output}: {error}") from error
    known = _format(format_)
    with suppress(ImageError):  # an extension that says nothing of a picture
        if format_of("x." + ext) != known:
            raise UsageError(f"output {output} is named .{ext} and -f asks for {format_}: drop one")
    return known


def _kept(task: Task, seed: int, sample: int) -> Task:
    """The task of one draw: its name is the output's with the number of the draw."""
    names = (task.output, task.relative)
    if SAMPLE in task.output:
        output, relative = (name.replace(SAMPLE, str(sample)) for name in names)
    else:
        output, relative = (naming.numbered(name, sample) for name in names)
    return replace(task, output=output, relative=relative, seed=seed, maps=())


def _maps(
    task: Task, outputs: Outputs, labels: Mapping[str, str], *, many: bool
) -> list[tuple[str, bool]]:
    """The maps of a picture; each must have a name of its own and a format that holds it."""
    from upscale.image import FORMATS, format_of

    maps = []
    for flag, path in (
        ("--uncertainty", outputs.uncertainty),
        ("--uncertainty-view", outputs.uncertainty_view),
    ):
        if path is None:
            continue
        if path == STDOUT or is_url(path):
            raise UsageError(f"{flag} {path}: a map goes to a file of this machine; give its name")
        if naming.is_template(path):
            naming.check_template(path)
            values = {**labels, "page": task.label}
            path = naming.fill(path, task.source.location, "png", values).replace(SAMPLE, MEAN)  # noqa: PLW2901
        elif many:
            raise UsageError(
                f"{flag} {path}: several pictures cannot share it; give a template such as "
                "'maps/{stem}.png'"
            )
        try:
            name = format_of(path)
        except ImageError as error:
            raise UsageError(f"{flag} {path}: {error}") from error
        if flag == "--uncertainty" and name not in MAP_FORMATS:
            raise UsageError(f"{flag} {path}: give .png or .tif, which hold 16-bit gray")
        if not FORMATS[name].writable:
            raise UsageError(f"{flag} {path}: {name} can be read, not written; give .png")
        maps.append((path, flag == "--uncertainty-view"))
    return maps


def _refuse_maps(tasks: Sequence[Task]) -> None:
    """Refuse a map that is something else too, or that has no folder."""
    taken = {os.path.realpath(task.source.location): "an input" for task in tasks}
    taken |= {os.path.realpath(task.output): "the output" for task in tasks}
    for path in (path for task in tasks for path, _ in task.maps):
        own = os.path.realpath(path)
        if own in taken:
            raise UsageError(f"uncertainty {path} is {taken[own]} too; choose another name")
        taken[own] = "another map"
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"uncertainty {path}: no folder {folder} that can be written")
