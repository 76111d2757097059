"""Files on this machine that appear whole or not at all.

Everything that is written goes through ``atomic``: under a temporary name in its own folder,
flushed to the disk, then renamed. The temporary name says which process writes it, so that what a
killed process left behind is known as such (``remove_stale``).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import BinaryIO

from upscale.errors import OutputError, reason

Name = str | os.PathLike[str]

TEMPORARY = re.compile(r"^\.upscale-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]+\.tmp$")
STALE_SECONDS = 24 * 3600.0  # after which a file of another machine's process is taken as left

_own: set[str] = set()  # temporary files of this process


@contextlib.contextmanager
def atomic(
    path: Name,
    *,
    replace: bool,
    finished: Callable[[str, str], None] | None = None,
) -> Iterator[BinaryIO]:
    """Give a file to write and to read that gets its name at the end; after an error it is gone.

    Args:
        path: Its final name.
        replace: Whether an existing file may be replaced.
        finished: Called with the temporary name and the SHA-256 of what was written, just before
            the file is renamed.

    Raises:
        OutputError: The name is taken and may not be replaced.
        OSError: The disk is full, the folder read-only, ...
    """
    with temporary(path) as name:
        with open(name, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest() if finished else ""
        if finished is not None:
            finished(name, digest)
        publish(name, path, replace=replace)


def write_bytes(path: Name, parts: Iterable[bytes], *, overwrite: bool) -> None:
    """Write a file whole or not at all; every failure is an error with its remedy.

    Raises:
        OutputError: It exists and ``overwrite`` is false; no such folder, read-only, no space.
    """
    refuse_existing(path, overwrite)
    try:
        with atomic(path, replace=overwrite) as file:
            for part in parts:
                file.write(part)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def temporary(path: Name) -> Iterator[str]:
    """Give a temporary name in the folder of ``path``; what bears it at the end is removed."""
    folder = os.path.dirname(path) or "."
    unique = f".upscale-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    name = os.path.join(folder, unique)
    _own.add(name)
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
        _own.discard(name)


def publish(name: str, path: Name, *, replace: bool) -> None:
    """Give a finished temporary file its final name in one step, and make that last.

    A ``path`` that exists, where ``replace`` is false, is an ``OutputError``.
    """
    if replace:
        os.replace(name, path)
    else:
        try:
            os.link(name, path)
        except OSError as error:  # the name is taken, or the file system has no hard links
            if os.path.lexists(path):
                raise _exists(path) from error
            os.replace(name, path)
    with contextlib.suppress(OSError):  # not every system opens folders
        number = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _exists(path: Name) -> OutputError:
    return OutputError(f"{os.fspath(path)} exists; give another name, or --overwrite to replace it")


def refuse_existing(path: Name, overwrite: bool) -> None:
    """Refuse, before any work, a name that cannot be written to.

    Raises:
        OutputError: It exists and ``overwrite`` is false, it is a folder, or it lies in none.
    """
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise OutputError(f"{os.fspath(path)} is a folder; give a file name")
    if os.path.exists(path) and not overwrite:
        raise _exists(path)
    if not os.path.isdir(folder):
        raise OutputError(f"the folder {folder} does not exist; create it first")


def cannot_write(path: Name, error: OSError) -> OutputError:
    """The error for a file that the system will not write, with the reason."""
    text = f"{os.fspath(path)}: cannot be written ({reason(error)})"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{text}; free some, or write elsewhere")
    return OutputError(f"{text}; check the folder's permissions")


def remove_own() -> None:
    """Remove the temporary files of this process, which is about to end at once."""
    for name in list(_own):
        with contextlib.suppress(OSError):
            os.unlink(name)


def remove_stale(folder: str) -> int:
    """Remove the temporary files that dead processes left in a folder; return how many."""
    removed, entries = 0, []
    with contextlib.suppress(OSError):
        entries = list(os.scandir(folder))
    for entry in entries:
        match = TEMPORARY.match(entry.name)
        if match and _is_stale(match["host"], int(match["pid"]), entry):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
                removed += 1
    return removed


def _is_stale(host: str, pid: int, entry: os.DirEntry[str]) -> bool:
    if host == _host() and os.name == "posix":
        if pid == os.getpid():  # this process, or one before it that had its number
            return entry.name not in {os.path.basename(name) for name in list(_own)}
        return not _is_alive(pid)
    try:
        return time.time() - entry.stat().st_mtime > STALE_SECONDS
    except OSError:
        return False


@lru_cache(maxsize=1)
def _host() -> str:
    """Name this machine, and on Linux its container, where the same number is another process."""
    name = socket.gethostname()
    with contextlib.suppress(OSError, AttributeError):
        name += " " + os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
