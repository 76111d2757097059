"""A function over many items by a few threads, its results in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST_WORKERS = 4
_limit: list[int] = []


def limit(count: int) -> None:
    """Use at most ``count`` threads in this process, of a cluster's worker for example."""
    _limit[:] = [count]


def workers() -> int:
    """Threads that encoding may use: one a core, unless ``limit`` says less."""
    return min([os.cpu_count() or 1, *_limit])


def in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map`` by threads; an item is taken when there is room for it, so memory is bounded."""
    count = min(MOST_WORKERS, workers())
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
