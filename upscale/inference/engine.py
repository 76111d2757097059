"""The engine: a network made ready; the tiles of one run, their size, batches, memory, sum.

Picture and result stay on the CPU, tiles go to the device and back. Rows are read when their tiles
are due, finished rows leave as strips: of picture and result, only those in work exist here.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from upscale import memory
from upscale.device import dtype_name, say_once, to_host
from upscale.errors import OutOfMemoryError, UpscaleError
from upscale.fast import optimized
from upscale.inference.noise import Noise
from upscale.models import Network, listening, watch
from upscale.settings import TileOption
from upscale.strips import Window
from upscale.tiling import MIN_TILE, Grid, Tile, plan, round_up

logger = logging.getLogger(__name__)

# Tiles done, of which the one in work counts in part; tiles in all. Neither share falls.
Progress = Callable[[float, int], None]
Piece = tuple[Tile, Tensor]  # a tile with what the network reads of it, or with its result
Draw = Callable[[int], Tensor]  # the noise (N, noise channels, H, W) of a draw, by its number
Strip = tuple[int, int, Tensor]  # output rows [y0, y1), (1, C, y1 - y0, W') float32 on the CPU

MANY_LEAST = 64  # a batch as large as so many smallest tiles is worth one of them for its progress
_SMALL = 128 * 128  # LR pixels that are tried without asking for memory first


@dataclass(frozen=True)
class Prepared:
    """A network on its device in its precision; can serve several threads at once.

    Attributes:
        network: In ``dtype`` on ``device``, for inference only.
        fallback: The same in float32 (the same object where ``dtype`` is float32).
        device: Where it runs.
        dtype: In which precision.
        work: For progress: what one LR pixel takes, once a run has measured it.
    """

    network: Network
    fallback: Network
    device: torch.device
    dtype: torch.dtype
    work: dict[tuple[bool, int], float] = field(
        default_factory=dict, compare=False, repr=False, kw_only=True
    )

    @property
    def stored(self) -> torch.dtype:
        """In which precision pixels and feature maps are: compiled forms have float32."""
        return torch.float32 if self.network.backend.startswith("native") else self.dtype


def prepare(
    network: Network,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Prepared:
    """Take ``network`` (float32) over for inference: it is moved, and no longer trains.

    It takes the form of :func:`upscale.fast.optimized`; feature maps go channels last, which the
    convolutions of CPUs and GPUs like better. A CPU runs bfloat16 by compiled kernels or not at
    all: PyTorch's is slower than float32 on some of those that have it, and emulated elsewhere.
    """
    device = device or torch.device("cpu")
    network = network.eval().requires_grad_(False)
    network.to(device=device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if dtype == torch.bfloat16 and device.type == "cpu":
        chosen = optimized(network, device, bf16=True)
        if chosen is not network:
            watch(chosen)
            return Prepared(chosen, network, device, dtype)
        say_once("bf16 is not faster than fp32 on this CPU with this network: fp32 runs")
        dtype = torch.float32
    fallback = chosen = optimized(network, device)
    if dtype != torch.float32:
        chosen = copy.deepcopy(fallback).to(dtype=dtype)
    watch(chosen)
    return Prepared(chosen, fallback, device, dtype)


@dataclass
class RunReport:
    """What happened in a run; filled while its strips are taken.

    Attributes:
        tile: Useful side of the tiles in LR pixels at the end of the run; None: the picture whole.
        overlap: LR pixels that neighbouring tiles share.
        tiles: Tiles of the plan that are done.
        out_of_memory: How often a batch or a tile did not fit and was made smaller.
        not_finite: Tiles that came out with NaN or infinity and were redone in float32.
        seconds: That the strips took, where who takes them counts them.
    """

    tile: int | None = None
    overlap: int = 0
    tiles: int = 0
    out_of_memory: int = 0
    not_finite: int = 0
    seconds: float = 0.0

    @property
    def retries(self) -> int:
        """All repeated attempts."""
        return self.out_of_memory + self.not_finite


class Count:
    """Counts the tiles of a run and tells their number; it never goes back.

    Attributes:
        done: Tiles that are done.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        """Begin with none of ``total``."""
        self.done = 0
        self._progress, self._total, self._told = progress, total, 0.0

    def add(self) -> None:
        """A tile is done."""
        self.done += 1
        self._tell(self.done)

    def within(self, tiles: int, work: float) -> AbstractContextManager[None]:
        """Tell how far a forward pass over some tiles is, whose layers do so much in all."""
        done = 0.0

        def tell(more: float) -> None:
            nonlocal done
            done += more
            self._tell(self.done + tiles * min(1.0, done / work))

        return listening(tell) if work > 0 else nullcontext()

    def _tell(self, at: float) -> None:
        if at >= self._told:  # a tile that did not fit in memory begins anew
            self._told = at
            self._progress(at, self._total)


@dataclass
class Engine:
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
        device = self.prepared.device
        # 1. The side asked for, or the largest that pays.
        if isinstance(option, int):
            self.tile = option
        elif option == "off":
            self.tile = max(height, width, MIN_TILE)
        else:
            self.tile = memory.largest_tile(device)
        self.report.overlap = self.overlap
        if device.type == "cuda":
            self.batch = memory.at_once(self._seen(self.tile, height, width))
        # 2. Less where the memory has not room for it.
        may_fail = self._seen(self.tile, height, width) > _SMALL
        if may_fail and (option == "auto" or device.type != "cuda"):
            self._fit_memory(option, height, width)
        # 3. Lower tiles where a row of them would make too large a band of a wide picture.
        if option == "auto":
            self.tall = memory.band_rows(4 * self.channels * self.scale**2 * width, self.overlap)

    def _seen(self, side: int, height: int, width: int) -> int:
        """LR pixels of a picture that one tile of a side shows the network."""
        limit = side + self.overlap
        return min(height, limit) * min(width, limit)

    def _fit_memory(self, option: TileOption, height: int, width: int) -> None:
        need = memory.pixel_bytes(self.scale, self.prepared.stored)
        side = memory.fitting_tile(
            self.prepared.device,
            self.tile,
            lambda side: self._seen(side, height, width) * need,
            is_auto=option == "auto",
        )
        if side == self.tile:
            return
        self.tile, self.batch = side, 1
        if option != "auto":
            self.report.out_of_memory += 1
            logger.warning("tile %s does not fit in memory; going on with %d", option, self.tile)

    def strips(
        self, lr: Window, progress: Progress | None = None, corner: tuple[int, int] = (0, 0)
    ) -> Iterator[Strip]:
        """Rows of the result of a padded picture (1, channels, H, W), as they finish.

        ``corner`` is where it lies in a larger picture, for the noise.
        """
        network = self.prepared.network
        grid = plan(
            *lr.shape[-2:],
            tile=self.tile,
            overlap=self.overlap,
            multiple_of=network.multiple_of,
            halo=network.halo,
            rows=self.tall,
        )
        self._check_row(grid)
        width = lr.shape[-1] * self.scale
        top = 0
        count = None if progress is None else Count(progress, len(grid))
        carried: Tensor | None = None
        for rows, tiles in grid.bands():
            # 1. A band: the result of a row of tiles, with what the row above left of its own.
            band = torch.zeros(1, self.channels, (rows.end - rows.first) * self.scale, width)
            if carried is not None:
                band[..., : carried.shape[-2], :] = carried
            # 2. Its tiles are read, run, and added up, each with its weights.
            part = lr.rows(rows.start, rows.stop)
            pieces = [(tile, tile.cut(part, rows.start)) for tile in tiles]
            for tile, sr in self.results(pieces, corner, count):
                band[..., tile.cols.first * self.scale : tile.cols.end * self.scale] += sr
                if count is not None:
                    count.add()
            # 3. Rows in which no other tile has a share leave; the others are carried on.
            ready = (rows.end - rows.first - rows.fall) * self.scale
            self._note(grid)
            carried = band[..., ready:, :].clone()
            yield top, top + ready, band[..., :ready, :]
            top += ready
            del band  # before the next one is made

    def _check_row(self, grid: Grid) -> None:
        """Refuse a row of tiles whose result does not fit."""
        width = grid.cols[-1].end * self.scale
        height = max(rows.end - rows.first for rows in grid.rows) * self.scale
        memory.refuse_beyond(
            4 * self.channels * width * height,
            f"{width} x {height} pixels of the result take",
            ": use a smaller --tile, or cut or turn the picture",
        )

    def _note(self, grid: Grid) -> None:
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
                if not memory.is_out_of_memory(error):
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
        strips = self.strips(Window([lr], tuple(lr.shape)), corner=corner)
        return torch.cat([rows for _, _, rows in strips], -2)

    def _shrink(self, group: list[Piece]) -> None:
        """After an out-of-memory: half the batch, or half the tile; finished tiles stay."""
        device = self.prepared.device
        memory.release(device)
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
            f"memory of {device} ({memory.free_memory(device) >> 20} MiB free): end other "
            "programs, or use a smaller --overlap, a smaller model, or another --device"
        )

    @torch.inference_mode()
    def _compute(
        self, group: list[Piece], corner: tuple[int, int], count: Count | None
    ) -> list[Piece]:
        """Tiles of one size with their weighed results, (1, C, h, w) float32 on the CPU."""
        # 1. The batch goes to the device and through the network.
        batch = torch.cat([lr for _, lr in group]).to(self.prepared.device)
        noise = self._noise([tile for tile, _ in group], corner)
        with self._telling(count, batch):
            sr = self._forward(self.prepared.network, batch.to(self.prepared.stored), noise)
        # 2. A tile that is not finite, which its sum shows, is run again in float32.
        sums = sr.sum((1, 2, 3), dtype=torch.float32)
        results = []
        for k, ((tile, _), finite) in enumerate(zip(group, sums.isfinite().tolist(), strict=True)):
            result = sr[k : k + 1] if finite else self._again(batch[k : k + 1], tile, corner)
            # 3. Back come the pixels that count.
            results.append((tile, to_host(tile.weigh(result, self.scale)).float()))
        return results

    def _noise(self, tiles: list[Tile], corner: tuple[int, int] = (0, 0)) -> Draw:
        channels = self.prepared.network.noise_channels
        return lambda sample: self.noise.of(sample).of_tiles(channels, tiles, corner)

    def _telling(self, count: Count | None, batch: Tensor) -> AbstractContextManager[None]:
        """Tell how far the forward pass of a batch is, where that takes long enough to be seen.

        A GPU computes behind Python's back: there is nothing to tell.
        """
        network, work, kind = (
            self.prepared.network,
            self.prepared.work,
            (self.tta, self.noise.samples),
        )
        pixels, side = batch[:, 0].numel(), round_up(MIN_TILE, network.multiple_of)
        if count is None or batch.device.type != "cpu" or pixels < MANY_LEAST * side**2:
            return nullcontext()
        if kind not in work:  # what the layers do for one LR pixel, measured on the smallest tile
            _, tiles = next(plan(side, side, tile=side, overlap=0).bands())
            lr = torch.zeros(1, network.channels, side, side, dtype=self.prepared.stored)
            parts: list[float] = []
            with listening(parts.append):
                self._forward(network, lr, self._noise(tiles))
            work[kind] = sum(parts) / side**2
        return count.within(len(batch), pixels * work[kind])

    def _again(self, lr: Tensor, tile: Tile, corner: tuple[int, int]) -> Tensor:
        """The result in float32 of a tile that came out not finite."""
        if self.prepared.dtype != torch.float32:
            self.report.not_finite += 1
            logger.warning(
                "a tile was not finite in %s; redone in fp32", dtype_name(self.prepared.dtype)
            )
            sr = self._forward(self.prepared.fallback, lr, self._noise([tile], corner))
            if bool(torch.isfinite(sr.sum())):
                return sr
        raise UpscaleError(
            f"the network's result is not finite in fp32 at LR row {tile.rows.first}, column "
            f"{tile.cols.first}: its weights are damaged or the picture is far outside [0, 1]"
        )

    def _forward(self, network: Network, lr: Tensor, noise: Draw) -> Tensor:
        """(N, channels, H, W) to (N, C, scale*H, scale*W), with or without TTA."""
        if not self.tta:
            return self._mean(network, lr.contiguous(memory_format=torch.channels_last), noise)
        total = torch.zeros((), device=lr.device)
        for turned in (False, True):
            for flips in ((), (-1,), (-2,), (-2, -1)):
                turn = partial(_turned, is_turned=turned, flips=flips)
                x = turn(lr).contiguous(memory_format=torch.channels_last)
                y = self._mean(network, x, _after(noise, turn)).flip(flips).float()
                total = total + (y.transpose(-2, -1) if turned else y)
        return total / 8

    def _mean(self, network: Network, lr: Tensor, noise: Draw) -> Tensor:
        """The network's result, or the mean of its draws, with their variances where asked for.

        Mean and variance are kept up to date draw by draw (Welford 1962): no draw is held.
        """
        if not network.noise_channels:
            return network(lr)
        mean = between = inside = torch.zeros((), device=lr.device)
        draws = (noise(sample).to(lr) for sample in range(self.noise.samples))
        for count, (sr, own) in enumerate(network.draws(lr, draws), 1):
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


def _turned(x: Tensor, *, is_turned: bool, flips: tuple[int, ...]) -> Tensor:
    return (x.transpose(-2, -1) if is_turned else x).flip(flips)


def _after(noise: Draw, turn: Callable[[Tensor], Tensor]) -> Draw:
    return lambda sample: turn(noise(sample))
