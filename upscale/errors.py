"""The exception tree, and what the system's errors are called. Every message is one line.

Exit status of the command line: ``exit_code`` of the error (1: a picture or a file failed; 2: wrong
usage, nothing was started).
"""

from __future__ import annotations

import errno

WORDS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long",
}


class UpscaleError(Exception):
    """Base of every error that the package raises on purpose."""

    exit_code = 1


class UsageError(UpscaleError):
    """An argument or option has a value that cannot be used; nothing was started."""

    exit_code = 2


class ImageError(UpscaleError):
    """A picture cannot be decoded, or cannot be encoded in the format asked for."""


class OutputError(UpscaleError):
    """An output cannot be written: it exists, no folder, read-only, disk full."""


class CheckpointError(UpscaleError):
    """A checkpoint is missing, damaged, or not of the network asked for; nothing was started."""

    exit_code = 2


class ArchitectureError(CheckpointError):
    """The tensors of a checkpoint belong to a network that is unknown or was not asked for."""


class UnknownModelError(CheckpointError):
    """A name that is neither a family, nor weights, nor a file."""


class HashError(CheckpointError):
    """The SHA-256 of a file is not the recorded one."""


class DownloadError(CheckpointError):
    """A checkpoint cannot be fetched, or what came is not the published file."""

    exit_code = 1


class DeviceError(UpscaleError):
    """A device or a precision was asked for that this machine does not have."""

    exit_code = 2


class OutOfMemoryError(UpscaleError):
    """The smallest tile does not fit in memory."""


class DataError(UpscaleError):
    """Training or evaluation data are missing or too small."""


def reason(error: BaseException) -> str:
    """Why an operation failed, on one line and without the name of the file."""
    number = error.errno if isinstance(error, OSError) else None
    if number is not None:
        return WORDS.get(number) or getattr(error, "strerror", "") or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return WORDS[errno.ENOENT]
    return " ".join(str(error).split()) or type(error).__name__
