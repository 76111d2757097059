"""From what was named (files, folders, globs, lists, URLs) to pictures, in a fixed order."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from upscale import storage
from upscale.batch import naming
from upscale.batch.journal import FOLDER
from upscale.errors import ImageError, UsageError
from upscale.settings import Selection
from upscale.storage import Stat, is_url, localize

if TYPE_CHECKING:
    from upscale.image import Series

STDIN = "-"
GLOB = frozenset("*?[")
MAX_LIST_BYTES = 2**30


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


@dataclass(frozen=True)
class Listed:
    """A name in a list.

    Attributes:
        name: Path or URL.
        output: Where it was to go, if the list is the report of an earlier run; else empty.
    """

    name: str
    output: str = ""


@dataclass(frozen=True)
class Filters(Selection):
    """What a search of folders takes: a selection, and what it does not say.

    Attributes:
        extensions: Extensions of pictures, lower case, without dot.
        output: The output folder, or ``None``; it is not searched.
    """

    extensions: frozenset[str] = frozenset()
    output: str | None = None

    @property
    def skip(self) -> str | None:
        """The folder on this machine that is not searched."""
        return None if self.output is None or is_url(self.output) else self.output

    def takes(self, relative: str) -> bool:
        """Whether a file at this place in the tree is a picture to enlarge."""
        name = _last(relative)
        if name.startswith(".") or name.rpartition(".")[2].lower() not in self.extensions:
            return False
        return self.wants(relative) and not any(
            _matches(part, self.exclude) for part in _prefixes(relative)
        )

    def wants(self, relative: str) -> bool:
        """Whether this place is among those that are to be taken alone, if some are."""
        return not self.include or _matches(relative, self.include)

    def enters(self, relative: str) -> bool:
        """Whether a folder at this place in the tree is searched."""
        return not _last(relative).startswith(".") and not _matches(relative, self.exclude)


def _prefixes(relative: str) -> list[str]:
    parts = relative.split("/")
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _matches(relative: str, patterns: tuple[str, ...]) -> bool:
    """Whether a place in the tree, or its name alone, matches one of some patterns."""
    names = (relative, _last(relative))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def discover(inputs: Iterable[str], listed: Iterable[Listed], filters: Filters) -> list[Input]:
    """Return the pictures that were named.

    Args:
        inputs: Files, folders, globs, URLs, or ``-``, as named on the command line.
        listed: Files from a list; their own paths are mirrored (of a report: the places that they
            had in the output folder), folders among them are left out.
        filters: What a search of folders and globs takes.
    """
    sources: dict[str, Input] = {}  # each once
    for name in inputs:
        for source in _expand(localize(name), filters):
            sources.setdefault(source.location, source)
    for item in listed:
        for source in _listed(replace(item, name=localize(item.name)), filters):
            sources.setdefault(source.location, source)
    return list(sources.values())


def _expand(name: str, filters: Filters) -> Iterator[Input]:
    if name == STDIN:
        yield _stdin()
    elif name == "":
        raise UsageError("an input is the empty string; name a file, a folder, or -")
    elif is_url(name):
        yield from _expand_url(name, filters)
    elif os.path.isdir(name):
        yield from _walk(name, filters)
    elif not os.path.lexists(name) and GLOB & set(name):
        yield from _glob(name, filters)
    else:
        yield _file(name, _last(name), None)


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


def _last(path: str) -> str:
    return path.replace(os.sep, "/").rstrip("/").rpartition("/")[2] or path


def _file(location: str, relative: str, tree: str | None) -> Input:
    try:
        return Input(location, relative, storage.stat(location), tree)
    except (OSError, ImageError) as error:
        return Input(location, relative, None, tree, storage.reason(error))


def _walk(root: str, filters: Filters) -> Iterator[Input]:
    """Search a folder, depth first, names sorted; each folder once, however links lead to it."""
    skip = None if filters.skip is None else os.path.realpath(filters.skip)
    seen: set[tuple[int, int]] = set()

    def visit(folder: str, prefix: str) -> Iterator[Input]:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        folders = []
        for entry in found:
            relative = prefix + entry.name
            if _is_folder(entry):
                if filters.recursive and filters.enters(relative):
                    folders.append((entry.path, relative))
            elif filters.takes(relative):
                yield _file(entry.path, relative, root)
        for path, relative in folders:
            if os.path.realpath(path) == skip:
                continue
            try:
                yield from visit(path, relative + "/")
            except OSError as error:
                yield Input(path, relative, None, root, f"folder: {storage.reason(error)}")

    try:
        yield from visit(root, "")
    except OSError as error:
        yield Input(root, _last(root), None, root, f"folder: {storage.reason(error)}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _glob(pattern: str, filters: Filters) -> Iterator[Input]:
    """Expand a pattern; ``**`` stands for any folders, each entered once whatever the links."""
    first = min(pattern.find(character) for character in GLOB if character in pattern)
    base = os.path.dirname(pattern[:first])
    parts = pattern[len(base) :].replace(os.sep, "/").strip("/").split("/")
    everything = replace(filters, recursive="**" in parts or len(parts) > 1, include=())
    taken = 0
    for source in _walk(base or ".", everything):
        places = source.relative.split("/")
        is_folder = source.error.startswith("folder:")  # what is in it may have matched
        if not is_folder and not _fits(places, parts):
            continue
        if not filters.wants(source.relative):
            continue
        taken += 1
        plain = base or not source.location.startswith("./")
        yield source if plain else replace(source, location=source.location[2:])
    if not taken:
        yield Input(pattern, _last(pattern), None, None, "no picture matches")


def _fits(places: list[str], parts: list[str]) -> bool:
    """Whether a path, part by part, fits a pattern."""
    if not parts:
        return not places
    if parts[0] == "**":
        return _fits(places, parts[1:]) or (bool(places) and _fits(places[1:], parts))
    return (
        bool(places) and fnmatch.fnmatchcase(places[0], parts[0]) and _fits(places[1:], parts[1:])
    )


def _expand_url(url: str, filters: Filters) -> Iterator[Input]:
    try:
        file_system, path = storage.open_url(url)
        if storage.scheme(url) in {"http", "https"}:
            yield _file(url, _last(url.partition("?")[0]), None)
        elif GLOB & set(path):
            base = path[: min(path.find(c) for c in GLOB if c in path)].rpartition("/")[0]
            yield from _url_files(url, file_system.glob(path, detail=True), base, filters)
        elif file_system.isdir(path) or path in {"", "/"}:
            depth = None if filters.recursive else 1
            found = file_system.find(path, maxdepth=depth, detail=True)
            yield from _url_files(url, found, path, filters)
        else:
            yield _file(url, _last(url.partition("::")[0]), None)
    except (OSError, ImageError) as error:
        yield Input(url, _last(url.partition("::")[0]), None, None, storage.reason(error))


def _url_files(
    url: str, found: dict[str, dict[str, object]], base: str, filters: Filters
) -> Iterator[Input]:
    """What a file system lists below ``base``, as far as it is to be taken."""
    chain = url.partition("::")[2]
    prefix = base.strip("/")
    for path, info in sorted(found.items()):
        inner = path.strip("/")
        relative = inner[len(prefix) :].lstrip("/") if inner.startswith(prefix) else inner
        relative = naming.relative(relative)
        is_taken = info.get("type") != "directory" and filters.takes(relative)
        if not is_taken or not all(map(filters.enters, _prefixes(relative)[:-1])):
            continue
        location = f"{storage.scheme(url)}://{path}" + (f"::{chain}" if chain else "")
        yield Input(location, relative, storage.url_stat(info), url)


def _listed(item: Listed, filters: Filters) -> Iterator[Input]:
    name, place = item.name, _place(item, filters.output)
    if name in {"", STDIN}:
        return
    if is_url(name):
        yield _file(name, place or _last(name.partition("::")[0]), None)
        return
    if os.path.isdir(name):
        return
    inside = os.path.abspath(name)
    if filters.skip is not None and inside.startswith(os.path.abspath(filters.skip) + os.sep):
        return
    relative = os.path.normpath(name).replace(os.sep, "/").lstrip("/")
    parts = relative.split("/")
    if FOLDER in parts or _matches(relative, filters.exclude) or not filters.wants(relative):
        return
    yield _file(name, place or "/".join(part for part in parts if part != ".."), ".")


def _place(item: Listed, output: str | None) -> str:
    """Return the place in the tree at which a report has a picture; empty where it has none."""
    if not item.output or output is None or not naming.is_inside(item.output, output):
        return ""
    folder, separator, _ = naming.relative_to(item.output, output).rpartition("/")
    name = item.name.partition("::")[0] if is_url(item.name) else item.name
    return folder + separator + _last(name)


def listed_in(selection: Selection) -> tuple[Listed, ...]:
    """Return the names in the list of a selection; none where there is no list.

    Raises:
        UsageError: It cannot be read.
    """
    name = selection.files_from
    if name is None:
        return ()
    if name == STDIN and sys.stdin is None:
        raise UsageError("--files-from - is stdin, which is closed; pipe a list into it")
    try:
        with nullcontext(sys.stdin.buffer) if name == STDIN else open(name, "rb") as file:
            return tuple(read_list(file, null=selection.null))
    except OSError as error:
        raise UsageError(f"--files-from {name}: {error.strerror}") from error


def read_list(stream: BinaryIO, *, null: bool) -> list[Listed]:
    """Return the names in a list, separated by newlines or by NUL.

    A report of an earlier run (one JSON object a line) may be given instead: its failures are
    taken.

    Raises:
        UsageError: The list is larger than 1 GiB, or separated by NUL and ``null`` is false.
    """
    data = stream.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise UsageError(f"the list of files is larger than {MAX_LIST_BYTES} bytes; divide it")
    if null:
        return [Listed(os.fsdecode(name)) for name in data.split(b"\0") if name]
    if b"\0" in data:
        raise UsageError("the list of files is separated by NUL; give -0 too")
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    lines = [line for line in lines if line]
    if lines and all(line.startswith(b'{"input":') for line in lines):
        return _failures(lines)
    return [Listed(os.fsdecode(line)) for line in lines]


def _failures(lines: list[bytes]) -> list[Listed]:
    """Return the inputs that failed in a report and were not done later in it."""
    failed: dict[str, str] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"the report has a damaged line: {line[:60]!r}") from error
        name = record.get("input")
        if not isinstance(name, str):
            continue
        if record.get("status") == "failed":
            failed[name] = str(record.get("output") or "")
        else:
            failed.pop(name, None)
    return [Listed(name, output) for name, output in failed.items()]
