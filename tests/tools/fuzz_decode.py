"""Decode mutated pictures, whole and by rows: only ``ImageError`` may come, and no line on stderr.

    python -m tests.tools.fuzz_decode --count 20000 [--seed 0] [--jobs 2]

The seeds are the files of ``tests/data/pictures`` and one encoded here for every format. Each input
is drawn from its own number, so that a finding is made again by ``--only NUMBER``. Inputs run in
processes of their own in portions; a portion that ends by a signal, raises anything else, writes to
stderr, grows, or takes too long for one input is a finding, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from tests.pictures import one_line
from upscale import image
from upscale.errors import ImageError
from upscale.image import decode, describe, encode

FOLDER = Path(__file__).parents[1] / "data" / "pictures"
MAX_PIXELS = 1 << 22
MOST_PAGES = 20
PORTION = 500
SLOW = 20.0  # seconds for one input, on a loaded machine
PEAK = 600 << 20  # bytes of memory of a portion at any time; 120 of them are imports
GROWTH = 48 << 20  # bytes of memory that a portion may grow by after its first hundred inputs
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, 0x8000)

Mutation = Callable[[bytearray, Random, list[bytes]], None]


def seeds() -> list[bytes]:
    """The files that inputs are made from, smallest first."""
    from tests.pictures import exif_block, sample, written

    found = [path.read_bytes() for path in sorted(FOLDER.iterdir())]
    for format_ in written():
        for channels in (1, 3, 4) if format_.alpha else (1, 3):
            image = sample(channels, max(format_.depths)).with_metadata(
                exif=exif_block(), xmp=b"<rdf:RDF></rdf:RDF>", dpi=(72, 72)
            )
            with contextlib.suppress(ImageError):
                found.append(encode(image, format_.name))
    picture = PillowImage.fromarray(sample(3, 8, 64, 64).pixels)
    for name in ("ICO", "DDS", "PCX", "QOI", "JPEG2000"):  # read and not written here
        buffer = io.BytesIO()
        picture.save(buffer, name)
        found.append(buffer.getvalue())
    for name in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):
        buffer = io.BytesIO()
        others = [picture.rotate(90 * turns) for turns in (1, 2)]
        picture.save(buffer, name, save_all=True, append_images=others, duration=50)
        found.append(buffer.getvalue())
    return sorted((f for f in found if len(f) < 60_000), key=len)


def _flip(data: bytearray, random: Random, files: list[bytes]) -> None:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _edge(data: bytearray, random: Random, files: list[bytes]) -> None:
    size = random.choice((1, 2, 4, 8))
    at = _near_start(data, random)
    value = (random.choice(EDGES) & (1 << 8 * size) - 1).to_bytes(size, "big")
    data[at : at + size] = value if random.random() < 0.5 else value[::-1]


def _near_start(data: bytearray, random: Random) -> int:
    limit = len(data) if random.random() < 0.4 else min(len(data), 512)
    return random.randrange(limit)


def _cut(data: bytearray, random: Random, files: list[bytes]) -> None:
    del data[random.randrange(1, len(data)) :]


def _hole(data: bytearray, random: Random, files: list[bytes]) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.choice((1, 2, 16, 300))]


def _repeat(data: bytearray, random: Random, files: list[bytes]) -> None:
    at = random.randrange(len(data))
    part = data[at : at + random.choice((1, 4, 64, 1000))]
    data[at:at] = part * random.choice((1, 2, 10))


def _noise(data: bytearray, random: Random, files: list[bytes]) -> None:
    at = _near_start(data, random)
    length = random.choice((1, 4, 32))
    data[at : at + length] = random.randbytes(length)


def _splice(data: bytearray, random: Random, files: list[bytes]) -> None:
    other = random.choice(files)
    at, where = random.randrange(len(data)), random.randrange(len(other))
    data[at:] = other[where:]


MUTATIONS: tuple[Mutation, ...] = (_flip, _edge, _edge, _cut, _hole, _repeat, _noise, _splice)


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums of its chunks put right, so that their content is looked at."""
    out, at = [data[:8]], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        out += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(out)


def mutated(number: int, files: list[bytes]) -> bytes:
    """Input ``number``."""
    random = Random(number)
    data = bytearray(random.choice(files))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if len(data) > 1:
            random.choice(MUTATIONS)(data, random, files)
    out = bytes(data)
    return with_checksums(out) if out[:4] == b"\x89PNG" and random.random() < 0.7 else out


def attempt(data: bytes) -> bool:
    """Decode, describe, read by rows; whether the picture was taken. Only ``ImageError`` may come.

    Rows must be those of the picture decoded whole, and none where that was refused.
    """
    pixels = _guarded(lambda: decode(data, max_pixels=MAX_PIXELS).pixels)
    described = _guarded(lambda: describe(data))
    pages = _guarded(lambda: _by_rows(data))
    if pages is not None and len(pages) == 1 and described and described["frames"] == 1:
        assert pixels is not None, "read by rows, and refused whole"
        (rows,) = pages
        assert rows.shape == pixels.shape, f"{rows.shape} by rows, {pixels.shape} whole"
        assert (rows == pixels).all(), "other pixels by rows than whole"
    return pixels is not None and described is not None


T = TypeVar("T")


def _guarded(action: Callable[[], T]) -> T | None:
    try:
        return action()
    except ImageError as error:
        one_line(str(error))
        return None


def _by_rows(data: bytes) -> list[NDArray[Any]]:
    """Every page."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        reader = image.open(file.name, max_pixels=MAX_PIXELS)
        pages = islice(reader.pages(), MOST_PAGES)
        return [np.concatenate(list(page.rows())) for page in pages]


def resident() -> int:
    """Bytes of memory that this process has now."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


@dataclass
class Outcome:
    """What a portion came to: inputs taken, the slowest and its number, memory in bytes."""

    taken: int = 0
    slowest: float = 0.0
    which: int = 0
    grown: int = 0
    peak: int = 0
    findings: list[str] = field(default_factory=list)


def portion(numbers: range) -> Outcome:
    """Run some inputs in this process."""
    files, done, warm = seeds(), Outcome(), 0
    for count, number in enumerate(numbers):
        data = mutated(number, files)
        started = time.perf_counter()
        try:
            done.taken += attempt(data)
        except Exception:  # noqa: BLE001 - that is what is looked for
            done.findings.append(f"input {number}: {traceback.format_exc()[-700:]}")
        seconds = time.perf_counter() - started
        if seconds > done.slowest:
            done.slowest, done.which = seconds, number
        if count == 100:
            warm = resident()
    if done.slowest > SLOW:
        done.findings.append(f"input {done.which}: took {done.slowest:.1f} s")
    done.grown = resident() - warm if warm else 0
    if done.grown > GROWTH:
        done.findings.append(f"from {numbers.start}: memory grew by {done.grown >> 20} MiB")
    done.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if done.peak > PEAK:
        done.findings.append(f"from {numbers.start}: memory went up to {done.peak >> 20} MiB")
    return done


def _process(numbers: range) -> Outcome:
    """Run a portion in a process of its own; its stderr must stay empty."""
    where = f"{numbers.start}:{numbers.stop}"
    command = [sys.executable, "-m", "tests.tools.fuzz_decode", "--portion", where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr[-500:]
        return Outcome(findings=[f"inputs {where}: exit status {done.returncode}: {said}"])
    *leaked, last = done.stdout.splitlines()
    outcome = Outcome(**json.loads(last))
    if done.stderr.strip() or leaked:
        said = (done.stderr + "".join(leaked))[:300]
        outcome.findings.append(f"inputs {where}: on the terminal: {said!r}")
    return outcome


def main() -> int:
    """Run all inputs and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, help="run this one input here, with its traceback")
    parser.add_argument("--portion", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        data = mutated(options.only, seeds())
        Path("fuzz-input.bin").write_bytes(data)
        sys.stdout.write(f"{len(data)} bytes, also in fuzz-input.bin; taken: {attempt(data)}\n")
        return 0
    if options.portion:
        start, stop = map(int, options.portion.split(":"))
        sys.stdout.write(json.dumps(asdict(portion(range(start, stop)))) + "\n")
        return 0
    end = options.seed + options.count
    portions = [range(i, min(i + PORTION, end)) for i in range(options.seed, end, PORTION)]
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(_process, portions))
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    taken = sum(outcome.taken for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.slowest)
    peak = max(outcome.peak for outcome in outcomes) >> 20
    grown = max(outcome.grown for outcome in outcomes) / 2**20
    sys.stdout.write("".join(f"{finding}\n" for finding in findings))
    sys.stdout.write(
        f"{options.count} inputs: {taken} decoded, {options.count - taken} refused, "
        f"{len(findings)} findings; slowest {slowest.slowest:.2f} s (input {slowest.which}), "
        f"peak memory {peak} MiB, largest growth of a process {grown:.1f} MiB\n"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
