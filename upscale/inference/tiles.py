"""The tiles of a run: their size, batches, precision, memory, and what they are put together to.

Picture and result stay on the CPU, tiles go to the device and back. Rows are read when their tiles
are due, finished rows leave as strips: of picture and result, only those in work exist here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from upscale.device import dtype_name, free_memory, is_out_of_memory, release, to_host
from upscale.errors import OutOfMemoryError, UpscaleError
from upscale.inference.noise import Noise
from upscale.inference.prepared import Prepared
from upscale.inference.progress import Count, Progress, measured
from upscale.inference.source import Source, TensorSource
from upscale.models import Network
from upscale.settings import TileOption
from upscale.tiling import MIN_TILE, Plan, Tile, plan, round_up

logger = logging.getLogger(__name__)

Piece = tuple[Tile, Tensor]  # a tile with what the network reads of it, or with its result
Strip = tuple[int, int, Tensor]  # output rows [y0, y1), (1, C, y1 - y0, W') float32 on the CPU

SIDES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 16)  # automatic tiles, LR pixels
LARGEST_AUTO = {"cpu": 256, "mps": 512, "cuda": 1024}  # beyond it nothing is gained
PIXEL_BYTES = 16 << 10  # an LR pixel of a tile in float32, up to x4; the papers' networks: 7 to 16
MEMORY_SHARE = {"cpu": 0.5, "mps": 0.5, "cuda": 0.8}  # of the free memory, for one batch of tiles
MAX_BATCH = 16
BATCH_PIXELS = 512 * 512  # a GPU is busy with that many LR pixels at once
BAND_BYTES = 1 << 26  # of one row of tiles of the result, where the tiles are automatic
MOST_BAND_BYTES = 1 << 28  # the same, where lower tiles would be more than a seventh context
MIN_ROWS = 64  # useful height of such tiles at least, LR pixels
MANY_LEAST = 64  # a batch as large as so many smallest tiles is worth one of them for its progress
CPU = torch.device("cpu")
_SMALL = 128 * 128  # LR pixels that are tried without asking for memory first


@dataclass
class RunReport:
    """What happened in a run; filled while its strips are taken.

    Attributes:
        tile: Useful side of the tiles in LR pixels at the end of the run; None: the picture whole.
        overlap: LR pixels that neighbouring tiles share.
        tiles: Tiles of the plan that are done.
        out_of_memory: How often a batch or a tile did not fit and was made smaller.
        not_finite: Tiles that came out with NaN or infinity and were redone in float32.
    """

    tile: int | None = None
    overlap: int = 0
    tiles: int = 0
    out_of_memory: int = 0
    not_finite: int = 0

    @property
    def retries(self) -> int:
        """All repeated attempts."""
        return self.out_of_memory + self.not_finite


def pixel_bytes(prepared: Prepared) -> int:
    """Bytes that one LR pixel of a tile takes on the device while the network runs, roughly.

    The feature maps of the enlarged picture weigh most, and above x4 they alone.
    """
    return int(PIXEL_BYTES * max(1.0, prepared.network.scale**2 / 16) * prepared.dtype.itemsize / 4)


@dataclass
class Tiles:
    """One run: the network, and the tile and batch sizes that have proved to fit so far."""

    prepared: Prepared
    overlap: int
    tta: bool
    report: RunReport
    tile: int = MIN_TILE
    tall: int | None = None  # useful height of a tile at most, where the whole width is large
    batch: int = 1
    noise: Noise = Noise()  # noqa: RUF009 - frozen
    scale: int = field(init=False)
    channels: int = field(init=False)  # of the result

    def __post_init__(self) -> None:
        self.scale = self.prepared.network.scale
        self.channels = self.prepared.network.channels + 2 * self.noise.spread

    def choose_tile(self, option: TileOption, height: int, width: int) -> None:
        """Settle tile and batch size from the option and the free memory.

        A CPU's memory is checked even for a tile that was asked for: the system would not refuse it
        but end the process. A GPU refuses, and is asked.
        """
        kind = self.prepared.device.type
        if isinstance(option, int):
            self.tile = option
        elif option == "off":
            self.tile = max(height, width, MIN_TILE)
        else:
            self.tile = LARGEST_AUTO.get(kind, LARGEST_AUTO["cpu"])
        self.report.overlap = self.overlap
        if kind == "cuda":
            self.batch = max(1, min(MAX_BATCH, BATCH_PIXELS // self._seen(height, width)))
        if self._seen(height, width) > _SMALL and (option == "auto" or kind != "cuda"):
            self._fit_memory(option, height, width)
        if option == "auto":
            row = 4 * self.channels * self.scale**2 * width
            most = MOST_BAND_BYTES // row - self.overlap
            self.tall = max(MIN_ROWS, BAND_BYTES // row - self.overlap, min(most, 6 * self.overlap))

    def _seen(self, height: int, width: int) -> int:
        """LR pixels of a picture of ``height`` x ``width`` that one tile shows the network."""
        limit = self.tile + self.overlap
        return min(height, limit) * min(width, limit)

    def _fit_memory(self, option: TileOption, height: int, width: int) -> None:
        share = MEMORY_SHARE.get(self.prepared.device.type, MEMORY_SHARE["cpu"])
        budget = free_memory(self.prepared.device) * (share if option == "auto" else 0.9)
        need = pixel_bytes(self.prepared)
        asked = self.tile
        for side in (side for side in SIDES if side < asked):
            if self._seen(height, width) * need <= budget:
                break
            self.tile, self.batch = side, 1
        if option != "auto" and self.tile < asked:
            self.report.out_of_memory += 1
            logger.warning("tile %s does not fit in memory; going on with %d", option, self.tile)

    def strips(
        self, lr: Source, progress: Progress | None = None, corner: tuple[int, int] = (0, 0)
    ) -> Iterator[Strip]:
        """Rows of the result of a padded picture (1, channels, H, W), as they finish.

        ``corner`` is where it lies in a larger picture, for the noise.
        """
        grid = self._plan(lr)
        self._check_row(grid)
        width = lr.shape[-1] * self.scale
        top = 0
        count = None if progress is None else Count(progress, len(grid))
        carried: Tensor | None = None
        for rows, tiles in grid.bands():
            band = torch.zeros(1, self.channels, (rows.end - rows.first) * self.scale, width)
            if carried is not None:
                band[..., : carried.shape[-2], :] = carried
            part = lr.rows(rows.start, rows.stop)
            pieces = [(tile, tile.cut(part, rows.start)) for tile in tiles]
            for tile, sr in self.results(pieces, corner, count):
                band[..., tile.cols.first * self.scale : tile.cols.end * self.scale] += sr
                if count is not None:
                    count.add()
            ready = (rows.end - rows.first - rows.fall) * self.scale
            self._note(grid)
            carried = band[..., ready:, :].clone()
            yield top, top + ready, band[..., :ready, :]
            top += ready
            del band  # before the next one is made

    def _plan(self, lr: Source) -> Plan:
        network = self.prepared.network
        return plan(
            lr.shape[-2],
            lr.shape[-1],
            tile=self.tile,
            overlap=self.overlap,
            multiple_of=network.multiple_of,
            halo=network.halo,
            rows=self.tall,
        )

    def _check_row(self, grid: Plan) -> None:
        """Refuse a row of tiles whose result does not fit: the system would end the process."""
        width = grid.cols[-1].end * self.scale
        height = max(rows.end - rows.first for rows in grid.rows) * self.scale
        need, free = 4 * self.channels * width * height, free_memory(CPU)
        if need > free:
            raise OutOfMemoryError(
                f"{width} x {height} pixels of the result take {need >> 20} MiB and {free >> 20} "
                "MiB are free: use a smaller --tile, or cut or turn the picture"
            )

    def _note(self, grid: Plan) -> None:
        whole = len(grid) == 1 and not self._too_large(next(grid.bands())[1][0])
        if not whole or self.report.tile is not None:
            self.report.tile = self.tile

    def results(
        self, pieces: list[Piece], corner: tuple[int, int] = (0, 0), count: Count | None = None
    ) -> Iterator[Piece]:
        """Each tile with its weighed result on the CPU; makes batch or tile smaller as needed."""
        at = 0
        while at < len(pieces):
            group = pieces[at : at + self.batch]
            tile, lr = group[0]
            if self._too_large(tile):
                at_tile = (corner[0] + tile.rows.start, corner[1] + tile.cols.start)
                yield tile, tile.weigh(self._in_parts(lr, at_tile), self.scale)
                at += 1
                continue
            try:
                results = self._compute(group, corner, count)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                results = None
            if results is None:  # outside of the handler: its traceback holds the tensors
                self._shrink(group)
                continue
            yield from results
            at += len(group)

    def _too_large(self, tile: Tile) -> bool:
        limit = max(self.tile + self.overlap, self.prepared.network.multiple_of)
        return max(tile.rows.size, tile.cols.size) > limit

    def _in_parts(self, lr: Tensor, corner: tuple[int, int]) -> Tensor:
        """The network's result for a tile that is too large to run at once."""
        strips = self.strips(TensorSource(lr), corner=corner)
        return torch.cat([rows for _, _, rows in strips], -2)

    def _shrink(self, group: list[Piece]) -> None:
        """After an out-of-memory: half the batch, or half the tile; finished tiles stay."""
        device = self.prepared.device
        release(device)
        self.report.out_of_memory += 1
        if len(group) > 1:
            self.batch = len(group) // 2
            return
        rows, cols = group[0][0].rows.size, group[0][0].cols.size
        seen = max(rows, cols)
        tile = min(self.tile, seen)
        while tile > MIN_TILE:
            tile = max(MIN_TILE, tile // 2)
            if tile + self.overlap < seen:
                self.tile = tile
                logger.warning("out of memory on %s; going on with tiles of %d", device, tile)
                return
        raise OutOfMemoryError(
            f"a tile of {rows} x {cols} pixels does not fit in the "
            f"memory of {device} ({free_memory(device) >> 20} MiB free): end other programs, or "
            f"use a smaller --overlap, a smaller model, or another --device"
        )

    @torch.inference_mode()
    def _compute(
        self, group: list[Piece], corner: tuple[int, int], count: Count | None
    ) -> list[Piece]:
        """Tiles of one size with their weighed results, (1, C, h, w) float32 on the CPU."""
        batch = torch.cat([lr for _, lr in group]).to(self.prepared.device)
        tiles = [tile for tile, _ in group]
        network = self.prepared.network
        with self._telling(count, batch):
            sr = self._forward(network, batch.to(self.prepared.dtype), Draw(self, tiles, corner))
        sums = sr.sum((1, 2, 3), dtype=torch.float32)
        results = []
        for k, (tile, finite) in enumerate(zip(tiles, sums.isfinite().tolist(), strict=True)):
            result = sr[k : k + 1] if finite else self._again(batch[k : k + 1], tile, corner)
            results.append((tile, to_host(tile.weigh(result, self.scale)).float()))
        return results

    def _telling(self, count: Count | None, batch: Tensor) -> AbstractContextManager[None]:
        """Tell how far the forward pass of a batch is, where that takes long enough to be seen.

        A GPU computes behind Python's back: there is nothing to tell.
        """
        pixels, side = batch[:, 0].numel(), self._least_side
        if count is None or batch.device.type != "cpu" or pixels < MANY_LEAST * side**2:
            return nullcontext()
        return count.within(len(batch), pixels * self._work_per_pixel())

    @property
    def _least_side(self) -> int:
        return round_up(MIN_TILE, self.prepared.network.multiple_of)

    def _work_per_pixel(self) -> float:
        """What the layers of the network do for one LR pixel, measured on the smallest tile."""
        kind = (self.tta, self.noise.samples)
        if kind not in self.prepared.work:
            network, side = self.prepared.network, self._least_side
            _, tiles = next(plan(side, side, tile=side, overlap=0).bands())
            lr = torch.zeros(1, network.channels, side, side, dtype=self.prepared.dtype)
            with measured() as found:
                self._forward(network, lr, Draw(self, list(tiles), (0, 0)))
            self.prepared.work[kind] = sum(found) / side**2
        return self.prepared.work[kind]

    def _again(self, lr: Tensor, tile: Tile, corner: tuple[int, int]) -> Tensor:
        """The result in float32 of a tile that came out not finite."""
        if self.prepared.dtype != torch.float32:
            self.report.not_finite += 1
            logger.warning(
                "a tile was not finite in %s; redone in fp32", dtype_name(self.prepared.dtype)
            )
            sr = self._forward(self.prepared.fallback, lr, Draw(self, [tile], corner))
            if bool(torch.isfinite(sr.sum())):
                return sr
        raise UpscaleError(
            f"the network's result is not finite in fp32 at LR row {tile.rows.first}, column "
            f"{tile.cols.first}: its weights are damaged or the picture is far outside [0, 1]"
        )

    def _forward(self, network: Network, lr: Tensor, draw: Draw) -> Tensor:
        """(N, channels, H, W) to (N, C, scale*H, scale*W), with or without TTA."""
        if not self.tta:
            return self._mean(network, lr.contiguous(memory_format=torch.channels_last), draw)
        total = torch.zeros((), device=lr.device)
        for turned in (False, True):
            for flips in ([], [-1], [-2], [-2, -1]):
                x = (lr.transpose(-2, -1) if turned else lr).flip(flips)
                x = x.contiguous(memory_format=torch.channels_last)
                y = self._mean(network, x, draw.turned(turned, flips)).flip(flips).float()
                total = total + (y.transpose(-2, -1) if turned else y)
        return total / 8

    def _mean(self, network: Network, lr: Tensor, draw: Draw) -> Tensor:
        """The network's result, or the mean of its draws, with their variances where asked for.

        Mean and variance are kept up to date draw by draw (Welford 1962): no draw is held.
        """
        if not network.noise_channels:
            return network(lr)
        mean = between = inside = torch.zeros((), device=lr.device)
        noise = (draw(sample).to(lr) for sample in range(self.noise.samples))
        for count, (sr, own) in enumerate(network.draws(lr, noise), 1):
            off = sr.float() - mean
            mean = mean + off / count
            if self.noise.spread:
                between = between + (off * (sr.float() - mean)).mean(1, keepdim=True)
                inside = inside + own
        if not self.noise.spread:
            return mean
        between = between / max(1, self.noise.samples - 1)
        inside = (inside / self.noise.samples).expand_as(between)
        return torch.cat((mean, between, inside), 1)


@dataclass(frozen=True)
class Draw:
    """Noise for a batch of tiles: call it with the number of the draw."""

    job: Tiles
    tiles: list[Tile]
    corner: tuple[int, int]
    is_turned: bool = False
    flips: Sequence[int] = ()

    def __call__(self, sample: int) -> Tensor:
        """The noise of draw ``sample``, (N, noise channels, H, W)."""
        channels = self.job.prepared.network.noise_channels
        noise = self.job.noise.of(sample)
        z = torch.cat(
            [
                noise.draw(
                    channels,
                    tile.rows.size,
                    tile.cols.size,
                    first=self.corner[0] + tile.rows.start,
                    left=self.corner[1] + tile.cols.start,
                )
                for tile in self.tiles
            ]
        )
        return (z.transpose(-2, -1) if self.is_turned else z).flip(list(self.flips))

    def turned(self, is_turned: bool, flips: Sequence[int]) -> Draw:
        """The same noise, turned and flipped with the picture."""
        return replace(self, is_turned=is_turned, flips=flips)
