"""Progress bars: all are tqdm's, text on a terminal and a widget in a notebook.

The command line draws them where stderr is a terminal; the library, where ``progress=True``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

PLAIN = "{desc}: {percentage:3.0f} %|{bar}| [{elapsed}<{remaining}{postfix}]"


def bar(total: float | None, what: str, *, notebook: bool = True, **more: Any) -> Any:
    """A bar that goes away when it is closed.

    Args:
        total: What there is to do; None: not known yet.
        what: What is done, for people.
        notebook: Draw a widget where this runs in a notebook.
        more: Arguments of ``tqdm``.
    """
    if notebook:
        from tqdm.auto import tqdm
    else:
        from tqdm.std import tqdm
    try:
        known = os.get_terminal_size(2).columns > 0
    except (OSError, ValueError):
        known = True  # no terminal; tqdm has a width for that
    width = {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}
    return tqdm(total=total, desc=what, leave=False, **width, **more)


@contextmanager
def followed(
    progress: Callable[[float, int], None] | bool | None, what: str
) -> Iterator[Callable[[float, int], None] | None]:
    """What to tell of the tiles done: a bar for ``True``, else what was given."""
    if not isinstance(progress, bool):
        yield progress
        return
    with bar(None, what, disable=not progress, bar_format=PLAIN) as drawn:

        def tell(done: float, total: int) -> None:
            drawn.total = total
            drawn.update(done - drawn.n)

        yield tell if progress else None


class PictureBar:
    """A bar over the pictures of a run, by their bytes; one in work counts in part.

    Use it as a context; threads may call its methods.
    """

    def __init__(self, sizes: dict[str, int], what: str, **more: Any) -> None:
        """Prepare; nothing is drawn before the context is entered.

        Args:
            sizes: The bytes of each picture that is to be done, by its output.
            what: What is done, for people.
            more: See :func:`bar`.
        """
        self._sizes = {name: max(1, size) for name, size in sizes.items()}
        self._what, self._more = what, more
        self._shares: dict[str, float] = {}
        self._done, self._pixels = 0, 0.0

    def __enter__(self) -> Self:
        total = sum(self._sizes.values())
        self._bar = bar(total, self._what, bar_format=PLAIN, **self._more)
        self._bar.set_postfix_str(self._count(), refresh=True)
        return self

    def __exit__(self, *reason: object) -> None:
        self._bar.close()

    def share(self, name: str, done: float) -> None:
        """Note which part of a picture the network has done."""
        self._shares[name] = done
        at = sum(self._sizes[name] * share for name, share in list(self._shares.items()))
        self._bar.update(max(0.0, at - self._bar.n))

    def finish(self, name: str, pixels: int) -> None:
        """Note a finished picture; one that was not to be done is left out."""
        if name not in self._sizes:
            return
        self._done, self._pixels = self._done + 1, self._pixels + pixels
        self._bar.set_postfix_str(self._count(), refresh=False)
        self.share(name, 1.0)

    def _count(self) -> str:
        if len(self._sizes) == 1:
            return ""
        return f"{self._done}/{len(self._sizes)}, {self._pixels / 1e6:.1f} MP"
