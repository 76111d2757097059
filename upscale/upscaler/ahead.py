"""Make the next item while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")
WAIT_SECONDS = 0.1


def ahead(items: Generator[T, None, None]) -> Iterator[T]:
    """Give the items of a generator, which runs in a thread of its own, one item ahead.

    A GPU computes the next rows while the last ones are put together on the CPU. What the generator
    raises is raised here; it is closed when it is left early.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(1)
    left = threading.Event()

    def give(item: T | None, error: BaseException | None) -> None:
        while not left.is_set():
            try:
                made.put((item, error), timeout=WAIT_SECONDS)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                give(item, None)
                if left.is_set():
                    break
            items.close()
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            give(None, error)
        else:
            give(None, StopIteration())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        left.set()
        thread.join()
