"""The pages of a file, or the pictures of a stream: decoded, enlarged and encoded at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any, BinaryIO

from upscale.errors import ImageError
from upscale.image import Pages, Reader, create_pages
from upscale.inference import Progress
from upscale.settings import Settings
from upscale.strips import ahead
from upscale.upscaler.job import Write, encoding_of, goes_by_rows, to_writer
from upscale.upscaler.networks import Networks
from upscale.upscaler.result import Result

Run = Callable[[Reader, Write, Progress], Result]
_Enlarged = tuple[Result, list[Callable[[], None]]]  # and what encodes it


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
        closing(ahead(_decoded(reader, held))) as items,
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
    return replace(total, seconds=time.perf_counter() - started)


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
    return replace(
        total,
        retries=total.retries + result.retries,
        network_seconds=total.network_seconds + result.network_seconds,
        losses=tuple(dict.fromkeys((*total.losses, *result.losses))),
        hint=total.hint or result.hint,
    )
