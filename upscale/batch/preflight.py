"""What a run will need and where it will fail, from the headers of the pictures alone."""

from __future__ import annotations

import io
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from upscale import memory, storage
from upscale.batch.inputs import Input
from upscale.batch.plan import Plan
from upscale.batch.task import STDOUT, Task
from upscale.batch.work import assumed_profile, describe, most_pixels, opened
from upscale.errors import ImageError
from upscale.image import FORMATS, Encoding, Info, Reader, check_input, create, create_pages
from upscale.settings import Settings
from upscale.upscaler import Upscaler
from upscale.upscaler.enlargement import margins
from upscale.upscaler.job import same_format

HEAD_BYTES = 1 << 16
PROBE_SIDE = 96  # of the picture that the speed is measured on, LR pixels
# Bytes of an output for each byte of its pixels: for photographs, generously.
CODED_SHARE = {"png": 0.75, "jpeg": 0.25, "webp": 0.25, "tiff": 1.0, "bmp": 1.0}


@dataclass(frozen=True)
class Forecast:
    """One picture of a plan.

    Attributes:
        task: The picture; its sizes are 0 where they are not known.
        disk: Bytes of the output, estimated.
        memory: Bytes in memory while it is in the network, estimated.
        problem: Why it will fail, or empty.
        note: What the size asked for does to it, or empty.
        doubt: Why it may fail, or empty.
    """

    task: Task
    width: int = 0
    height: int = 0
    out_width: int = 0
    out_height: int = 0
    disk: int = 0
    memory: int = 0
    problem: str = ""
    note: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Preflight:
    """All pictures of a plan and their sum.

    Attributes:
        seconds: Time in the network, estimated from a small picture.
        free: Bytes free for the outputs, by folder.
        memory_free: Bytes of memory free now.
        notes: What a person should know, one sentence each.
    """

    lines: tuple[Forecast, ...]
    seconds: float
    free: dict[str, int]
    memory_free: int
    notes: tuple[str, ...] = ()

    @property
    def todo(self) -> list[Forecast]:
        """The pictures that will be done."""
        return [line for line in self.lines if line.task.action == "do" and not line.problem]

    @property
    def problems(self) -> list[Forecast]:
        """The pictures that will fail."""
        return [line for line in self.lines if line.problem]


def preflight(plan: Plan, upscaler: Upscaler, *, max_pixels: int | None = None) -> Preflight:
    """Read the headers of a plan's pictures and estimate what the run needs."""
    lines = tuple(_forecast(task, plan.settings, upscaler, max_pixels) for task in plan.tasks)
    pixels = sum(line.width * line.height for line in lines if not line.problem)
    return Preflight(
        lines=lines,
        seconds=_seconds(pixels, upscaler),
        free=dict(_free(plan)),
        memory_free=memory.free_memory(memory.CPU),
        notes=tuple(plan.notes),
    )


def _forecast(
    task: Task, settings: Settings, upscaler: Upscaler, max_pixels: int | None
) -> Forecast:
    if task.action != "do":
        return Forecast(task, problem=task.reason if task.action == "fail" else "")
    try:
        info = _look(task.source, settings.assume_icc, max_pixels)
        if info.format == "tiff" and (number := task.page or (settings.page or (1,))[0]) > 1:
            info = _of_page(info, _reader(task.source, settings, max_pixels), number)
    except (OSError, ImageError) as error:
        return Forecast(task, problem=describe(error))
    turned = info.metadata.orientation >= 5
    width, height = (info.height, info.width) if turned else (info.width, info.height)
    out_height, out_width = settings.final_shape(height, width, upscaler.scale)
    name = task.format or same_format(info.format)
    sample = info.channels * info.depth // 8
    before, after = width * height * sample, out_width * out_height * sample
    held = memory.held_bytes(before, after, (width + out_width) * sample)
    native, networks = upscaler.native(), [stage.network for stage in upscaler.chain()]
    down, across = margins(settings, networks, (height, width), (out_height, out_width))
    seen = (width + 2 * across, height + 2 * down)
    running = memory.running_bytes(
        upscaler.device, *seen, native.scale, native.channels, native.stored
    )
    shape = (out_height, out_width, info.channels)
    pages = (task.page, task.page) if task.page else settings.page
    return Forecast(
        *(task, width, height, out_width, out_height),
        disk=int(after * CODED_SHARE.get(name, 1.0)),
        memory=held + running,
        problem=_refusal(name, shape, info, settings, pages),
        note=settings.distortion(height, width),
        doubt=_doubt(name, info, settings),
    )


def _refusal(
    name: str,
    shape: tuple[int, int, int],
    info: Info,
    settings: Settings,
    pages: tuple[int, int] | None,
) -> str:
    """Why the writer will not take the result, or empty; asked of the writer itself."""
    lossless = settings.lossless and FORMATS[name].lossless
    encoding = Encoding(settings.quality, lossless, settings.background)
    dtype = f"uint{info.depth}" if info.depth < 32 else "float32"
    first, last = pages or (1, info.frames)
    count = min(last, info.frames) - first + 1
    try:
        create(io.BytesIO(), name, shape, dtype, info.metadata, encoding)
        if count > 1:
            create_pages(io.BytesIO(), name, encoding, count, is_timed=info.format != "tiff")
    except ImageError as error:
        return str(error)
    return ""


def _doubt(name: str, info: Info, settings: Settings) -> str:
    """What may fail and the header does not tell, or empty."""
    format_, doubts = FORMATS[name], []
    if info.channels in (2, 4) and not format_.alpha and settings.background is None:
        doubts.append(
            f"has an alpha channel, which {name} does not hold: it fails unless it is opaque "
            "throughout; give --background COLOUR, or -f png"
        )
    if info.depth == 32 and 32 not in format_.depths:
        doubts.append(
            f"has floating-point values, of which {name} holds those from 0 to 1 alone: it fails "
            "if there are others; give -f tiff"
        )
    return "; ".join(doubts)


def _of_page(info: Info, reader: Reader, number: int) -> Info:
    """What is known of a page of a TIFF, whose pages have sizes and kinds of their own."""
    page = reader.only((number, number))
    same = {name: getattr(page, name) for name in ("width", "height", "channels", "metadata")}
    return replace(info, depth=page.dtype.itemsize * 8, **same)


@lru_cache(maxsize=1)  # the pages of a file come one after the other
def _reader(source: Input, settings: Settings, max_pixels: int | None) -> Reader:
    return opened(storage.content(source.location, source.data), settings, max_pixels)


@lru_cache(maxsize=1)
def _look(source: Input, assume_icc: str | None, max_pixels: int | None) -> Info:
    """What the header says, of a URL by its first bytes where they are enough."""

    def look(where: bytes | str, size: int) -> Info:
        most = max_pixels or most_pixels(isinstance(where, str) and size > storage.READ_BYTES)
        profile = assumed_profile(assume_icc)
        return check_input(where, max_pixels=most, assume_icc=profile)

    location, data = source.location, source.data
    if data is None and os.path.isfile(location):
        return look(location, os.path.getsize(location))
    if data is None and storage.is_url(location):
        head = storage.read_head(location, HEAD_BYTES)
        if len(head) == HEAD_BYTES:
            with suppress(ImageError):
                info = look(head, 0)
                if info.format != "gif":  # whose frames are counted to its end
                    return info
    return look(storage.content(location, data).where, 0)


def _seconds(pixels: int, upscaler: Upscaler) -> float:
    """Time in the network for so many LR pixels, measured on a small picture.

    A forecast is to take no longer than the run: few pixels are run once, not first to warm up.
    """
    if not pixels:
        return 0.0
    side = min(PROBE_SIDE, math.isqrt(pixels - 1) + 1)
    lr = torch.zeros(1, upscaler.native().channels, side, side)
    if pixels > 4 * PROBE_SIDE**2:
        upscaler.tensor(lr)
    started = time.perf_counter()
    upscaler.tensor(lr)
    return (time.perf_counter() - started) * pixels / side**2


def _free(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield the folders that outputs go to, by file system, and the bytes free there."""
    seen: set[int] = set()
    for task in plan.tasks:
        if task.action != "do" or task.output == STDOUT or storage.is_url(task.output):
            continue
        folder = os.path.dirname(task.output) or "."
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder) or "."
        device = os.stat(folder).st_dev
        if device not in seen:
            seen.add(device)
            yield folder, shutil.disk_usage(folder).free
