"""Which picture becomes which file: what can be refused is refused here, before any work."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from upscale import storage
from upscale.batch import naming
from upscale.batch.inputs import STDIN, Input
from upscale.batch.task import STDOUT, Task, name_tasks, needs_draws
from upscale.errors import UsageError, reason
from upscale.files import remove_stale
from upscale.options import Outputs, RunOptions
from upscale.settings import Settings
from upscale.storage import Stat, is_url

if TYPE_CHECKING:
    from upscale.batch.journal import Journal
    from upscale.upscaler import Upscaler

OTHER_SETTINGS = "made with other settings"


class NothingNewError(UsageError):
    """All that was found are outputs of earlier runs."""


@dataclass(frozen=True)
class Plan:
    """All pictures of a run, in order, and what they are made with.

    Attributes:
        tasks: The pictures.
        settings: What the outputs depend on.
        outputs: Where they go and what may happen to what is there.
        own: Pictures that were named but are outputs of an earlier run, and are left out.
    """

    tasks: tuple[Task, ...] = ()
    settings: Settings = field(default_factory=Settings)
    outputs: Outputs = field(default_factory=Outputs)
    own: int = 0

    @property
    def todo(self) -> list[Task]:
        """The pictures that are to be done."""
        return [task for task in self.tasks if task.action == "do"]

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of the pictures that are to be done, by their output; 1: not known."""
        stats = [(task, task.source.stat) for task in self.todo]
        return {t.output: stat.size // max(1, t.pages) if stat else 1 for t, stat in stats}

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
    def resumes(self) -> bool:
        """Whether there is a journal, by which the same command goes on with the rest."""
        return any(task.root is not None for task in self.tasks)

    def clean(self) -> int:
        """Remove what killed processes left in the outputs' folders; return how many files."""
        written = [path for t in self.tasks for path in (t.output, *(path for path, _ in t.maps))]
        folders = {os.path.dirname(path) or "." for path in written if path != STDOUT}
        return sum(remove_stale(folder) for folder in folders if not is_url(folder))


def load(settings: Settings, options: RunOptions) -> list[Upscaler]:
    """Load the model that settings name, once on each device."""
    from upscale.upscaler import load_settings

    return [load_settings(settings, device) for device in options.devices]


def plan_for(
    upscaler: Upscaler, sources: Sequence[Input], settings: Settings, outputs: Outputs
) -> Plan:
    """Plan to enlarge pictures with a loaded model.

    Raises:
        UsageError: Two sources have one output, an output is a source, an output exists, or its
            folder cannot be written; nothing was started.
    """
    from upscale.upscaler import model_label

    native = upscaler.native()
    if settings.fit != "distort" and settings.box is None:
        raise UsageError(f"fit {settings.fit!r} needs a width and a height: give --size WxH")
    if settings.fit == "cover" and (outputs.uncertainty or outputs.uncertainty_view):
        raise UsageError("--fit cover cuts what the map shows: give contain or distort with it")
    if option := needs_draws(outputs, settings):
        upscaler.check_draws(option)
    weights = tuple(f"{name}:{sha256}" for name, sha256 in upscaler.weights.items())
    denoise = next((s.denoise for s in upscaler.chain() if s.denoise is not None), None)
    labels = {
        "model": model_label(settings.model),
        "scale": settings.size_label if settings.has_size else f"{upscaler.scale:g}",
        "alpha": "" if native.alpha is None else f"{native.alpha:g}",
        "denoise": "" if denoise is None else f"{denoise:g}",
    }

    def digest(page: int) -> str:
        taken = replace(settings, page=(page, page)) if page else settings
        return taken.digest(weights, alpha=native.alpha, scale=upscaler.scale)

    return make_plan(sources, outputs, settings, labels, digest)


def make_plan(
    sources: Sequence[Input],
    outputs: Outputs,
    settings: Settings,
    labels: Mapping[str, str],
    digest: Callable[[int], str],
) -> Plan:
    """Name the output of every source and decide what happens to it; see ``plan_for``.

    Args:
        sources: From ``discover``.
        outputs: Where outputs go.
        settings: As the model was loaded with.
        labels: What templates may name.
        digest: Of settings and weights, where one page alone is taken; 0: where none is.
    """
    if not sources:
        raise UsageError("no picture found: name files, folders, globs, URLs, or -")
    tasks = name_tasks(sources, outputs, settings, labels)
    digests = {page: digest(page) for page in {task.page for task in tasks}}
    tasks = [replace(task, digest=digests[task.page]) for task in tasks]
    journals: dict[str, Journal] = {}
    if roots := {task.root for task in tasks if task.root is not None}:
        from upscale.batch.journal import open_journal

        journals = {root: open_journal(root) for root in roots}
    try:
        # 1. What an earlier run made is no input.
        tasks, own = _without_own_outputs(tasks, journals)
        # 2. Outputs that cannot be.
        _refuse_collisions(tasks)
        _refuse_folders(tasks)
        # 3. What is there already.
        tasks = _decide_all(tasks, journals, outputs)
    finally:
        for journal in journals.values():
            journal.close()
    return Plan(tuple(_shard(tasks, outputs.shard)), settings, outputs, own)


def decide(task: Task, now: Stat | None, journal: Journal | None, outputs: Outputs) -> Task | None:
    """Decide what happens to a task: the one place that knows when an output is done.

    A plan asks before the run; each worker asks again once it has claimed the output, for another
    process may have made it meanwhile.

    Args:
        task: The picture.
        now: Size and stamp of its output; ``None`` where there is none.
        journal: Of its folder, up to date.
        outputs: What may happen to one that is there.

    Returns:
        The task with its action, or ``None`` where an output is in the way.
    """
    if now is None:
        return task
    is_news = journal is not None and journal.is_news(task.relative)
    if outputs.overwrite and not is_news:
        return replace(task, replace=True)
    if outputs.skip_existing:
        return replace(task, action="skip", reason="exists")
    line = None if journal is None else journal.get(task.relative)
    if line is None:
        from upscale.batch.journal import is_made

        return replace(task, action="skip", reason="done before") if is_made(task) else None
    # 1. It is what the journal says, made of what the input still is, with these settings.
    is_intact, is_same = line.is_output(task.output, now), line.settings == task.digest
    if is_intact and is_same and line.made_from(task.source.location, task.source.stat):
        return replace(task, action="skip", reason="done before")
    # 2. Another input made it, or someone has changed it since.
    if line.input != storage.absolute(task.source.location):
        return None
    if line.output_stamp and not is_intact:
        return None
    # 3. It is ours and out of date.
    return replace(
        task, replace=True, reason="the input has changed" if is_same else OTHER_SETTINGS
    )


def _decide_all(tasks: list[Task], journals: dict[str, Journal], outputs: Outputs) -> list[Task]:
    """Decide what is done, skipped and failed; refuse outputs that exist and are not ours."""
    listings = {root: _listing(root) for root in journals if is_url(root)}
    decided, existing = [], []
    for task in tasks:
        if task.source.error:
            decided.append(replace(task, action="fail", reason=task.source.error))
            continue
        journal = journals.get(task.root or "")
        result = decide(task, _output_stat(task, listings), journal, outputs)
        if result is None and journal is not None:  # another process may have made it just now
            journal.refresh()
            result = decide(task, _output_stat(task, listings), journal, outputs)
        if result is None:
            existing.append(task.output)
        else:
            decided.append(result)
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}{more} exists; give --overwrite or --skip-existing")
    for task in decided:
        if task.action == "do" and not task.replace and not outputs.overwrite:
            for path, _ in task.maps:
                if os.path.lexists(path):
                    raise UsageError(f"{path} exists; give --overwrite or another name")
    return decided


def _output_stat(task: Task, listings: Mapping[str, dict[str, Stat]]) -> Stat | None:
    if task.output == STDOUT:
        return None
    if task.root is not None and task.root in listings:
        return listings[task.root].get(task.relative)
    try:
        now = storage.try_stat(task.output)
    except IsADirectoryError as error:
        raise UsageError(f"output {task.output} is a folder; end it with /") from error
    except OSError as error:
        raise UsageError(f"output {task.output}: {reason(error)}") from error
    if now is None and not is_url(task.output) and os.path.lexists(task.output):
        return Stat(-1, "")  # a dangling link
    return now


def _listing(root: str) -> dict[str, Stat]:
    """Return the stat of everything in a folder of an object store, by relative path."""
    file_system, path = storage.open_url(root)
    file_system.invalidate_cache()
    try:
        files = file_system.find(path, detail=True)
    except FileNotFoundError:
        return {}
    start = len(path.rstrip("/")) + 1
    return {name[start:]: storage.url_stat(info) for name, info in files.items()}


def _without_own_outputs(tasks: list[Task], journals: dict[str, Journal]) -> tuple[list[Task], int]:
    """Leave out sources that are outputs: a folder that holds both can be enlarged again.

    A journal knows them; of pictures that were named themselves (by the shell's ``*.png``, too),
    those whose own input is named beside them. Or they say so themselves, and their input is here.

    Returns:
        The others, and how many are to be told of: that a folder's journal knows them is no news.
    """
    named = {storage.absolute(task.source.location) for task in tasks}
    sources = list({id(task.source): task.source for task in tasks}.values())
    outputs: set[str] = set()
    if len(sources) > 1:
        from upscale.batch.journal import outputs_among

        outputs = outputs_among(sources)
    kept, told = [], set()
    for task in tasks:
        source, root = task.source, task.root or ""
        journal, line = journals.get(root), None
        if journal is not None and source.stat and naming.is_inside(source.location, root):
            line = journal.get(naming.relative_to(source.location, root))
        is_output = line is not None and line.input != storage.absolute(source.location)
        is_left = line is not None and is_output and bool(source.tree or line.input in named)
        if not is_left and source.location not in outputs:
            kept.append(task)
        elif not is_left or source.tree is None:
            told.add(source.location)
    if not kept:
        raise NothingNewError("no picture found that is not itself an output of an earlier run")
    return kept, len(told)


def _refuse_collisions(tasks: Sequence[Task]) -> None:
    """Refuse two sources with one output, and an output that is a source."""
    files = [task for task in tasks if task.output != STDOUT]
    inputs = {_identity(task.source.location) for task in files}
    outputs: dict[str, Task] = {}
    folds: dict[str, Task] = {}
    for task in files:
        own = naming.key(task.output)
        if own in inputs or _identity(task.output) in inputs:
            raise UsageError(f"output {task.output} is an input too; choose another with -o")
        other, why = outputs.setdefault(own, task), ""
        if other is task:
            other = folds.setdefault(naming.folded(own), task)
            why = " (this file system ignores case)"
            if other is not task and _tells_case(task.output):
                continue
        if other is not task:
            names = f"{other.source.location} and {task.source.location}"
            remedy = _remedy(other, task, files)
            raise UsageError(f"{names} would both become {task.output}{why}; {remedy}")


def _remedy(task: Task, other: Task, files: Sequence[Task]) -> str:
    """What tells two pictures of one name apart: their folders, or their extensions."""
    if naming.split_name(task.source.location) == naming.split_name(other.source.location):
        return "enlarge them in runs of their own, each with another -o"
    names = [naming.split_name(file.source.location) for file in files]
    folder = "" if task.root in (None, ".") else f"{task.root}".rstrip("/") + "/"
    folder = folder.replace("{", "{{").replace("}", "}}")
    folder += "{parent}/" if len({parent for parent, _, _ in names}) > 1 else ""
    ext = "_{page}" * bool(task.page) + "_{input_ext}" * (len({ext for _, _, ext in names}) > 1)
    return f"use a template such as -o {shlex.quote(folder + '{stem}' + ext + '.{ext}')}"


def _identity(location: str) -> str:
    return location if is_url(location) or location == STDIN else os.path.realpath(location)


def _tells_case(output: str) -> bool:
    """Whether the file system of an output tells ``A`` from ``a``, from names that exist."""
    if is_url(output):
        return True
    folder = os.path.realpath(os.path.dirname(output) or ".")
    while folder != os.path.dirname(folder):
        name = os.path.basename(folder)
        twin = os.path.join(os.path.dirname(folder), name.swapcase())
        if name.swapcase() != name and os.path.exists(folder):
            return not (os.path.exists(twin) and os.path.samefile(folder, twin))
        folder = os.path.dirname(folder)
    return os.name == "posix"


def _refuse_folders(tasks: list[Task]) -> None:
    """Refuse outputs whose folder is missing (for a single file), a file, or not writable."""
    checked: set[str] = set()
    for task in tasks:
        folder = os.path.dirname(task.output) or "."
        if task.output == STDOUT or is_url(task.output) or folder in checked:
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


def _shard(tasks: list[Task], shard: tuple[int, int] | None) -> list[Task]:
    """Return the tasks of one part; which part a task is in depends on its place alone."""
    if shard is None:
        return tasks
    index, count = shard
    names = [os.fsencode(task.relative or task.source.relative) for task in tasks]
    parts = [int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % count for name in names]
    return [task for task, part in zip(tasks, parts, strict=True) if part == index - 1]
