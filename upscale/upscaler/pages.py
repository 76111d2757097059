"""The pages of a file, or the pictures of a stream: decoded, enlarged and encoded at once."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

from upscale.errors import ImageError
from upscale.image import Pages, Reader
from upscale.inference import Progress
from upscale.settings import Settings
from upscale.strips import ahead
from upscale.upscaler.job import Write, to_writer
from upscale.upscaler.result import Result

Run = Callable[[Reader, Write, Progress], Result]
_Enlarged = tuple[Result, list[Callable[[], None]]]  # and what encodes it


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
    """Enlarge page after page: memory holds few of them, whatever their number.

    While one is in the network, the next is decoded and the last one encoded, each in a thread.

    Args:
        reader: The file or the stream.
        pages: Takes the results.
        run: ``process`` for one page, with the model and the settings.
        settings: Quality and so on.
        progress: Called with the pages done, the one in work in part, and all pages (of a stream:
            those that came).
        held: Whether a page is small enough to be held in memory with its result.
        at_once: Pages that are given to ``run`` at once; a GPU is not busy with one small one.
        record: See ``to_writer``.

    Returns:
        How all were enlarged: sizes are the first one's, seconds and retries of all.

    Raises:
        ImageError: A page is damaged, or the format cannot hold it; with its number. Those before
            it are written.
    """
    started = time.perf_counter()
    waiting: queue.Queue[Future[_Enlarged] | None] = queue.Queue(at_once)  # in their order
    errors: list[BaseException] = []

    def enlarge(number: int, page: Reader, is_held: bool) -> _Enlarged:
        def told(done: float, count: int) -> None:
            if progress is not None:
                progress(number - 1 + done / max(1, count), reader.count or number)

        later: list[Callable[[], None]] = []
        write = to_writer(
            pages.page,
            settings,
            later=later if is_held else None,
            record=record,
            is_first=number == 1,
        )
        try:
            return run(page, write, told), later
        except ImageError as error:
            raise ImageError(f"{_word(reader)} {number}: {error}") from error

    def encode_all() -> Result | None:
        """Encode what comes out of the network, in order, until an error."""
        total: Result | None = None
        while (coming := waiting.get()) is not None:
            try:
                if not errors:
                    result, later = coming.result()
                    if later:
                        later[-1]()  # one before it is of a group that failed
                    total = _sum(total, result)
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
            finally:
                waiting.task_done()
        return total

    with (
        ThreadPoolExecutor(1) as encoder,
        ThreadPoolExecutor(at_once) as network,
        closing(ahead(_decoded(reader, held))) as items,
    ):
        encoding = encoder.submit(encode_all)
        try:
            for number, page, is_held in items:
                if errors:
                    break
                if not is_held:  # it is written as it is enlarged, behind those before it
                    waiting.join()
                waiting.put(network.submit(enlarge, number, page, is_held))
                if not is_held:
                    waiting.join()
        finally:
            waiting.put(None)
            total = encoding.result()  # what came before an error is whole
    if errors:
        raise errors[0]
    if total is None:
        raise ImageError("there is no picture in it; check what makes it")
    pages.close()
    return replace(total, seconds=time.perf_counter() - started)


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
