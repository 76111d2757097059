"""Deflate for pixels: runs of bytes alone where that is no larger, which it is in photographs."""

from __future__ import annotations

import zlib

SAMPLE = 16  # one byte of so many decides
PLACES = 4  # where these bytes are taken from
RAW, ZLIB = -15, 15  # without and with the header and checksum of zlib
MEMORY = 9  # zlib's largest blocks, each with codes of its own


def packed(data: bytes, level: int, window: int = ZLIB, end: int = zlib.Z_FINISH) -> bytes:
    """Compress filtered or predicted pixels.

    Args:
        data: The bytes.
        level: Effort of zlib where it looks for repetitions, 0 to 9.
        window: ``ZLIB``, or ``RAW`` for a part of a longer stream.
        end: How the stream is closed; ``zlib.Z_SYNC_FLUSH`` where another part follows.
    """
    part, length = len(data) // PLACES, max(1024, len(data) // (SAMPLE * PLACES))
    starts = range(part // 2, len(data), max(1, part))
    sample = b"".join(data[at : at + length] for at in starts)
    runs = _deflated(sample, 1, zlib.Z_RLE, window, end)
    both = _deflated(sample, level, zlib.Z_DEFAULT_STRATEGY, window, end)
    if level and len(runs) <= len(both):
        return _deflated(data, 1, zlib.Z_RLE, window, end)
    return _deflated(data, level, zlib.Z_DEFAULT_STRATEGY, window, end)


def _deflated(data: bytes, level: int, strategy: int, window: int, end: int) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, window, MEMORY, strategy)
    return stream.compress(data) + stream.flush(end)
