"""From what was named (files, folders, globs, lists, URLs) to pictures, in a fixed order."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from upscale import storage
from upscale.batch import naming
from upscale.errors import ImageError, UsageError, reason
from upscale.options import Selection
from upscale.storage import Stat, is_url, localize

if TYPE_CHECKING:
    from upscale.image import Series

STDIN = "-"
GLOB = frozenset("*?[")
HIDDEN = ".upscale"  # the folder of the journal
MAX_LIST_BYTES = 2**30
POLL_SECONDS = 0.5
SETTLE_SECONDS = 1.0
NOTHING = Selection()


@dataclass(frozen=True)
class Input:
    """A picture to enlarge.

    Attributes:
        location: Path or URL; ``-`` is stdin.
        relative: Its place in the tree it was found in, with forward slashes; the output folder
            mirrors it.
        stat: Size and stamp; ``None`` for stdin and for what cannot be reached.
        tree: The folder that was searched, or ``None`` for a picture named itself.
        error: Why it cannot be read, or empty.
        data: The content, where it is stdin: the bytes of a picture, or several pictures.
    """

    location: str
    relative: str
    stat: Stat | None = None
    tree: str | None = None
    error: str = ""
    data: bytes | Series | None = field(default=None, repr=False)


def discover(
    names: Iterable[str],
    selection: Selection = NOTHING,
    output: str | None = None,
    unread: list[str] | None = None,
) -> list[Input]:
    """Return the pictures that were named, each once; nothing is decoded.

    Args:
        names: Files, folders, globs, URLs, or ``-``, as named on the command line.
        selection: What is taken from folders, and a list of further inputs.
        output: As in ``Outputs``: where it is a folder, that is not searched.
        unread: Takes the locations of pictures in folders that no format reads.

    Raises:
        UsageError: Nothing is named, or stdin is named as the list and as a picture.
    """
    names = list(names)
    if not names and selection.files_from is None:
        raise UsageError("no input: name files, folders, globs, URLs, or -; see 'upscale --help'")
    if selection.files_from == STDIN and STDIN in names:
        raise UsageError("stdin is named as the list and as a picture: give one of the two")
    is_folder = output is not None and naming.kind_of(output, many=True) == "folder"
    search = _Search(selection, localize(output) if output and is_folder else None, unread)
    inputs: dict[str, Input] = {}
    for name in names:
        for source in search.expand(localize(name)):
            inputs.setdefault(source.location, source)
    for name, place in read_list(selection):
        for source in search.listed(localize(name), place):
            inputs.setdefault(source.location, source)
    return list(inputs.values())


@lru_cache(maxsize=1)
def extensions() -> frozenset[str]:
    """Return the extensions of pictures that can be read, lower case, without dot."""
    from upscale.image import FORMATS

    return frozenset(ext for format_ in FORMATS.values() for ext in format_.extensions)


class _Search:
    """One search by a selection, which leaves out the folder of the outputs."""

    def __init__(
        self, selection: Selection, output: str | None, unread: list[str] | None = None
    ) -> None:
        self._selection, self._output = selection, output
        self._unread = [] if unread is None else unread
        self._skip = None if output is None or is_url(output) else os.path.realpath(output)

    def expand(self, name: str) -> Iterator[Input]:
        """Yield the pictures that one name on the command line stands for."""
        if name == STDIN:
            yield _stdin()
        elif name == "":
            raise UsageError("an input is the empty string; name a file, a folder, or -")
        elif is_url(name):
            yield from self._expand_url(name)
        elif os.path.isdir(name):
            yield from self._walk(name)
        elif not os.path.lexists(name) and GLOB & set(name):
            yield from self._glob(name)
        else:
            yield _file(name, naming.last(name), None)

    def listed(self, name: str, place: str) -> Iterator[Input]:
        """Yield the picture that a list names; folders among them are left out.

        Its own path is mirrored; of a report, the place that it had in the output folder.
        """
        if self._output is None or not place or not naming.is_inside(place, self._output):
            place = ""
        else:
            folder, slash, _ = naming.relative_to(place, self._output).rpartition("/")
            place = folder + slash + naming.last(name)
        if is_url(name):
            yield _file(name, place or naming.last(name), None)
        elif name not in {"", STDIN} and not os.path.isdir(name):
            relative = os.path.normpath(name).replace(os.sep, "/").lstrip("/")
            inside = self._skip and os.path.realpath(name).startswith(self._skip + os.sep)
            is_left = inside or HIDDEN in relative.split("/") or not self._wants(relative)
            if not is_left and not _matches(relative, self._selection.exclude):
                parts = (part for part in relative.split("/") if part != "..")
                yield _file(name, place or "/".join(parts), ".")

    def _takes(self, relative: str, location: str) -> bool:
        """Whether a file at this place in the tree is a picture to enlarge; note unread ones."""
        from upscale.image import UNREAD

        name = naming.last(relative)
        ext = name.rpartition(".")[2].lower()
        if name.startswith(".") or ext not in extensions() | UNREAD or not self._wants(relative):
            return False
        if _matches(relative, self._selection.exclude):
            return False
        if ext in UNREAD:
            self._unread.append(location)
        return ext not in UNREAD

    def _wants(self, relative: str) -> bool:
        """Whether this place is among those that are to be taken alone, if some are."""
        include = self._selection.include
        return not include or _matches(relative, include)

    def _enters(self, relative: str) -> bool:
        """Whether a folder at this place in the tree is searched."""
        return not naming.last(relative).startswith(".") and not _matches(
            relative, self._selection.exclude
        )

    def _walk(self, root: str) -> Iterator[Input]:
        """Search a folder, depth first, names sorted; each once, however links lead to it."""
        seen: set[tuple[int, int]] = set()

        def visit(folder: str, prefix: str) -> Iterator[Input]:
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    return
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as entries:
                    here = sorted(entries, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                place = prefix.rstrip("/") or naming.last(root)
                yield Input(folder, place, None, root, f"folder: {reason(error)}")
                return
            # 1. The pictures of this folder, then those of the folders in it.
            folders = []
            for entry in here:
                relative = prefix + entry.name
                if _is_folder(entry):
                    if self._selection.recursive and self._enters(relative):
                        folders.append((entry.path, relative))
                elif self._takes(relative, entry.path):
                    yield _file(entry.path, relative, root)
            for path, relative in folders:
                if os.path.realpath(path) != self._skip:
                    yield from visit(path, relative + "/")

        yield from visit(root, "")

    def _glob(self, pattern: str) -> Iterator[Input]:
        """Expand a pattern; ``**`` stands for any folders, each entered once whatever the links."""
        first = min(pattern.find(character) for character in GLOB if character in pattern)
        base = os.path.dirname(pattern[:first])
        parts = pattern[len(base) :].replace(os.sep, "/").strip("/").split("/")
        is_deep = "**" in parts or len(parts) > 1
        everything = replace(self._selection, recursive=is_deep, include=())
        is_empty = True
        for source in _Search(everything, self._output)._walk(base or "."):
            is_folder = source.error.startswith("folder:")  # what is in it may have matched
            if not is_folder and not _fits(source.relative.split("/"), parts):
                continue
            if self._wants(source.relative):
                is_empty = False
                is_plain = base or not source.location.startswith("./")
                yield source if is_plain else replace(source, location=source.location[2:])
        if is_empty:
            yield Input(pattern, naming.last(pattern), None, None, "no picture matches")

    def _expand_url(self, url: str) -> Iterator[Input]:
        try:
            file_system, path = storage.open_url(url)
            if storage.scheme(url) in {"http", "https"}:
                yield _file(url, naming.last(url.partition("?")[0]), None)
            elif GLOB & set(path):
                base = path[: min(path.find(c) for c in GLOB if c in path)].rpartition("/")[0]
                yield from self._url_files(url, file_system.glob(path, detail=True), base)
            elif file_system.isdir(path) or path in {"", "/"}:
                depth = None if self._selection.recursive else 1
                files = file_system.find(path, maxdepth=depth, detail=True)
                yield from self._url_files(url, files, path)
            else:
                yield _file(url, naming.last(url), None)
        except (OSError, ImageError) as error:
            yield Input(url, naming.last(url), None, None, reason(error))

    def _url_files(
        self, url: str, files: dict[str, dict[str, object]], base: str
    ) -> Iterator[Input]:
        """What a file system lists below ``base``, as far as it is to be taken."""
        chain, prefix = url.partition("::")[2], base.strip("/")
        for path, info in sorted(files.items()):
            inner = path.strip("/")
            relative = inner[len(prefix) :].lstrip("/") if inner.startswith(prefix) else inner
            relative = naming.relative(relative)
            location = f"{storage.scheme(url)}://{path}" + (f"::{chain}" if chain else "")
            folders = map(str, PurePosixPath(relative).parents[:-1])
            is_entered = all(map(self._enters, folders))
            is_file = info.get("type") != "directory"
            if is_file and is_entered and self._takes(relative, location):
                yield Input(location, relative, storage.url_stat(info), url)


def _stdin() -> Input:
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise UsageError(f"- is stdin, which is {state}; pipe a picture into it")
    from upscale.image import Series

    try:
        series = Series(sys.stdin.buffer)
    except ImageError as error:
        return Input(STDIN, "stdin", Stat(0, ""), error=str(error), data=b"")
    size = Stat(len(series.first), "")
    return Input(STDIN, "stdin", size, data=series.first if series.is_one else series)


def _file(location: str, relative: str, tree: str | None) -> Input:
    try:
        return Input(location, relative, storage.stat(location), tree)
    except (OSError, ImageError) as error:
        return Input(location, relative, None, tree, reason(error))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _matches(relative: str, patterns: tuple[str, ...]) -> bool:
    """Whether a place in the tree, or its name alone, matches one of some patterns."""
    names = (relative, naming.last(relative))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _fits(places: list[str], parts: list[str]) -> bool:
    """Whether a path, part by part, fits a pattern."""
    if not parts:
        return not places
    if parts[0] == "**":
        return _fits(places, parts[1:]) or (bool(places) and _fits(places[1:], parts))
    return (
        bool(places) and fnmatch.fnmatchcase(places[0], parts[0]) and _fits(places[1:], parts[1:])
    )


def read_list(selection: Selection) -> list[tuple[str, str]]:
    """Return the names in the list of a selection, each with the output that a report gave it.

    Names are separated by newlines or by NUL. A report of an earlier run (one JSON object a line)
    may be given instead: its failures are taken.

    Raises:
        UsageError: It cannot be read, is larger than 1 GiB, or is separated by NUL and that was not
            said.
    """
    name = selection.files_from
    if name is None:
        return []
    if name == STDIN and sys.stdin is None:
        raise UsageError("--files-from - is stdin, which is closed; pipe a list into it")
    try:
        with nullcontext(sys.stdin.buffer) if name == STDIN else open(name, "rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--files-from {name}: {reason(error)}") from error
    if len(data) > MAX_LIST_BYTES:
        raise UsageError(f"the list of files is larger than {MAX_LIST_BYTES} bytes; divide it")
    if selection.null:
        return [(os.fsdecode(line), "") for line in data.split(b"\0") if line]
    if b"\0" in data:
        raise UsageError("the list of files is separated by NUL; give -0 too")
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    lines = [line for line in lines if line]
    if lines and all(line.startswith(b'{"input":') for line in lines):
        return _failures(lines)
    return [(os.fsdecode(line), "") for line in lines]


def _failures(lines: list[bytes]) -> list[tuple[str, str]]:
    """Return input and output of what failed in a report and was not done later in it."""
    failed: dict[tuple[str, str], None] = {}  # in their order; an input may have many outputs
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"the report has a damaged line: {line[:60]!r}") from error
        name, output = record.get("input"), str(record.get("output") or "")
        if isinstance(name, str) and record.get("status") == "failed":
            failed[name, output] = None
        else:
            failed.pop((name, output), None)
            failed.pop((name, ""), None)
    return list(failed)


class Watcher:
    """Remembers what was seen in a folder, and tells which pictures are at rest and new."""

    def __init__(
        self, settle: float = SETTLE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing seen; size and time must stay the same for ``settle`` seconds."""
        self._settle, self._clock = settle, clock
        self._seen: dict[str, tuple[Stat, float]] = {}
        self._taken: dict[str, Stat] = {}

    def ready(self, inputs: Sequence[Input]) -> list[Input]:
        """Return the pictures that are at rest and were not returned as they are now."""
        now, rested = self._clock(), []
        for source in inputs:
            if source.stat is None or source.stat.size == 0:
                continue
            stat, since = self._seen.get(source.location, (None, now))
            if stat != source.stat:
                self._seen[source.location] = (source.stat, now)
            elif now - since >= self._settle and self._taken.get(source.location) != stat:
                self._taken[source.location] = source.stat
                rested.append(source)
        for location in set(self._seen) - {source.location for source in inputs}:
            self._seen.pop(location)
            self._taken.pop(location, None)
        return rested
