"""Which picture becomes which file: what can be refused is refused here, before any work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from upscale import storage
from upscale.batch import naming
from upscale.batch.collisions import refuse_collisions
from upscale.batch.discover import STDIN, Input
from upscale.batch.extras import refuse_existing_maps, with_extras
from upscale.batch.journal import Journal, open_journal
from upscale.batch.task import STDOUT, Action, Request, Task
from upscale.errors import ImageError, UsageError
from upscale.storage import Stat, is_url

DEFAULT_FORMAT = "png"
OTHER_SETTINGS = "made with other settings"

Kind = Literal["beside", "stdout", "template", "folder", "file"]


class NothingNewError(UsageError):
    """All that was found are outputs of earlier runs."""


@dataclass(frozen=True)
class Plan:
    """All pictures of a run, in order, and the settings they are made with.

    Attributes:
        tasks: The pictures.
        request: Where outputs go.
        own: Pictures that were named but are outputs of an earlier run, and are left out.
    """

    tasks: tuple[Task, ...]
    request: Request
    own: int = 0

    def count(self, action: Action) -> int:
        """Return how many tasks have this action."""
        return sum(task.action == action for task in self.tasks)

    @property
    def notes(self) -> list[str]:
        """What a person should know before it is carried out, one sentence each."""
        notes = []
        others = sum(task.replace and task.reason == OTHER_SETTINGS for task in self.tasks)
        if others:
            outputs = "1 output" if others == 1 else f"{others} outputs"
            notes.append(f"replaces {outputs} {OTHER_SETTINGS}")
        if self.own:
            pictures = "1 picture" if self.own == 1 else f"{self.own} pictures"
            notes.append(f"leaves out {pictures} that an earlier run made of the others")
        return notes

    @property
    def roots(self) -> list[str]:
        """The folders that have a journal."""
        return list(dict.fromkeys(task.root for task in self.tasks if task.root is not None))


def make_plan(
    sources: Sequence[Input], request: Request, *, case_sensitive: bool | None = None
) -> Plan:
    """Name the output of every source and decide what happens to it.

    Args:
        sources: From ``discover``.
        request: Where outputs go.
        case_sensitive: Whether the outputs' file system tells ``A`` from ``a``; ``None``: find out.

    Raises:
        UsageError: Two sources have one output, an output is a source, an output exists, or its
            folder cannot be written; nothing was started.
    """
    if not sources:
        raise UsageError("no picture found: name files, folders, globs, URLs, or -")
    many = _are_many(sources)
    if many:
        _refuse_picture_name(request.output)
    tasks = [_name(source, request, many=many) for source in sources]
    if request.has_extras:
        tasks = with_extras(tasks, request)
    journals = {root: open_journal(root) for root in {task.root for task in tasks} if root}
    try:
        named, tasks = tasks, _without_own_outputs(tasks, journals)
        kept = list({id(task.source): task.source for task in tasks}.values())
        refuse_collisions(tasks, case_sensitive, partial(_renamed, kept, request))
        _refuse_folders(tasks)
        tasks = _decide(tasks, journals, request)
        if request.has_extras:
            refuse_existing_maps(tasks)
    finally:
        for journal in journals.values():
            journal.close()
    own = sum(task.source.tree is None for task in named) - sum(
        task.source.tree is None for task in tasks
    )
    return Plan(tuple(_shard(tasks, request.shard)), request, own)


def _renamed(sources: Sequence[Input], request: Request, template: str) -> list[Task]:
    """The tasks of all sources if the output were this template."""
    other = replace(request, output=template)
    return [_name(source, other, many=True) for source in sources]


def _are_many(sources: Sequence[Input]) -> bool:
    return len(sources) > 1 or sources[0].tree is not None


def kind_of(output: str | None, *, many: bool) -> Kind:
    """Return what an ``--output`` means for one picture or for many."""
    if output is None:
        return "beside"
    if output == STDOUT:
        return "stdout"
    if not is_url(output) and os.path.isdir(output):
        return "folder"
    if naming.is_template(output):
        return "template"
    return "folder" if many or output.endswith(("/", os.sep)) else "file"


def _refuse_picture_name(output: str | None) -> None:
    """Refuse a picture's name as that of a new folder for several inputs."""
    from upscale.image import FORMATS

    if output is None or output.endswith("/") or kind_of(output, many=True) != "folder":
        return
    ext = naming.split_name(output)[2].lower()
    known = any(ext in kind.extensions for kind in FORMATS.values())
    if known and (is_url(output) or not os.path.isdir(output)):
        raise UsageError(
            f"output {output} is named like a picture and the inputs are several, or a folder; "
            f"for a folder of that name, end it with /: -o {output}/"
        )


def _name(source: Input, request: Request, *, many: bool) -> Task:
    """Return the task of a source, its output named."""
    kind = kind_of(request.output, many=many)
    if kind == "beside" and source.location == STDIN:
        kind = "stdout"
    if source.location == STDIN and many:
        raise UsageError("- (stdin) is one picture; other inputs need a run of their own")
    if kind == "stdout":
        if many:
            raise UsageError("-o - (stdout) takes one picture; give a folder: -o DIR/")
        return Task(source, STDOUT, _format(request.format) if request.format else "")
    ext = _extension(source, request.format)
    output, root = _place(kind, source, ext, request, many=many)
    relative = "" if root is None else naming.relative_to(output, root)
    return Task(source, output, _format_of_output(output, request.format), root, relative)


def _place(
    kind: str, source: Input, ext: str, request: Request, *, many: bool
) -> tuple[str, str | None]:
    """Return (output, root)."""
    target = storage.localize(request.output or "")
    if is_url(target) and storage.scheme(target) in storage.READ_ONLY_SCHEMES:
        raise UsageError(f"output {target}: {storage.scheme(target)} can be read, not written")
    if kind == "beside":
        if is_url(source.location) and storage.scheme(source.location) in storage.READ_ONLY_SCHEMES:
            raise UsageError(f"{source.location}: nothing can be written beside it; give -o")
        output = naming.beside(source.location, ext, request.labels)
        root = source.tree or naming_parent(source.location)
        return output, root if many else None
    if kind == "template":
        naming.check_template(target)
        output = naming.fill(target, source.location, ext, request.labels)
        root = naming.template_root(target)
        if not naming.is_inside(output, root):
            raise UsageError(f"output {output} lies outside of {root}; change the template")
        return output, root if many else None
    if kind == "folder":
        return naming.within(target, source.relative, ext), target
    return target, None


def naming_parent(location: str) -> str:
    """Return the folder that a location lies in."""
    if is_url(location):
        return location.partition("::")[0].rpartition("/")[0]
    return os.path.dirname(location) or "."


def _format(name: str) -> str:
    """Return the format that a name or extension stands for; it must be one that can be written."""
    from upscale.image import FORMATS, format_of

    try:
        found = format_of(name)
    except ImageError as error:
        raise UsageError(f"format: {error}") from error
    if not FORMATS[found].writable:
        raise UsageError(f"format {name!r} can be read, not written; use -f png")
    return found


def _extension(source: Input, wanted: str | None) -> str:
    """Return an output's extension: the one asked for, else the input's if it can be written."""
    from upscale.image import FORMATS, format_of

    if wanted is not None:
        _format(wanted)
        return wanted.lstrip(".").lower()
    ext = naming.split_name(source.relative)[2]
    try:
        return ext if ext and FORMATS[format_of("x." + ext)].writable else DEFAULT_FORMAT
    except ImageError:
        return DEFAULT_FORMAT


def _format_of_output(output: str, wanted: str | None) -> str:
    """Return the format of a named output; its extension must not contradict the one asked for."""
    from upscale.image import format_of

    ext = naming.split_name(output)[2]
    if wanted is None:
        if not ext:
            raise UsageError(
                f"output {output!r} has no extension: add one, give -f, or end it with / for a "
                "folder"
            )
        try:
            return _format("x." + ext)
        except UsageError as error:
            raise UsageError(f"output {output}: {error}") from error
    found = _format(wanted)
    with suppress(ImageError):  # an extension that says nothing of a picture
        if format_of("x." + ext) != found:
            raise UsageError(f"output {output} is named .{ext} and -f asks for {wanted}: drop one")
    return found


def _without_own_outputs(tasks: list[Task], journals: dict[str, Journal]) -> list[Task]:
    """Leave out sources that a journal knows as outputs: a folder that holds both runs again.

    Of pictures that were named themselves (by the shell's ``*.png``, too), only those whose own
    input is named beside them.
    """
    named = {storage.absolute(task.source.location) for task in tasks}
    kept = []
    for task in tasks:
        journal, source = journals.get(task.root or ""), task.source
        if journal is not None and source.stat is not None:
            inside = naming.is_inside(source.location, task.root or "")
            place = naming.relative_to(source.location, task.root or "") if inside else ""
            entry = journal.get(place)
            is_output = entry is not None and entry.input != storage.absolute(source.location)
            if entry is not None and is_output and (source.tree or entry.input in named):
                continue
        kept.append(task)
    if not kept:
        raise NothingNewError("no picture found that is not itself an output of an earlier run")
    return kept


def _refuse_folders(tasks: list[Task]) -> None:
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


def _decide(tasks: list[Task], journals: dict[str, Journal], request: Request) -> list[Task]:
    """Decide what is done, skipped and failed; refuse outputs that exist and are not ours."""
    listings = {root: _listing(root) for root in journals if is_url(root)}
    decided, existing = [], []
    for task in tasks:
        if task.source.error:
            decided.append(replace(task, action="fail", reason=task.source.error))
            continue
        journal = journals.get(task.root or "")
        result = _decide_one(task, _output_stat(task, listings), journal, request)
        if result is None and journal is not None:  # another process may have made it just now
            journal.refresh()
            result = _decide_one(task, _output_stat(task, listings), journal, request)
        if result is None:
            existing.append(task)
        else:
            decided.append(result)
    if existing:
        first = existing[0].output
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(f"{first}{more} exists; give --overwrite or --skip-existing")
    return decided


def _listing(root: str) -> dict[str, Stat]:
    """Return the stat of everything in a folder of an object store, by relative path."""
    file_system, path = storage.open_url(root)
    file_system.invalidate_cache()
    try:
        found = file_system.find(path, detail=True)
    except FileNotFoundError:
        return {}
    start = len(path.rstrip("/")) + 1
    return {name[start:]: storage.url_stat(info) for name, info in found.items()}


def _output_stat(task: Task, listings: dict[str, dict[str, Stat]]) -> Stat | None:
    if task.output == STDOUT:
        return None
    if task.root in listings:
        return listings[task.root].get(task.relative)
    try:
        found = storage.try_stat(task.output)
    except IsADirectoryError as error:
        raise UsageError(f"output {task.output} is a folder; end it with /") from error
    except OSError as error:
        raise UsageError(f"output {task.output}: {storage.reason(error)}") from error
    if found is None and storage.exists(task.output):
        return Stat(-1, "")  # a dangling link
    return found


def _decide_one(
    task: Task, now: Stat | None, journal: Journal | None, request: Request
) -> Task | None:
    """Return the task with its action, or ``None`` where an output is in the way."""
    if now is None:
        return task
    if request.overwrite:
        return replace(task, replace=True)
    if request.skip_existing:
        return replace(task, action="skip", reason="exists")
    if journal is None:
        return None
    if is_done(task, now, journal, request.digest):
        return replace(task, action="skip", reason="done before")
    if not is_ours(task, now, journal):
        return None
    entry = journal.get(task.relative)
    other = entry is not None and entry.settings != request.digest
    return replace(task, replace=True, reason=OTHER_SETTINGS if other else "the input has changed")


def is_ours(task: Task, now: Stat, journal: Journal) -> bool:
    """Whether the output was made from this input, whatever the settings, and is untouched."""
    entry = journal.get(task.relative)
    if entry is None or entry.input != storage.absolute(task.source.location):
        return False
    return not entry.output_stamp or entry.is_output(task.output, now)


def is_done(task: Task, now: Stat, journal: Journal, digest: str) -> bool:
    """Whether the journal records the output as made from this very input with these settings."""
    entry = journal.get(task.relative)
    if entry is None or entry.settings != digest or task.source.stat is None:
        return False
    if not entry.is_output(task.output, now):
        return False
    return entry.made_from(task.source.location, task.source.stat)


def _shard(tasks: list[Task], shard: tuple[int, int] | None) -> list[Task]:
    """Return the tasks of one part; which part a task is in depends on its place alone."""
    if shard is None:
        return tasks
    index, count = shard

    def part(task: Task) -> int:
        digest = hashlib.sha256(os.fsencode(task.relative or task.source.relative)).digest()
        return int.from_bytes(digest[:8], "big") % count

    return [task for task in tasks if part(task) == index - 1]
