"""Make the next item while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None]) -> Iterator[T]:
    """Give the items of a generator, which runs in a thread of its own, one item ahead.

    A GPU computes the next rows while the last ones are put together on the CPU. What the generator
    raises is raised here; it is closed when it is left early.
    """
    made: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    wanted = threading.Semaphore(1)
    left = threading.Event()

    def work() -> None:
        error: BaseException = StopIteration()
        try:
            wanted.acquire()
            while not left.is_set():
                made.put((next(items), None))
                wanted.acquire()
            items.close()
        except BaseException as raised:  # noqa: BLE001 - raised again by the one who waits
            error = raised
        made.put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            wanted.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        left.set()
        wanted.release()
        thread.join()
