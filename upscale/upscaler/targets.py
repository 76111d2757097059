"""Where a picture goes: memory, or a file that appears whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from upscale import files
from upscale.errors import ImageError, OutputError
from upscale.image import (
    Encoding,
    Image,
    Metadata,
    Pixels,
    create,
    probe,
    strip_metadata,
    with_provenance,
)
from upscale.image import open as open_image
from upscale.settings import Settings
from upscale.upscaler.result import Result
from upscale.upscaler.stream import Stream, whole

if TYPE_CHECKING:
    from hashlib import _Hash


Aside = Callable[[NDArray[np.float32]], None]


class Sink(Protocol):
    """What takes the strips of a picture."""

    @property
    def losses(self) -> tuple[str, ...]:
        """What it cannot hold, one sentence each."""

    def write(self, rows: Iterable[Pixels]) -> None:
        """Take all strips."""


class Target(Protocol):
    """Where a picture goes."""

    def create(self, stream: Stream) -> Sink:
        """Prepare to take the picture; what cannot be held is refused here, before any work."""


@dataclass
class InMemory:
    """A target that keeps the picture as it is."""

    losses: tuple[str, ...] = ()
    aside: Aside | None = None
    _stream: Stream | None = None
    _image: Image | None = None

    def create(self, stream: Stream) -> InMemory:
        """Nothing is refused."""
        self._stream, stream.aside = stream, self.aside
        return self

    def write(self, rows: Iterable[Pixels]) -> None:
        """Keep the whole picture."""
        assert self._stream is not None
        pixels = whole(rows, self._stream.shape, self._stream.dtype)
        self._image = Image(pixels, self._stream.metadata)

    @property
    def image(self) -> Image:
        """The picture, once it is written."""
        assert self._image is not None
        return self._image


@dataclass
class InFile:
    """A target that encodes the picture into a file.

    Attributes:
        file: Empty, opened for writing in binary, seekable.
        format: Of the output, a key of ``FORMATS``.
        settings: Quality and so on.
        given: Digest of the rows that were written, where it is wanted.
        metadata: Of the output, once it is begun.
        size: Its width and height.
        kind: Channels and dtype of the rows that were written.
        losses: What the format cannot hold.
        aside: Takes the variances of the result as its rows come, (2, h, W).
    """

    file: BinaryIO
    format: str
    settings: Settings
    given: _Hash | None = None
    metadata: Metadata | None = None
    size: tuple[int, int] = (0, 0)
    kind: tuple[int, Any] = (0, None)
    losses: tuple[str, ...] = ()
    aside: Aside | None = None
    _write: Callable[[Iterable[Pixels]], None] | None = None

    def create(self, stream: Stream) -> InFile:
        """Refuse what the format cannot hold.

        Raises:
            ImageError: The format cannot hold the picture.
            UsageError: The options do not fit the format.
        """
        settings, stream.aside = self.settings, self.aside
        self.size, self.kind = (stream.shape[1], stream.shape[0]), (stream.shape[2], stream.dtype)
        self.metadata = _labelled(stream, settings)
        writer = create(
            self.file,
            self.format,
            stream.shape,
            stream.dtype,
            self.metadata,
            Encoding(settings.quality, settings.lossless, settings.background, settings.palette),
            has_alpha=stream.rest.is_transparent,
        )
        self.losses, self._write = writer.losses, writer.write
        return self

    def write(self, rows: Iterable[Pixels]) -> None:
        """Encode the picture."""
        assert self._write is not None
        self._write(rows if self.given is None else self._noted(rows))

    def _noted(self, rows: Iterable[Pixels]) -> Iterator[Pixels]:
        assert self.given is not None
        for strip in rows:
            self.given.update(np.ascontiguousarray(strip).data.cast("B"))
            yield strip


@dataclass
class Behind:
    """A target that takes the picture now and passes it on later, in another thread."""

    target: InFile
    losses: tuple[str, ...] = ()
    memory: InMemory = field(default_factory=InMemory, repr=False)

    def create(self, stream: Stream) -> Behind:
        """As the target itself."""
        self.memory.create(stream)
        self.losses = self.target.create(stream).losses
        return self

    def write(self, rows: Iterable[Pixels]) -> None:
        """Hold the whole picture."""
        self.memory.write(rows)

    def finish(self) -> None:
        """Pass it on."""
        self.target.write([self.memory.image.pixels])


def _labelled(stream: Stream, settings: Settings) -> Metadata:
    """Metadata with the record of how the picture was made, or without what may be dropped.

    The record holds nothing that changes from run to run, so that the same settings give the same
    bytes.
    """
    if settings.strip_metadata:
        return strip_metadata(stream.metadata)
    return with_provenance(stream.metadata, stream.result.provenance())


def encoded(
    format: str,  # noqa: A002 - the name of the option
    settings: Settings,
    work: Callable[[InFile], Result],
) -> tuple[memoryview, Result]:
    """The bytes of a picture file, which ``work`` writes to the target that it is given.

    Raises:
        OutputError: The encoder gave a picture of another size.
    """
    buffer = io.BytesIO()
    target = InFile(buffer, format, settings)
    result = work(target)
    info = probe(buffer.getvalue())
    if (info.width, info.height) != target.size:
        width, height = target.size
        raise OutputError(
            f"the encoder gave {info.width} x {info.height} instead of {width} x {height} pixels"
        )
    return buffer.getbuffer(), result


def save(
    path: str,
    format: str,  # noqa: A002 - the name of the option
    settings: Settings,
    work: Callable[[InFile], Result],
    *,
    by_rows: bool,
    replace: bool,
    finished: Callable[[str, str], None] | None = None,
) -> Result:
    """Write a picture file: whole, flushed to the disk, read back once, or not at all.

    Args:
        path: Its final name.
        format: Its format.
        settings: Quality and so on.
        work: Writes the picture to the target that it is given.
        by_rows: Whether it is too large to be encoded in memory.
        replace: Whether an existing file may be replaced.
        finished: Called with the temporary name and the SHA-256 of the file, just before it is
            renamed.

    Raises:
        OutputError: It exists and may not be replaced, or does not read back.
        OSError: The disk is full, the folder read-only, ...
    """
    if not by_rows:
        data, result = encoded(format, settings, work)
        files.write(path, [data], replace=replace, finished=finished)
        return result
    with files.temporary(path) as name:
        with open(name, "x+b") as file:
            target = InFile(file, format, settings, given=hashlib.sha256())
            result = work(target)
            file.flush()
            os.fsync(file.fileno())
        _read_back(name, target)
        if finished is not None:
            with open(name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            finished(name, digest.hexdigest())
        files.publish(name, path, replace=replace)
    return result


def _read_back(name: str, target: InFile) -> None:
    """Compare what the disk gives with what was written: of a lossless format every pixel."""
    assert target.given is not None
    assert target.metadata is not None
    wrong = OutputError("what was written does not read back; check the disk")
    found = hashlib.sha256()
    try:
        reader = open_image(name, max_pixels=target.size[0] * target.size[1])
        if (reader.width, reader.height) != target.size:
            raise wrong
        for rows in reader.rows():
            found.update(np.ascontiguousarray(rows).data.cast("B"))
    except ImageError as error:
        raise OutputError(f"what was written does not read back: {error}") from error
    m, same = target.metadata, (reader.channels, reader.dtype) == target.kind
    is_exact = same and target.format in ("png", "tiff") and not target.settings.palette
    if is_exact and not m.premultiplied and not m.cmyk and found.digest() != target.given.digest():
        raise wrong
