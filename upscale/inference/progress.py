"""How far a run over the tiles of a picture is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upscale.models.steps import listening

# Tiles done, of which the one in work counts in part; tiles in all. Neither share falls.
Progress = Callable[[float, int], None]


class Count:
    """Counts the tiles of a run and tells their number; it never goes back.

    Attributes:
        done: Tiles that are done.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        """Begin with none.

        Args:
            progress: Who is told.
            total: Tiles in all.
        """
        self.done = 0
        self._progress, self._total, self._told = progress, total, 0.0

    def add(self) -> None:
        """A tile is done."""
        self.done += 1
        self._tell(self.done)

    @contextmanager
    def within(self, tiles: int, work: float) -> Iterator[None]:
        """Tell how far a forward pass is whose layers say what they have done.

        Args:
            tiles: How many it computes.
            work: What its layers do in all, see ``models.steps``; 0: they say nothing.
        """
        found = 0.0

        def tell(more: float) -> None:
            nonlocal found
            found += more
            self._tell(self.done + tiles * min(1.0, found / work))

        if work <= 0:
            yield
            return
        with listening(tell):
            yield

    def _tell(self, at: float) -> None:
        if at >= self._told:  # a tile that did not fit in memory begins anew
            self._told = at
            self._progress(at, self._total)


def shared(progress: Progress | None, count: int) -> list[Progress | None]:
    """One progress for each of ``count`` runs, which tell together how far all of them are."""
    if progress is None or count == 1:
        return [progress] * count
    shares = [0.0] * count

    def of(index: int) -> Progress:
        def tell(done: float, total: int) -> None:
            shares[index] = done / total
            progress(sum(shares) / count * total, total)

        return tell

    return [of(index) for index in range(count)]


@contextmanager
def measured() -> Iterator[list[float]]:
    """The work of the layers that are done in this thread, in a list."""
    found: list[float] = []
    with listening(found.append):
        yield found
