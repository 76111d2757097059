"""Small pictures of one size, taken from the queue together: one alone does not keep a GPU busy."""

from __future__ import annotations

import queue
from collections import deque

from upscale.batch.large import Large
from upscale.batch.stages import Loaded
from upscale.inference import TileOption
from upscale.inference.engine import BATCH_PIXELS, LARGEST_AUTO, MAX_BATCH
from upscale.upscaler import Upscaler

Item = tuple[Loaded | Large, int]  # a picture and its weight in memory


def together_on(upscaler: Upscaler) -> int:
    """Return how many small pictures of one size run at once on a device, at most."""
    return MAX_BATCH if upscaler.device.type == "cuda" else 1


class Groups:
    """What one network takes from the queue: groups of at most ``together`` pictures."""

    def __init__(
        self, ready: queue.Queue[Item | None], together: int, tile: TileOption = "auto"
    ) -> None:
        """Prepare.

        Args:
            ready: The queue; ``None`` is the end for one taker.
            together: Pictures of a group at most; 1: each alone.
            tile: Of the options; a picture that is cut into tiles runs alone.
        """
        self._ready, self._together = ready, together
        self._side = LARGEST_AUTO["cuda"] if isinstance(tile, str) else tile
        self._aside: deque[Item | None] = deque()

    def take(self) -> list[Item] | None:
        """Wait for a picture and take with it what waits beside it; ``None`` at the end."""
        first = self._aside.popleft() if self._aside else self._ready.get()
        if first is None:
            return None
        room = self._room(first[0])
        while room > 1 and len(self._aside) < MAX_BATCH and None not in self._aside:
            try:
                self._aside.append(self._ready.get_nowait())
            except queue.Empty:
                break
        group, others = [first], deque[Item | None]()
        for item in self._aside:
            if item is not None and len(group) < room and _size(item[0]) == _size(first[0]):
                group.append(item)
            else:
                others.append(item)
        self._aside = others
        return group

    def _room(self, picture: Loaded | Large) -> int:
        """How many pictures like this one run together."""
        if self._together <= 1 or isinstance(picture, Large):
            return 1
        if max(picture.image.height, picture.image.width) > self._side:
            return 1
        pixels = picture.image.height * picture.image.width
        return max(1, min(self._together, BATCH_PIXELS // pixels))


def _size(picture: Loaded | Large) -> tuple[int, int] | None:
    if isinstance(picture, Large):
        return None
    return picture.image.height, picture.image.width
