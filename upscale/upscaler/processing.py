"""The one job: all that is ever done to a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from upscale.image import Reader
from upscale.inference import Progress, RunReport, run_together
from upscale.settings import Settings
from upscale.upscaler.networks import Networks
from upscale.upscaler.result import Result
from upscale.upscaler.stream import Stream
from upscale.upscaler.targets import Target

AT_ONCE = 1 << 27  # bytes of input and result; a picture of more is read and written by rows
MOST_PIXELS = 1 << 34  # of an input, unless a limit is given


def process(
    reader: Reader,
    target: Target,
    upscaler: Networks,
    settings: Settings,
    progress: Progress | None = None,
) -> Result:
    """Enlarge the picture that a reader gives and write it to a target.

    Files, folders, stdin, watched folders, the workers of a cluster and ``Upscaler``'s own methods
    differ only in who calls this and in what opens its two ends.

    Args:
        reader: The picture; of a large one, only the rows in work are in memory.
        target: Where the result goes.
        upscaler: The loaded model.
        settings: As the model was loaded with, but for what one picture may have otherwise.
        progress: Called with the tiles done, the one in work in part, and all tiles.

    Raises:
        ImageError: The picture is damaged, or its format cannot hold the result.
        OutOfMemoryError: Not even the smallest tile fits.
        UsageError: Options do not fit the format.
    """
    started = time.perf_counter()
    result = _written(upscaler.stream_of(reader, settings, progress), target)
    return replace(result, seconds=time.perf_counter() - started)


def process_together(
    readers: Sequence[Reader], targets: Sequence[Target], upscaler: Networks, settings: Settings
) -> list[Result]:
    """:func:`process` for small pictures of one height and width, run through the network at once.

    A GPU is not busy with one small picture. On the same device in the same company the results
    are the same; in another, their last bit may differ. Each result has its share of the seconds.
    """
    started = time.perf_counter()
    streams = [upscaler.stream_of(reader, settings) for reader in readers]
    for alike in _alike(streams):
        report, begun = RunReport(), time.perf_counter()
        results = run_together(
            alike[0].stages[0].prepared,
            [stream.lr for stream in alike],
            overlap=settings.overlap,
            tta=settings.tta,
            noise=alike[0].noise,
            report=report,
        )
        share = (time.perf_counter() - begun) / len(alike)
        for stream, sr in zip(alike, results, strict=True):
            stream.take(sr, report.retries, share)
    written = [_written(stream, target) for stream, target in zip(streams, targets, strict=True)]
    share = (time.perf_counter() - started) / len(streams)
    return [replace(result, seconds=share) for result in written]


def _alike(streams: Sequence[Stream]) -> list[list[Stream]]:
    """Those that one and the same network enlarges; those that a chain enlarges run alone."""
    groups: dict[int, list[Stream]] = {}
    for stream in streams:
        if len(stream.stages) == 1:
            groups.setdefault(id(stream.stages[0]), []).append(stream)
    return list(groups.values())


def _written(stream: Stream, target: Target) -> Result:
    """Write a stream to its target."""
    writer = target.create(stream)
    writer.write(stream)
    losses = (*stream.metadata.notes, *writer.losses)
    return replace(stream.result, losses=losses)


def bytes_of(reader: Reader, upscaler: Networks, settings: Settings) -> tuple[int, int]:
    """Bytes that a picture and its result take, decoded."""
    sample = reader.channels * reader.dtype.itemsize
    height, width = settings.final_size(reader.height, reader.width, upscaler.scale)
    return reader.height * reader.width * sample, height * width * sample


def goes_by_rows(reader: Reader, upscaler: Networks, settings: Settings) -> bool:
    """Whether a picture is too large to be held in memory with its result."""
    return sum(bytes_of(reader, upscaler, settings)) > AT_ONCE
