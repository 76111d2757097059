"""Several pictures out, into one file or through a pipe: ``create_pages`` gives what takes them.

A multi-page file is made by the function of its format in ``PAGES``; through a pipe go the frames
of a video, or the files of pictures, one after the other.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO, Protocol

import numpy as np

from upscale.errors import ImageError
from upscale.image import y4m
from upscale.image.metadata import Metadata, strip_metadata
from upscale.image.model import Encoding, Pixels, Shape
from upscale.image.series import ENDS
from upscale.image.tiffwriter import TiffPages, needs_big
from upscale.image.writer import PageWriter, create
from upscale.strips import gathered


class Page(Protocol):
    """One page that is to be written."""

    @property
    def losses(self) -> tuple[str, ...]:
        """What it cannot hold, one sentence each."""

    def write(self, rows: Iterable[Pixels]) -> None:
        """Write it; errors are those of ``Writer.write``."""


class Pages(Protocol):
    """Takes pages, one after the other."""

    def page(
        self, shape: Shape, dtype: Any, metadata: Metadata, *, has_alpha: bool = False
    ) -> Page:
        """Prepare for the next page; errors are those of ``create``."""

    def close(self) -> None:
        """Write what stands at the end."""


def create_pages(
    file: BinaryIO,
    format: str,  # noqa: A002 - the name of the option
    encoding: Encoding,
    count: int | None,
    *,
    is_timed: bool = False,
    is_pipe: bool = False,
) -> Pages:
    """Prepare to write several pictures.

    Args:
        file: Opened for writing in binary; but for a pipe empty and seekable, readable too.
        format: A key of ``FORMATS``.
        encoding: Quality and so on.
        count: How many there are; None: nobody knows yet.
        is_timed: Each is shown for its time.
        is_pipe: Whether it can only be written to.

    Raises:
        ImageError: The format holds one picture, or does not go through a pipe.
    """
    if format == "y4m":
        return _VideoPages(file, encoding)
    if is_pipe and format in ENDS:
        return _FilePages(file, format, encoding)
    if is_pipe:
        raise ImageError(
            f"several pictures do not go through a pipe as {format.upper()}; give -f png or "
            "-f y4m, or a file: -o FILE"
        )
    if format not in PAGES or (format in ANIMATED and not is_timed):
        many = "several pictures" if count is None else f"{count} pages"
        raise ImageError(
            f"the input has {many} and {format.upper()} holds one"
            f"{', or an animation' * (format in ANIMATED)}; give -f tiff, --page 1, "
            "or {page} in the name"
        )
    return PAGES[format](file, encoding, count)


ANIMATED = ("png", "gif", "webp", "avif")  # they hold frames, each with its time


def _animation(name: str, file: BinaryIO, encoding: Encoding, count: int | None) -> Pages:
    from upscale.image import animation

    if name == "png":
        return animation.ApngPages(file, encoding, count)
    return animation.SpooledPages(name, file, encoding)


class _Tiff:
    """Pages of a TIFF, of any sizes and kinds."""

    def __init__(self, file: BinaryIO, encoding: Encoding, count: int | None) -> None:
        self._file, self._encoding, self._count = file, encoding, count
        self._pages: TiffPages | None = None

    def page(
        self, shape: Shape, dtype: Any, metadata: Metadata, *, has_alpha: bool = False
    ) -> Page:
        """See :class:`Pages`."""
        more = {"has_alpha": has_alpha}
        writer = create(io.BytesIO(), "tiff", shape, dtype, metadata, self._encoding, **more)

        def write(rows: Iterable[Pixels]) -> None:
            if self._pages is None:
                each = needs_big(writer.bytes * (self._count or 1), writer.fitted.metadata)
                self._pages = TiffPages(self._file, big=each or self._count is None)
            writer.write_page(self._pages, writer.strips(rows))

        return PageWriter(write, writer.losses)

    def close(self) -> None:
        """Nothing stands at the end."""


PAGES: dict[str, Callable[[BinaryIO, Encoding, int | None], Pages]] = {
    "tiff": _Tiff,
    **{name: partial(_animation, name) for name in ANIMATED},
}


class _FilePages:
    """Files of pictures, one behind the other."""

    def __init__(self, file: BinaryIO, format: str, encoding: Encoding) -> None:  # noqa: A002
        self._file, self._format, self._encoding = file, format, encoding

    def page(
        self, shape: Shape, dtype: Any, metadata: Metadata, *, has_alpha: bool = False
    ) -> Page:
        """See :class:`Pages`."""
        buffer = io.BytesIO()
        more = {"has_alpha": has_alpha}
        writer = create(buffer, self._format, shape, dtype, metadata, self._encoding, **more)

        def write(rows: Iterable[Pixels]) -> None:
            writer.write(rows)
            self._file.write(buffer.getbuffer())
            self._file.flush()

        return PageWriter(write, writer.losses)

    def close(self) -> None:
        """Nothing stands at the end."""


class _VideoPages:
    """Frames of y4m, all of one size."""

    def __init__(self, file: BinaryIO, encoding: Encoding) -> None:
        self._file, self._encoding = file, encoding
        self._video: y4m.Video | None = None  # of the first frame
        self._begun = False

    def page(
        self, shape: Shape, dtype: Any, metadata: Metadata, *, has_alpha: bool = False
    ) -> Page:
        """See :class:`Pages`; another size is refused."""
        told = strip_metadata(metadata) if metadata.video else metadata  # it had none to lose
        more = {"has_alpha": has_alpha}
        one = create(io.BytesIO(), "y4m", shape, dtype, told, self._encoding, **more)
        video = y4m.header_for(shape, np.dtype(dtype), metadata)
        first = self._video = self._video or video
        if (video.width, video.height) != (first.width, first.height):
            raise ImageError(
                f"a frame of {video.width} x {video.height} pixels in a video of {first.width} x "
                f"{first.height}; give --size WxH"
            )

        def write(rows: Iterable[Pixels]) -> None:
            pixels = gathered(one.strips(rows), shape[0])
            line = b"" if self._begun else first.line()
            self._begun = True
            self._file.write(line + y4m.FRAME + b"\n" + y4m.from_rgb(pixels, first))
            self._file.flush()

        return PageWriter(write, one.losses)

    def close(self) -> None:
        """Nothing stands at the end."""
