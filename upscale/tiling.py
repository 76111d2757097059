"""Geometry of tiles: pad and crop, spans of an axis, blend weights. No network, no device.

All coordinates are LR pixels of the padded picture unless a docstring says output pixels. A *tile*
of side N means N useful pixels: the network sees up to ``overlap`` more, the context that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.errors import UsageError

BLEND = (
    8  # LR pixels over which one tile fades into the next, where the network's halo is not exact
)
MIN_TILE = 16  # LR pixels; below it nearly all work is context
_STEPS = 4096  # blend weights are multiples of 1 / _STEPS, so that w + (1 - w) is 1 to the last bit


@dataclass(frozen=True)
class Span:
    """The share of one axis that one tile has.

    The network reads [start, stop). Its result counts in [first, end), rising from 0 to 1 over the
    ``rise`` pixels at the head and falling from 1 to 0 over the ``fall`` pixels at the tail; the
    previous span falls where this one rises.
    """

    start: int
    stop: int
    first: int
    end: int
    rise: int
    fall: int

    @property
    def size(self) -> int:
        """Pixels that the network reads."""
        return self.stop - self.start

    def within(self, scale: int) -> slice:
        """Where [first, end) lies in the network's output of [start, stop), in output pixels."""
        return slice((self.first - self.start) * scale, (self.end - self.start) * scale)

    def weights(self, scale: int) -> Tensor:
        """Weight of each output pixel of [first, end); shape ((end - first) * scale,), float32.

        The weight is this span's ramp minus the next one's, so that the weights of all spans
        telescope to exactly 1 wherever they overlap.
        """
        length = (self.end - self.first) * scale
        own, following = torch.ones(length), torch.zeros(length)
        if self.rise:
            own[: self.rise * scale] = _ramp(self.rise * scale)
        if self.fall:
            following[length - self.fall * scale :] = _ramp(self.fall * scale)
        return own - following


@dataclass(frozen=True)
class Tile:
    """A rectangle of the padded picture: what the network reads and where its result counts."""

    rows: Span
    cols: Span

    def cut(self, lr: Tensor, top: int = 0) -> Tensor:
        """The pixels the network reads: a view of ``lr`` (N, C, H, W), the rows from ``top`` on."""
        rows = slice(self.rows.start - top, self.rows.stop - top)
        return lr[..., rows, self.cols.start : self.cols.stop]

    def weigh(self, sr: Tensor, scale: int) -> Tensor:
        """Cut ``sr``, the network's result for :meth:`cut`, to what counts, times its weights."""
        inner = sr[..., self.rows.within(scale), self.cols.within(scale)]
        if self.rows.rise or self.rows.fall:
            inner = inner * self.rows.weights(scale).to(sr.device)[:, None]
        if self.cols.rise or self.cols.fall:
            inner = inner * self.cols.weights(scale).to(sr.device)
        return inner


@dataclass(frozen=True)
class Grid:
    """All tiles of a picture: every row span with every column span."""

    rows: tuple[Span, ...]
    cols: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def bands(self) -> Iterator[tuple[Span, list[Tile]]]:
        """Rows of tiles, top to bottom, each with its tiles from left to right."""
        for rows in self.rows:
            yield rows, [Tile(rows, cols) for cols in self.cols]


def default_overlap(halo: int, multiple_of: int, *, exact: bool) -> int:
    """LR pixels that neighbouring tiles share by default: a halo on each side and a ramp between.

    Where the halo is exact both tiles agree in between, and no ramp is needed.
    """
    return round_up(2 * halo + (0 if exact else BLEND), multiple_of)


def plan(
    height: int,
    width: int,
    *,
    tile: int,
    overlap: int,
    multiple_of: int = 1,
    halo: int = 0,
    rows: int | None = None,
) -> Grid:
    """Cut a padded picture of ``height`` x ``width`` (multiples of ``multiple_of``) into tiles.

    Args:
        height: Rows.
        width: Columns.
        tile: Useful side of a tile at most; rounded down to a multiple of ``multiple_of``.
        overlap: Pixels that neighbours share; rounded up to a multiple of ``multiple_of``.
        multiple_of: Starts and sizes of spans are multiples of it.
        halo: Outermost pixels of a span that weigh 0 (except at the picture's border), as far as
            the overlap has room for them.
        rows: Useful height of a tile at most, where it is to be less than its side.

    Raises:
        UsageError: ``tile`` is below :data:`MIN_TILE` or ``overlap`` is negative.
    """
    tall = min(tile, rows or tile)
    down, across = (
        plan_axis(length, tile=side, overlap=overlap, multiple_of=multiple_of, halo=halo)
        for length, side in ((height, tall), (width, tile))
    )
    return Grid(down, across)


def plan_axis(
    length: int, *, tile: int, overlap: int, multiple_of: int = 1, halo: int = 0
) -> tuple[Span, ...]:
    """Cut an axis of ``length`` pixels into evenly spaced spans of one size; see :func:`plan`."""
    check(tile, overlap)
    # 1. What the network reads of one span: all of the axis, or a tile and its context.
    tile = max(multiple_of, tile // multiple_of * multiple_of)
    overlap = round_up(overlap, multiple_of)
    if length <= tile + overlap:
        return (Span(0, length, 0, length, 0, 0),)
    # 2. As few spans as cover the axis, all of the smallest size with which so many do, the first
    # at its start, the last at its end, those between at even distances.
    count = -((overlap - length) // tile)
    useful = round_up(-((overlap - length) // count), multiple_of)
    size = useful + overlap
    starts = [i * (length - size) // (count - 1) // multiple_of * multiple_of for i in range(count)]
    # 3. Two neighbours share at least ``overlap`` pixels. The ramp lies in the middle of them, off
    # the halos, in which a span is wrong.
    room = overlap - 2 * halo if overlap >= 2 * halo else overlap
    blend = min(BLEND, room, *(b - a for a, b in pairwise(starts)))
    heads = [0]
    for before, start in pairwise(starts):
        heads.append(start + (before + size - start - blend) // 2)
    return tuple(
        Span(
            start=start,
            stop=start + size,
            first=heads[i],
            end=heads[i + 1] + blend if i + 1 < count else length,
            rise=blend if i else 0,
            fall=blend if i + 1 < count else 0,
        )
        for i, start in enumerate(starts)
    )


def check(tile: int, overlap: int) -> None:
    """Refuse a tile or an overlap that cannot be planned with (:class:`UsageError`)."""
    if tile < MIN_TILE:
        raise UsageError(f"tile {tile} is too small: use {MIN_TILE} or more, 'auto', or 'off'")
    if overlap < 0:
        raise UsageError(f"overlap {overlap} is negative: use 0 or more LR pixels")


def pad(lr: Tensor, multiple_of: int, *, height: int | None = None, is_end: bool = True) -> Tensor:
    """Extend (N, C, H, W) at the right and the bottom to multiples of ``multiple_of``.

    By reflection about the outermost pixel, or by repeating it where the picture is too small for
    that. ``lr`` itself is returned where nothing is missing. The inverse is :func:`crop`.

    Args:
        lr: A picture, or rows of one.
        multiple_of: What height and width are to be multiples of.
        height: Of the whole picture, where ``lr`` is rows of it.
        is_end: Whether ``lr`` holds its last rows; else nothing is added at the bottom.
    """
    height, width = height or lr.shape[-2], lr.shape[-1]
    bottom, right = -height % multiple_of, -width % multiple_of
    if is_traced():
        return _pad_traced(lr, bottom, right)
    mode = "reflect" if bottom < height and right < width else "replicate"
    if not is_end:
        bottom = 0
    if not bottom and not right:
        return lr
    return F.pad(lr, (0, right, 0, bottom), mode=mode)


def is_traced() -> bool:
    """Whether a graph is being made that is to serve every size (the ONNX export)."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced


def _pad_traced(x: Tensor, bottom: int, right: int) -> Tensor:
    """The same for a graph that serves every size: no branch is taken, rows are looked up."""
    height, width = x.shape[-2:]
    fits = torch.as_tensor(bottom < height) & torch.as_tensor(right < width)
    for axis, length, more in ((-2, height, bottom), (-1, width, right)):
        at = torch.arange(length + more)
        beyond = torch.where(fits, 2 * length - 2 - at, length - 1)
        x = x.index_select(axis, torch.where(at < length, at, beyond))
    return x


def crop(sr: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`pad` on a result: its first ``height`` rows and ``width`` columns (a view)."""
    return sr[..., :height, :width]


def _ramp(length: int) -> Tensor:
    centres = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    return (centres * _STEPS).round().div(_STEPS).to(torch.float32)


def round_up(value: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is no less."""
    return -(-value // multiple) * multiple
