"""Where pictures lie: local files and every file system that fsspec knows, by the same functions.

A location is a string: a local path (as ``os.fsdecode`` gives it, so any bytes are possible) or a
URL (``s3://bucket/a.png``, ``zip://a.png::pictures.zip``, ``memory://a.png``); ``file://`` is a
local path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import select
import stat as stat_bits
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote

from upscale.errors import ImageError, OutputError, reason

URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(://|::)")
WAIT_SECONDS = 0.1  # for a named pipe, between two looks at whether the run was stopped
READ_BYTES = 1 << 26  # of a file that is read into memory; a larger one is read as it is decoded
READ_ONLY_SCHEMES = frozenset({"zip", "tar", "http", "https", "git", "github", "libarchive"})
EXTRAS = {"s3": "s3", "s3a": "s3", "http": "http", "https": "http"}  # of this package, by scheme
STAMPS = (
    *("ETag", "etag", "mtime", "LastModified", "last_modified"),
    *("md5", "checksum", "CRC", "created"),
)


@dataclass(frozen=True)
class Stat:
    """Size in bytes, and a stamp that changes when the content does (mtime, ETag, CRC)."""

    size: int
    stamp: str


def is_url(location: str) -> bool:
    """Whether a location is a URL of fsspec and no local path."""
    return bool(URL.match(location))


def localize(location: str) -> str:
    """Return a ``file://`` URL as the local path that it is; anything else unchanged."""
    for prefix in ("file://", "local://"):
        if location.startswith(prefix):
            return unquote(location[len(prefix) :])
    return location


def absolute(location: str) -> str:
    """Return a local path as an absolute one, so that it means the same from any folder."""
    return location if is_url(location) or location == "-" else os.path.abspath(location)


def scheme(url: str) -> str:
    """Return the (first) scheme of a URL."""
    return re.split(r"://|::", url, maxsplit=1)[0].lower()


def is_read_only(location: str) -> bool:
    """Whether a location is a URL of what can be read alone."""
    return is_url(location) and scheme(location) in READ_ONLY_SCHEMES


@lru_cache(maxsize=256)
def _file_system(base: str) -> Any:
    import fsspec

    return fsspec.core.url_to_fs(base)[0]


def open_url(url: str) -> tuple[Any, str]:
    """Return fsspec's file system and the path in it; an ``ImageError`` says what is missing."""
    import fsspec

    try:
        if "::" in url:  # opening an archive costs its index: once per archive
            path, _, container = url.partition("::")
            file_system = _file_system(f"{scheme(url)}://::{container}")
            return file_system, path.partition("://")[2]
        file_system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = EXTRAS.get(scheme(url))
        remedy = f"pip install 'upscale[{extra}]'" if extra else reason(error)
        raise ImageError(f"{scheme(url)}:// needs packages that are missing: {remedy}") from error
    except ValueError as error:
        raise ImageError(f"{url}: {reason(error)}") from error
    return file_system, path


def stat(location: str) -> Stat:
    """Return size and stamp of a file; one that cannot be reached is an ``OSError``."""
    if not is_url(location):
        return _local_stat(os.stat(location))
    file_system, path = open_url(location)
    return url_stat(file_system.info(path))


def _local_stat(result: os.stat_result) -> Stat:
    if stat_bits.S_ISDIR(result.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not (stat_bits.S_ISREG(result.st_mode) or stat_bits.S_ISFIFO(result.st_mode)):
        raise OSError(errno.EINVAL, "is a device or a socket, not a file")
    return Stat(result.st_size, str(result.st_mtime_ns))


def url_stat(info: dict[str, Any]) -> Stat:
    """Return size and stamp from what fsspec tells about a file."""
    stamp = next((str(info[key]) for key in STAMPS if info.get(key) is not None), "")
    return Stat(int(info.get("size") or 0), stamp)


def read(location: str) -> tuple[bytes, Stat]:
    """Return the whole content of a file and its stat, both of one moment.

    Raises:
        OSError: It cannot be read.
        ImageError: It changed while it was read, twice.
    """
    if is_url(location):
        file_system, path = open_url(location)
        before = url_stat(file_system.info(path))
        return bytes(file_system.cat_file(path)), before
    for _ in range(2):
        with open(location, "rb") as file:
            before = _local_stat(os.fstat(file.fileno()))
            data = file.read()
            after = _local_stat(os.fstat(file.fileno()))
        if before == after and (len(data) == before.size or before.size == 0):
            return data, Stat(len(data), before.stamp)
        time.sleep(0.05)
    raise ImageError(f"{location}: changed while it was read; run again when it is at rest")


@dataclass(frozen=True, eq=False)
class Content:
    """What a picture is read from.

    Attributes:
        where: Its bytes; of a large file on this machine, the path; of a pipe, what reads it.
        stat: Size and stamp when it was opened.
    """

    where: Any
    stat: Stat

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 in hexadecimal; empty for a stream."""
        if isinstance(self.where, str):
            with open(self.where, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return sha256(self.where) if isinstance(self.where, bytes) else ""

    def check_unchanged(self) -> None:
        """Refuse, by an ``ImageError``, rows of which some may be those of another version."""
        if not isinstance(self.where, str):
            return
        try:
            now = stat(self.where)
        except OSError as error:
            raise ImageError(reason(error)) from error
        if now != self.stat:
            raise ImageError("changed while it was read; run again when it is at rest")


def content(location: str, data: Any = None, tick: Callable[[], None] = lambda: None) -> Content:
    """Open a picture's content; errors are those of ``read``.

    Args:
        location: Where it lies.
        data: That of stdin, as bytes or as what reads it.
        tick: Called now and then while a named pipe is waited for; what it raises ends the wait.
    """
    if data is not None:
        return Content(data, Stat(len(data) if isinstance(data, bytes) else 0, ""))
    if not is_url(location):
        if stat_bits.S_ISFIFO(os.stat(location).st_mode):
            data = _read_fifo(location, tick)
            return Content(data, Stat(len(data), ""))
        now = stat(location)
        if now.size > READ_BYTES:
            return Content(location, now)
    return Content(*read(location))


def _read_fifo(path: str, tick: Callable[[], None]) -> bytes:
    """Read a named pipe to its end, without ever waiting where nothing can interrupt it."""
    parts: list[bytes] = []
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            tick()
            if not select.select([number], [], [], WAIT_SECONDS)[0]:
                continue
            part = os.read(number, 1 << 20)
            if part:
                parts.append(part)
            elif parts or sys.platform == "linux":
                return b"".join(parts)
            else:  # elsewhere a pipe that nobody has opened yet reads as empty
                time.sleep(WAIT_SECONDS)
    finally:
        os.close(number)


def read_head(location: str, count: int) -> bytes:
    """Return at most ``count`` bytes from the beginning of a file."""
    if is_url(location):
        file_system, path = open_url(location)
        return bytes(file_system.cat_file(path, start=0, end=count))
    with open(location, "rb") as file:
        return file.read(count)


def try_stat(location: str) -> Stat | None:
    """Return size and stamp of a file, or ``None`` where there is none."""
    try:
        return stat(location)
    except (FileNotFoundError, NotADirectoryError):
        return None


def sha256(data: bytes | memoryview) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def make_folder(location: str) -> None:
    """Make the folder that a file is to lie in."""
    if is_url(location):
        file_system, path = open_url(location)
        with contextlib.suppress(NotImplementedError, PermissionError):
            file_system.makedirs(file_system._parent(path), exist_ok=True)
        return
    os.makedirs(os.path.dirname(location) or ".", exist_ok=True)


def write(
    location: str, data: bytes, *, replace: bool, before: Callable[[], None] = lambda: None
) -> Stat:
    """Write an object of an object store, which shows it only once it is whole.

    ``before`` is called just before. One that exists and may not be replaced, or that arrives
    differently, is an ``OutputError``.
    """
    file_system, path = open_url(location)
    if not replace and file_system.exists(path):
        raise OutputError(f"{location}: exists; --overwrite replaces it")
    before()
    file_system.pipe_file(path, data)
    file_system.invalidate_cache(file_system._parent(path))
    result = url_stat(file_system.info(path))
    if result.size != len(data):
        raise OutputError(f"{location}: {result.size} of {len(data)} bytes arrived")
    return result
