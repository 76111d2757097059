"""The one job: all that is ever done to a picture, or to page after page, and where results go."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from upscale import files, memory
from upscale.bars import followed
from upscale.errors import ImageError, OutputError, reason
from upscale.image import (
    FORMATS,
    Encoding,
    Image,
    Reader,
    create,
    probe,
    strip_metadata,
    with_provenance,
)
from upscale.image import open as open_image
from upscale.inference import Progress
from upscale.settings import Settings
from upscale.strips import ahead
from upscale.upscaler.enlargement import Enlargement, Variances
from upscale.upscaler.networks import Networks
from upscale.upscaler.result import Result

if TYPE_CHECKING:
    from upscale.image import Page, Pages

# Takes all strips of a result; what it cannot hold is refused before the first, or is what it gives
# back, one sentence each.
Write = Callable[[Enlargement], tuple[str, ...]]
Run = Callable[[Reader, Write, Progress], Result]  # ``process`` for one page
_Enlarged = tuple[Result, list[Callable[[], None]]]  # and what encodes it


def process(
    reader: Reader,
    write: Write,
    upscaler: Networks,
    settings: Settings,
    progress: Progress | bool | None = None,
) -> Result:
    """Enlarge the picture that a reader gives and write it.

    Files, folders, stdin, watched folders, the workers of a cluster and ``Upscaler``'s own methods
    differ only in who calls this and in what opens its two ends.

    Args:
        reader: The picture; of a large one, only the rows in work are in memory.
        write: Where the result goes: :func:`to_file` or :func:`to_memory`.
        upscaler: The loaded model.
        settings: As the model was loaded with, but for what one picture may have otherwise.
        progress: Called with the tiles done, the one in work in part, and all tiles; True: a bar.

    Raises:
        ImageError: The picture is damaged, or its format cannot hold the result.
        OutOfMemoryError: Not even the smallest tile fits.
        UsageError: Options do not fit the format.
    """
    started = time.perf_counter()
    with followed(progress, "upscale") as told:
        result = _written(Enlargement(upscaler, reader, settings, told), write)
    return changed(result, seconds=time.perf_counter() - started)


def process_together(
    readers: Sequence[Reader], writes: Sequence[Write], upscaler: Networks, settings: Settings
) -> list[Result]:
    """:func:`process` for small pictures of one height and width, run through the network at once.

    A GPU is not busy with one small picture. On the same device in the same company the results
    are the same; in another, their last bit may differ. Each result has its share of the seconds.
    """
    started = time.perf_counter()
    pictures = [Enlargement(upscaler, reader, settings) for reader in readers]
    Enlargement.run_together(pictures)
    results = [_written(picture, write) for picture, write in zip(pictures, writes, strict=True)]
    share = (time.perf_counter() - started) / len(pictures)
    return [changed(result, seconds=share) for result in results]


def _written(picture: Enlargement, write: Write) -> Result:
    losses = write(picture)
    return changed(picture.result, losses=(*picture.metadata.notes, *losses))


def to_memory(images: list[Image], variances: Variances | None = None) -> Write:
    """Append a result to ``images``; ``variances`` takes those of its rows."""

    def write(picture: Enlargement) -> tuple[str, ...]:
        picture.variances = variances
        pixels = memory.whole(picture, picture.shape, picture.dtype)
        images.append(Image(pixels, picture.metadata))
        return ()

    return write


def to_file(file: BinaryIO, format: str, settings: Settings, **more: Any) -> Write:  # noqa: A002
    """:func:`to_writer` for a file, empty and opened for reading and writing in binary."""
    begin = partial(create, file, format, encoding=encoding_of(settings))
    return to_writer(begin, settings, **more)


def same_format(name: str) -> str:
    """A format where it can be written, else PNG."""
    return name if name in FORMATS and FORMATS[name].writable and FORMATS[name].kept else "png"


def encoding_of(settings: Settings) -> Encoding:
    """How pictures are to be written."""
    return Encoding(settings.quality, settings.lossless, settings.background, settings.palette)


def to_writer(
    begin: Callable[..., Page],
    settings: Settings,
    *,
    later: list[Callable[[], None]] | None = None,
    variances: Variances | None = None,
    record: Mapping[str, str] | None = None,
    is_first: bool = True,
) -> Write:
    """Give a result to a writer.

    Args:
        begin: Called with shape, dtype, metadata and ``has_alpha``; it refuses what it cannot hold,
            and gives the writer.
        settings: Whether metadata are dropped.
        later: The result is held in memory, and what encodes it is appended here: to be called in
            another thread, while the network goes on.
        variances: Takes those of the rows of the result.
        record: What the provenance holds besides.
        is_first: It is the first page, which says how all were made.
    """

    def write(picture: Enlargement) -> tuple[str, ...]:
        picture.variances = variances
        # The record of how it was made holds nothing that changes from run to run: the same
        # settings give the same bytes.
        if settings.strip_metadata:
            metadata = strip_metadata(picture.metadata)
        elif is_first:
            made = picture.result.provenance() | dict(record or {})
            metadata = with_provenance(picture.metadata, made)
        else:
            metadata = picture.metadata
        has_alpha = picture.rest.is_transparent
        writer = begin(picture.shape, picture.dtype, metadata, has_alpha=has_alpha)
        if later is None:
            writer.write(picture)
        else:
            pixels = memory.whole(picture, picture.shape, picture.dtype)
            later.append(lambda: writer.write([pixels]))
        return writer.losses

    return write


def encoded(work: Callable[[BinaryIO], Result]) -> tuple[memoryview, Result]:
    """The bytes of a picture file, which ``work`` writes to the file that it is given."""
    buffer = io.BytesIO()
    result = work(buffer)
    _check_header(buffer.getvalue(), result)
    return buffer.getbuffer(), result


def save(
    path: str,
    work: Callable[[BinaryIO], Result],
    *,
    by_rows: bool,
    replace: bool,
    finished: Callable[[str, str], None] | None = None,
) -> Result:
    """Write a picture file whole, and flushed to the disk, or not at all.

    ``work`` writes it to the file that it is given, which is one in memory unless it goes
    ``by_rows``. Else as :func:`upscale.files.atomic`.
    """
    if not by_rows:
        data, result = encoded(work)
    with files.atomic(path, replace=replace, finished=finished) as file:
        if by_rows:
            result = work(file)
            file.flush()
            _check_header(file.name, result)
        else:
            file.write(data)
    return result


def _check_header(source: bytes | str, result: Result) -> None:
    """Refuse a file whose header says another size than the result has."""
    info = probe(source)
    if (info.width, info.height) != (result.out_width, result.out_height):
        raise OutputError(
            f"the encoder gave {info.width} x {info.height} instead of {result.out_width} x "
            f"{result.out_height} pixels"
        )


def bytes_of(reader: Reader, upscaler: Networks, settings: Settings) -> tuple[int, int]:
    """Bytes that a picture and its result take, decoded."""
    height, width = settings.final_shape(reader.height, reader.width, upscaler.scale)
    pixel = reader.channels * reader.dtype.itemsize
    return reader.width * reader.height * pixel, width * height * pixel


def goes_by_rows(reader: Reader, upscaler: Networks, settings: Settings) -> bool:
    """Whether a picture is too large to be held in memory with its result."""
    return memory.goes_by_rows(*bytes_of(reader, upscaler, settings))


def open_file(source: Path, max_pixels: int) -> Reader:
    """A picture file; an ``ImageError`` says why it cannot be read."""
    try:
        return open_image(source, max_pixels=max_pixels)
    except FileNotFoundError as error:
        raise ImageError(f"no such file: {source}; check the path") from error
    except OSError as error:
        raise ImageError(f"{source}: cannot be read ({reason(error)}); check the path") from error


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse, by an ``OutputError`` before any work, what could not be written in the end."""
    with contextlib.suppress(OSError):
        if source.samefile(target):
            raise OutputError(f"{target} is the input itself; give another output name")
    files.refuse_existing(target, overwrite)
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {target.parent} is read-only; give another output")


def write_pages(
    reader: Reader,
    file: BinaryIO,
    name: str,
    run: Run,
    upscaler: Networks,
    settings: Settings,
    progress: Progress | None = None,
    *,
    is_pipe: bool = False,
    **more: Any,
) -> Result:
    """:func:`process_pages` into a file of the format ``name``, or a pipe."""
    from upscale.image import create_pages  # most files hold one picture

    options = {"is_timed": reader.is_timed, "is_pipe": is_pipe}
    pages = create_pages(file, name, encoding_of(settings), reader.count, **options)

    def held(page: Reader) -> bool:
        return not goes_by_rows(page, upscaler, settings)

    return process_pages(reader, pages, run, settings, progress, held=held, **more)


def process_pages(
    reader: Reader,
    pages: Pages,
    run: Run,
    settings: Settings,
    progress: Progress | None = None,
    *,
    held: Callable[[Reader], bool] = lambda page: True,
    at_once: int = 1,
    record: Mapping[str, str] | None = None,
) -> Result:
    """Enlarge page after page, the next one decoded and the last one encoded meanwhile.

    Args:
        reader: The file or the stream.
        pages: Takes the results.
        run: ``process`` for one page, with the model and the settings.
        settings: As ``to_writer`` takes them.
        progress: Called with the pages done, in part too, and all (of a stream: that came).
        held: Whether a page is held in memory with its result.
        at_once: Pages that are given to ``run`` at once.
        record: As ``to_writer`` takes it.

    Returns: sums over the pages, with the sizes of the first.

    Raises:
        ImageError: With the number of a page that is damaged or not held; those before are written.
    """
    started = time.perf_counter()

    def enlarge(number: int, page: Reader, is_held: bool) -> _Enlarged:
        later: list[Callable[[], None]] | None = [] if is_held else None
        is_first = number == 1
        write = to_writer(pages.page, settings, later=later, record=record, is_first=is_first)
        try:
            return run(page, write, _counted(progress, number, reader.count)), later or []
        except ImageError as error:
            raise ImageError(f"{_word(reader)} {number}: {error}") from error

    waiting: deque[Future[Result]] = deque()
    last: Future[Result] | None = None
    with (
        ThreadPoolExecutor(at_once) as network,
        ThreadPoolExecutor(1) as encoder,
        contextlib.closing(ahead(_decoded(reader, held))) as items,
    ):
        for number, page, is_held in items:
            # One that is not held is written as it is enlarged: behind those before it, and alone.
            while len(waiting) > (at_once if is_held else 0):
                waiting.popleft().result()
            last = encoder.submit(_encode, network.submit(enlarge, number, page, is_held), last)
            if is_held:
                waiting.append(last)
            else:
                last.result()
    if last is None:
        raise ImageError("there is no picture in it; check what makes it")
    total = last.result()
    pages.close()
    return changed(total, seconds=time.perf_counter() - started)


def _encode(enlarged: Future[_Enlarged], before: Future[Result] | None) -> Result:
    """Encode a page behind the one before it; the sum of both results."""
    total = None if before is None else before.result()  # an error before it ends all
    result, later = enlarged.result()
    if later:
        later[-1]()  # one before it is of a group that failed
    return _sum(total, result)


def _counted(progress: Progress | None, number: int, count: int | None) -> Progress:
    """What tells of page ``number`` as a part of all, or of those that came."""

    def told(done: float, total: int) -> None:
        if progress is not None:
            progress(number - 1 + done / max(1, total), count or number)

    return told


def _decoded(reader: Reader, held: Callable[[Reader], bool]) -> Iterator[tuple[int, Reader, bool]]:
    """Each page with its number, and whether it is held: then it is decoded here."""
    number = 1
    try:
        for page in reader.pages():
            is_held = held(page)
            yield number, page.in_memory() if is_held else page, is_held
            number += 1
    except ImageError as error:
        raise ImageError(f"{_word(reader)} {number}: {error}") from error


def _word(reader: Reader) -> str:
    """What a page is called."""
    if reader.format == "tiff":
        return "page"
    return "picture" if reader.count is None and reader.format != "y4m" else "frame"


def _sum(total: Result | None, result: Result) -> Result:
    if total is None:
        return result
    return changed(
        total,
        retries=total.retries + result.retries,
        network_seconds=total.network_seconds + result.network_seconds,
        losses=tuple(dict.fromkeys((*total.losses, *result.losses))),
        hint=total.hint or result.hint,
    )
