"""Run a network over a picture, or over several small ones at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from upscale import memory
from upscale.errors import ImageError, UsageError
from upscale.inference.engine import Engine, Prepared, Progress, RunReport, Strip, prepare
from upscale.inference.noise import Noise
from upscale.models import Network
from upscale.settings import TileOption
from upscale.strips import Window
from upscale.tiling import MIN_TILE, check, crop, default_overlap, pad, plan, round_up


def run(
    network: Network | Prepared,
    lr: Tensor | Window,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    tile: TileOption = "auto",
    overlap: int | None = None,
    tta: bool = False,
    noise: Noise | None = None,
    progress: Progress | None = None,
    report: RunReport | None = None,
) -> Iterator[Strip]:
    """Enlarge a picture and hand out its finished rows.

    Args:
        network: A :class:`Prepared` network, or a plain one: it is copied and prepared for
            ``device`` (default: the CPU) and ``dtype``, which are ignored otherwise.
        lr: (1, channels, H, W) float32 in [0, 1] on the CPU, any H and W from 1: whole, or a
            :class:`Window` on its rows.
        device: See ``network``.
        dtype: See ``network``.
        tile: Useful side of a tile in LR pixels, at least 16; ``"off"``: the picture whole;
            ``"auto"``: as large as pays and free memory allows.
        overlap: LR pixels that neighbouring tiles share; None: what the network's halo needs.
        tta: Mean over the eight flips and turns of each tile.
        noise: For networks with noise channels; None: ``Noise()``.
        progress: Called with the tiles done and all tiles, after each tile and, on a CPU, within
            large ones, which count in part then. What it raises ends the run.
        report: Filled in while the strips are taken.

    Returns:
        Strips (y0, y1, rows), top to bottom without gaps, rows (1, channels, y1 - y0, scale*W)
        float32 on the CPU, not clipped to [0, 1]; two channels more with ``noise.spread``.

    Raises:
        ImageError: ``lr`` has another shape or holds NaN or infinity (rows of a window: while
            strips are taken).
        OutOfMemoryError: Not even the smallest tile fits (while strips are taken).
        UpscaleError: The network's result is not finite in float32 (while strips are taken).
        UsageError: ``tile`` or ``overlap`` cannot be used.
    """
    if isinstance(network, Prepared):
        prepared = network
    else:
        prepared = prepare(copy.deepcopy(network), device, dtype)
    check_options(tile, overlap)
    _check_shape(tuple(lr.shape), prepared.network.channels)
    if isinstance(lr, Tensor):
        _check_finite(lr)
        lr = Window([lr], tuple(lr.shape))
    report, noise = RunReport() if report is None else report, noise or Noise()
    shared_pixels = _overlap(prepared.network, overlap)
    engine = Engine(prepared, shared_pixels, tta=tta, report=report, noise=noise)
    engine.choose_tile(tile, lr.shape[-2], lr.shape[-1])
    return _cropped(engine, lr, progress)


def run_together(
    prepared: Prepared,
    pictures: Sequence[Window],
    *,
    overlap: int | None = None,
    tta: bool = False,
    noise: Noise | None = None,
    report: RunReport | None = None,
) -> Iterator[Tensor]:
    """Enlarge small pictures of one size in batches: on a GPU that is faster than one by one.

    Pictures are (1, channels, H, W), all of one shape, each run as one tile; ``overlap`` matters
    only where memory runs out, and the report is of all. Else as :func:`run`. Returns their results
    in turn, (1, channels, scale*H, scale*W) float32 on the CPU.
    """
    network = prepared.network
    shapes = {tuple(picture.shape) for picture in pictures}
    if len(shapes) != 1:
        raise ImageError(f"pictures of shapes {sorted(shapes)} do not run together: give one shape")
    shape = shapes.pop()
    _check_shape(shape, network.channels)
    height, width = shape[-2:]
    rows, cols = (round_up(side, network.multiple_of) for side in (height, width))
    engine = Engine(
        prepared,
        _overlap(network, overlap),
        tta=tta,
        report=RunReport() if report is None else report,
        noise=noise or Noise(),
        tile=max(MIN_TILE, rows, cols),
        batch=memory.at_once(height * width),
    )
    for start in range(0, len(pictures), memory.MAX_BATCH):
        pieces = []
        for picture in pictures[start : start + memory.MAX_BATCH]:
            grid = plan(rows, cols, tile=engine.tile + engine.overlap, overlap=0)
            _, (tile,) = next(grid.bands())
            pieces.append((tile, Padded(picture, network.multiple_of).rows(0, rows)))
        for _, sr in engine.results(pieces):
            # As a tensor that may be changed.
            yield crop(sr, height * network.scale, width * network.scale).clone()


def _cropped(engine: Engine, lr: Window, progress: Progress | None) -> Iterator[Strip]:
    """Pad, run, and crop the strips again."""
    network = engine.prepared.network
    height, width = lr.shape[-2] * network.scale, lr.shape[-1] * network.scale

    def count(done: float, total: int) -> None:
        engine.report.tiles = int(done)
        if progress is not None:
            progress(done, total)

    for y0, y1, rows in engine.strips(Padded(lr, network.multiple_of), count):
        yield y0, min(y1, height), crop(rows, height - y0, width)


class Padded(Window):
    """A picture as a network takes it: of a multiple of its window, padded row by row."""

    def __init__(self, lr: Window, multiple_of: int) -> None:
        """Prepare; ``lr`` is a picture (1, C, H, W)."""
        _, channels, height, width = lr.shape
        super().__init__(
            (), (1, channels, round_up(height, multiple_of), round_up(width, multiple_of))
        )
        self._lr, self._multiple, self._height = lr, multiple_of, height

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last); ``last`` is a multiple of the window.

        Raises:
            ImageError: They hold NaN or infinity.
        """
        below = max(0, last - self._height)
        begin = max(0, min(first, self._height - 1 - below))  # so much is needed to reflect
        lr = self._lr.rows(begin, last - below).float()
        _check_finite(lr)
        lr = pad(lr, self._multiple, height=self._height, is_end=last >= self._height)
        return lr[..., first - begin :, :]


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


def check_options(tile: object, overlap: int | None) -> None:
    """Refuse tile options that no picture can be run with (:class:`UsageError`)."""
    if tile not in ("auto", "off") and (isinstance(tile, bool) or not isinstance(tile, int)):
        raise UsageError(f"tile {tile!r} is unknown: use auto, off, or a number of pixels")
    check(tile if isinstance(tile, int) else MIN_TILE, overlap or 0)


def _check_finite(lr: Tensor) -> None:
    if not bool(torch.isfinite(lr.sum(dtype=torch.float64))):
        raise ImageError("the picture holds NaN or infinite values; replace them first")


def _check_shape(shape: tuple[int, ...], channels: int) -> None:
    if len(shape) != 4 or shape[:2] != (1, channels) or 0 in shape:
        raise ImageError(
            f"a tensor of shape {shape} is no picture for this network; give (1, {channels}, H, W)"
        )


def _overlap(network: Network, overlap: int | None) -> int:
    multiple = network.multiple_of
    if overlap is None:
        return default_overlap(network.halo, multiple, exact=network.halo_is_exact)
    return round_up(overlap, multiple)
