"""Run a network over a picture, or over several small ones at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from upscale.errors import ImageError, UsageError
from upscale.inference.noise import Noise
from upscale.inference.prepared import Prepared, prepare
from upscale.inference.progress import Progress
from upscale.inference.source import Padded, Source, TensorSource, check_finite
from upscale.inference.tiles import BATCH_PIXELS, MAX_BATCH, RunReport, Strip, Tiles
from upscale.models import Network
from upscale.settings import TileOption
from upscale.tiling import MIN_TILE, check, crop, default_overlap, plan, round_up


def run(
    network: Network | Prepared,
    lr: Tensor | Source,
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
            :class:`Source` of its rows.
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
        ImageError: ``lr`` has another shape or holds NaN or infinity (rows of a source: while
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
        check_finite(lr)
    source = TensorSource(lr) if isinstance(lr, Tensor) else lr
    report = RunReport() if report is None else report
    drawn = noise or Noise()
    job = Tiles(prepared, _overlap(prepared.network, overlap), tta=tta, report=report, noise=drawn)
    job.choose_tile(tile, source.shape[-2], source.shape[-1])
    return _crop(job, source, progress)


def run_together(
    prepared: Prepared,
    pictures: Sequence[Source],
    *,
    overlap: int | None = None,
    tta: bool = False,
    noise: Noise | None = None,
    report: RunReport | None = None,
) -> Iterator[Tensor]:
    """Enlarge small pictures of one size in batches: on a GPU that is faster than one by one.

    Args:
        prepared: The network.
        pictures: (1, channels, H, W) each, all of one shape, to be run as one tile each.
        overlap: See :func:`run`; it matters only where memory runs out.
        tta: See :func:`run`.
        noise: See :func:`run`.
        report: What happened to all of them.

    Returns:
        Their results in turn, (1, channels, scale*H, scale*W) float32 on the CPU.

    Raises:
        ImageError: A picture has another shape, or holds NaN or infinity.
        OutOfMemoryError: Not even the smallest tile fits.
    """
    network = prepared.network
    shapes = {tuple(picture.shape) for picture in pictures}
    if len(shapes) != 1:
        raise ImageError(f"pictures of shapes {sorted(shapes)} do not run together: give one shape")
    shape = shapes.pop()
    _check_shape(shape, network.channels)
    report = RunReport() if report is None else report
    job = Tiles(prepared, _overlap(network, overlap), tta=tta, report=report)
    job.noise = noise or job.noise
    job.tile = max(MIN_TILE, *(round_up(side, network.multiple_of) for side in shape[-2:]))
    job.batch = max(1, min(MAX_BATCH, BATCH_PIXELS // (shape[-2] * shape[-1])))
    return _together(job, pictures)


def _together(job: Tiles, pictures: Sequence[Source]) -> Iterator[Tensor]:
    network = job.prepared.network
    height, width = (side * network.scale for side in pictures[0].shape[-2:])
    for start in range(0, len(pictures), MAX_BATCH):
        pieces = []
        for picture in pictures[start : start + MAX_BATCH]:
            padded = Padded(picture, network)
            rows, cols = padded.shape[-2:]
            _, (tile,) = next(plan(rows, cols, tile=job.tile + job.overlap, overlap=0).bands())
            pieces.append((tile, padded.rows(0, rows)))
        for _, sr in job.results(pieces):
            yield crop(sr, height, width).clone()  # as a tensor that may be changed


def check_options(tile: object, overlap: int | None) -> None:
    """Refuse tile options that no picture can be run with (:class:`UsageError`)."""
    if tile not in ("auto", "off") and (isinstance(tile, bool) or not isinstance(tile, int)):
        raise UsageError(f"tile {tile!r} is unknown: use auto, off, or a number of pixels")
    check(tile if isinstance(tile, int) else MIN_TILE, overlap or 0)


def _crop(job: Tiles, lr: Source, progress: Progress | None) -> Iterator[Strip]:
    """Pad, run, and crop the strips again."""
    network = job.prepared.network
    height, width = lr.shape[-2] * network.scale, lr.shape[-1] * network.scale

    def count(done: float, total: int) -> None:
        job.report.tiles = int(done)
        if progress is not None:
            progress(done, total)

    for y0, y1, rows in job.strips(Padded(lr, network), count):
        yield y0, min(y1, height), crop(rows, height - y0, width)


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
