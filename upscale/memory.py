"""Memory: what is free, what a picture or a tile takes, and what may be held at once.

The engine, the budget of a batch and the forecast of a dry run all ask here.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscale.errors import OutOfMemoryError
from upscale.strips import gathered

AT_ONCE = 1 << 27  # bytes of input and result; a picture of more is read and written by rows
MOST_PIXELS = 1 << 34  # of an input, unless a limit is given
ROWS_HELD = 1024  # rows of input and result in memory where a picture goes by rows, about

SIDES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 16)  # automatic tiles, LR pixels
LARGEST_AUTO = {"cpu": 256, "mps": 512, "cuda": 1024}  # beyond it nothing is gained
PIXEL_BYTES = 16 << 10  # an LR pixel of a tile in float32, up to x4; the papers' networks: 7 to 16
MEMORY_SHARE = {"cpu": 0.5, "mps": 0.5, "cuda": 0.8}  # of the free memory, for one batch of tiles
MAX_BATCH = 16
BATCH_PIXELS = 512 * 512  # a GPU is busy with that many LR pixels at once
BAND_BYTES = 1 << 26  # of one row of tiles of the result, where the tiles are automatic
MOST_BAND_BYTES = 1 << 28  # the same, where lower tiles would be more than a seventh context
MIN_ROWS = 64  # useful height of such tiles at least, LR pixels

CPU = torch.device("cpu")
_MIB = 2**20
_UNKNOWN_MEMORY = 2 * 2**30  # bytes assumed free where the system does not say
_UNLIMITED = 2**60  # cgroup v1 writes "no limit" as a number near 2**63
_SIGNS = (  # of exhausted memory in the RuntimeErrors of PyTorch, cuDNN, cuBLAS and Metal
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "could not create a memory",
)


def goes_by_rows(before: int, after: int) -> bool:
    """Whether a picture of so many bytes is too large to be held together with its result."""
    return before + after > AT_ONCE


def held_bytes(before: int, after: int, row: int) -> int:
    """Bytes held while a picture is enlarged and encoded: its own, its result's, a row of both."""
    return ROWS_HELD * row if goes_by_rows(before, after) else before + 2 * after


def whole(
    strips: Iterable[NDArray[Any]], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """The whole picture, (H, W, C), of its strips.

    Raises:
        OutOfMemoryError: It exceeds the free memory; the system would end the process later.
    """
    height, width, channels = shape
    refuse_beyond(
        width * height * channels * dtype.itemsize,
        f"the result of {width} x {height} pixels takes",
        "; choose a smaller --scale, or end other programs",
    )
    return gathered(strips, height)


def refuse_beyond(need: int, what: str, remedy: str) -> None:
    """Refuse what the memory of this process cannot hold: the system would end the process."""
    free = free_memory(CPU)
    if need > free:
        raise OutOfMemoryError(f"{what} {need >> 20} MiB and {free >> 20} MiB are free{remedy}")


def pixel_bytes(scale: int, dtype: torch.dtype) -> int:
    """Bytes that one LR pixel of a tile takes on the device while a network runs, roughly.

    The feature maps of the enlarged picture weigh most, and above x4 they alone.
    """
    return int(PIXEL_BYTES * max(1.0, scale**2 / 16) * dtype.itemsize / 4)


def largest_tile(device: torch.device) -> int:
    """Side of an automatic tile where memory is no matter, LR pixels."""
    return LARGEST_AUTO.get(device.type, LARGEST_AUTO["cpu"])


def fitting_tile(
    device: torch.device, side: int, need: Callable[[int], int], *, is_auto: bool
) -> int:
    """The largest side, at most ``side``, of a tile that the free memory of a device holds.

    ``need`` gives the bytes for a side. Where nobody asked for it, a share of memory stays free.
    """
    share = MEMORY_SHARE.get(device.type, MEMORY_SHARE["cpu"])
    budget = free_memory(device) * (share if is_auto else 0.9)
    for smaller in (s for s in SIDES if s < side):
        if need(side) <= budget:
            break
        side = smaller
    return side


def at_once(pixels: int, most: int = MAX_BATCH) -> int:
    """How many tiles, or pictures, of so many LR pixels a GPU runs at once."""
    return max(1, min(most, BATCH_PIXELS // pixels))


def band_rows(row: int, overlap: int) -> int:
    """LR rows of an automatic tile at most, where the result of an LR row takes ``row`` bytes."""
    most = MOST_BAND_BYTES // row - overlap
    return max(MIN_ROWS, BAND_BYTES // row - overlap, min(most, 6 * overlap))


def running_bytes(
    device: torch.device, width: int, height: int, scale: int, channels: int, dtype: torch.dtype
) -> int:
    """Bytes of this machine that a network takes while it runs over a picture, roughly.

    A tile in the network (of a GPU's, its own memory) and a row of tiles beside it.
    """
    side = largest_tile(device)
    row = 4 * channels * min(side, height) * width * (1 + scale**2)
    if device.type != "cpu":
        return row
    tile = min(side, height) * min(side, width) * pixel_bytes(scale, dtype)
    return min(row, MOST_BAND_BYTES) + tile


def free_memory(device: torch.device) -> int:
    """Bytes that new tensors on ``device`` can take now.

    On CUDA this counts what PyTorch holds in reserve; on the CPU it respects cgroup and address
    space limits, so that it is right inside a container.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserve
    if device.type == "mps":
        used = torch.mps.driver_allocated_memory()
        return max(0, torch.mps.recommended_max_memory() - used)
    return min(_system_free(), *_limits(), _UNLIMITED)


def _system_free() -> int:
    """Bytes free on this machine; half of what it has, where it does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_MEMORY


def _limits() -> Iterator[int]:
    """Bytes left under each limit that binds this process."""
    for folder, maximum, current in _cgroups():
        limit, used = _read_int(folder / maximum), _read_int(folder / current)
        if limit is not None and used is not None:
            yield max(0, limit - used + _reclaimable(folder))
    if sys.platform != "win32":
        import resource  # not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        statm = Path("/proc/self/statm")
        if soft != resource.RLIM_INFINITY and statm.exists():
            used = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            yield max(0, soft - used)


def _cgroups() -> Iterator[tuple[Path, str, str]]:
    """Folders of the memory cgroups around this process, with their limit and usage file names."""
    own = Path("/proc/self/cgroup")
    if not own.exists():
        return
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = root / path.lstrip("/")
        for candidate in (folder, *folder.parents):
            if candidate.is_relative_to(root):
                yield candidate, *names


def _reclaimable(folder: Path) -> int:
    """Bytes of file cache that the kernel gives back before it refuses memory to a cgroup."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _read_int(path: Path) -> int | None:
    """The number in a cgroup file; None where there is no file or no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release(device: torch.device) -> None:
    """Give memory that PyTorch keeps in reserve back to ``device``, after an out-of-memory."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@functools.cache
def keep_large_blocks() -> bool:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel.

    A network's feature maps are freed and allocated again hundreds of times per tile; with the
    default settings each one is mapped anew and its pages fault in one by one. Nothing is changed
    where the user has set ``MALLOC_MMAP_THRESHOLD_`` or ``MALLOC_TRIM_THRESHOLD_`` or the C library
    is another one. Returns whether the settings are in force.
    """
    is_set = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys()
    if is_set or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # of malloc.h
    kept = mallopt(mmap_threshold, 1024 * _MIB) and mallopt(trim_threshold, 2048 * _MIB - 1)
    # the arena of a second thread holds no block above 64 MiB: what a network asks for outside of
    # the main thread would be fresh pages each time
    return bool(kept and mallopt(arena_max, 1))
