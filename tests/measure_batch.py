"""Figures for docs/reliability.md and docs/batch.md; each prints one table.

    python tests/measure_batch.py many [--pictures 2000]   good, broken, again, another alpha
    python tests/measure_batch.py throughput               folder against pure network time
    python tests/measure_batch.py memory [--sides 2000,5000,10000,20000]   huge pictures
    python tests/measure_batch.py workers                  Ray with 1 and 2 workers

``--model`` names the model (any name or checkpoint file).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from tests.conftest import draw, png
from upscale.image import Image, encode

BROKEN = (b"", b"text\n", png(30, 30)[:200], b"\xff\xd8\xff\xe0garbage", b"BM" + bytes(60))


def command(*arguments: object) -> tuple[int, list[dict[str, object]], float]:
    """Run the command line; return its status, its records and the seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "upscale", *map(str, arguments), "--json", "-q"],
        capture_output=True,
        check=False,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, records, time.monotonic() - started


def many(folder: Path, model: str, pictures: int) -> None:
    for index in range(pictures):
        path = folder / "in" / f"{index % 13}" / f"{index % 7}" / f"{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        bad = index % (pictures // 20) == 7
        path.write_bytes(BROKEN[index % 5] if bad else png(16 + index % 5, 16, seed=index))
    base = (folder / "in", "-r", "-o", folder / "out", "-m", model)
    for label, more in (("first", ()), ("again", ()), ("another alpha", ("--alpha", "0.3"))):
        code, records, seconds = command(*base, *more)
        counts = {s: sum(r["status"] == s for r in records) for s in ("ok", "skipped", "failed")}
        print(f"{label:14} exit {code}  {counts}  {seconds:.1f} s", flush=True)


def throughput(folder: Path, model: str, side: int, pictures: int) -> None:
    """Ratio of pure network time to the time of the whole folder, interleaved rounds."""
    import upscale.batch
    from upscale.upscaler import load

    images = [Image(draw(side, side, seed=index)) for index in range(pictures)]
    (folder / "in").mkdir()
    for index, image in enumerate(images):
        (folder / "in" / f"{index:03}.png").write_bytes(encode(image, "png"))
    upscaler = load(model)
    upscaler.enlarge(images[0])
    ratios = []
    for number in range(5):
        started = time.perf_counter()
        for image in images:
            upscaler.enlarge(image)
        network = time.perf_counter() - started
        target = folder / f"out{number}"
        run = upscale.batch(folder / "in", target, model=model)  # loads and plans
        started = time.perf_counter()
        assert len(list(run)) == pictures
        whole = time.perf_counter() - started
        ratios.append(network / whole)
        print(f"network {network:6.2f} s, folder {whole:6.2f} s: {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.3f} with {model}, {pictures} of {side} x {side}")


def memory(folder: Path, model: str, sides: list[int], fmt: str, dtype: str) -> None:
    import tifffile

    for side in sides:
        source, target = folder / f"{side}.tif", folder / f"{side}-x2.{fmt}"
        piece = draw(256, 256, seed=side)
        tiles = (piece for _ in range((-(-side // 256)) ** 2))
        with tifffile.TiffWriter(source, bigtiff=side > 30000) as writer:
            writer.write(
                tiles, shape=(side, side, 3), dtype=np.uint8, photometric="rgb",
                tile=(256, 256), compression="zlib", compressionargs={"level": 1}, metadata=None,
            )  # fmt: skip
        code = (
            "import resource, sys; from upscale.cli import status\n"
            f"a = [{str(source)!r}, '-m', {model!r}, '-s', '2', '--dtype', {dtype!r}]\n"
            f"a += ['-q', '-o', {str(target)!r}]\n"
            "c = status(a)\n"
            "print(c, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - started
        size = target.stat().st_size >> 20 if target.exists() else 0
        print(
            f"{side:6} -> {2 * side:6}  exit, peak MiB: {done.stdout.strip():12} "
            f"output {size} MiB  {seconds:.0f} s {done.stderr.strip()[-200:]}",
            flush=True,
        )
        source.unlink()
        target.unlink(missing_ok=True)


def workers(folder: Path, model: str, side: int, pictures: int) -> None:
    (folder / "in").mkdir()
    for index in range(pictures):
        image = Image(draw(side, side, seed=index))
        (folder / "in" / f"{index:03}.png").write_bytes(encode(image, "png"))
    os.environ["OMP_NUM_THREADS"] = "1"
    base = (folder / "in", "-m", model)
    for count in (1, 2):
        more = ("--engine", "ray", "--workers", count)
        _, records, _ = command(*base, "-o", folder / f"out{count}", *more)
        spent = sum(float(str(r["seconds"])) for r in records)
        print(f"{count} workers: {len(records)} pictures, {spent:.1f} s of work", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["many", "throughput", "memory", "workers"])
    parser.add_argument("--model", default="srcnn")
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--sides", default="2000,5000,10000,20000")
    parser.add_argument("--format", default="tif")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.what == "many":
            many(folder, given.model, given.pictures or 2000)
        elif given.what == "throughput":
            throughput(folder, given.model, given.side, given.pictures or 16)
        elif given.what == "memory":
            sides = [int(side) for side in given.sides.split(",")]
            memory(folder, given.model, sides, given.format, given.dtype)
        else:
            workers(folder, given.model, given.side, given.pictures or 16)


if __name__ == "__main__":
    main()
