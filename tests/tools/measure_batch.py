"""Figures of batches, for docs/using.md; each prints one table.

    python tests/tools/measure_batch.py many [--pictures 2000]   good, broken, again, another alpha
    python tests/tools/measure_batch.py throughput               folder against pure network time
    python tests/tools/measure_batch.py memory [--sides 2000,5000,10000,20000]   huge pictures
    python tests/tools/measure_batch.py workers [--rounds 5]     Ray with 1 and 2 workers, wall time

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

sys.path.insert(0, str(Path(__file__).parents[2]))

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
    write_pictures(folder / "in", side, pictures)
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


def workers(folder: Path, model: str, side: int, pictures: int, rounds: int) -> None:
    """Wall time of a picture with 1 and with 2 workers of one thread each, in alternation.

    The start of Ray and the loading of models are left out: see ``steady``.
    """
    import ray

    write_pictures(folder / "in", side, pictures)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for count, found in seconds.items():
            found.append(steady(folder / "in", folder / f"out{number}-{count}", model, count))
    one, two = (statistics.median(found) for found in seconds.values())
    print(
        f"median of {rounds} with {model}, {side} x {side}: 1 worker {one:.3f} s a picture, "
        f"2 workers {two:.3f} s: {one / two:.2f} times as fast, efficiency {one / two / 2:.1%}"
    )


def steady(source: Path, target: Path, model: str, count: int) -> float:
    """Seconds a picture by the clock on the wall, while ``count`` workers are loaded and busy.

    The first pictures go one to each worker; the clock starts when the last of them is back. It
    stops after a multiple of ``count`` pictures, so that no worker stands idle at the end and the
    pictures that were half done at the start are made up for by those half done at the end.
    """

    from upscale.batch.cluster import run_on_cluster
    from upscale.batch.inputs import discover
    from upscale.batch.plan import load, plan_for
    from upscale.options import Outputs, RunOptions
    from upscale.settings import Settings

    settings, options = Settings(model=model), RunOptions(device="cpu")
    (upscaler,) = load(settings, options)
    plan = plan_for(upscaler, discover([str(source)]), settings, Outputs(f"{target}/"))
    first = {task.source.location for task in plan.tasks[:count]}
    processes: list[int] = []
    marks: list[tuple[float, float]] = []  # seconds on the wall, of the processors
    for result in run_on_cluster(plan, options, workers=count):
        assert result.status == "ok", result.error
        first.discard(str(result.input))
        if not first:
            processes = processes or ray_workers()
            assert len(processes) == count, processes
            marks.append((time.perf_counter(), sum(map(processor_seconds, processes))))
    done = (len(marks) - 1) // count * count
    wall, busy = (end - begin for begin, end in zip(marks[0], marks[done], strict=True))
    print(
        f"{count} workers: {done} pictures in {wall:.2f} s, {wall / done:.3f} s a picture, "
        f"{busy / wall / count:.2f} cores a worker",
        flush=True,
    )
    return wall / done


def ray_workers() -> list[int]:
    """The processes that hold a model; Ray's own process stands between them and this one."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in table.splitlines()]
    parent = {int(row[0]): int(row[1]) for row in rows}
    named = [int(row[0]) for row in rows if row[2:] and "ray::Worker" in row[2]]
    return [number for number in named if parent.get(parent[number]) == os.getpid()]


def processor_seconds(process: int) -> float:
    """Seconds that all threads of a process have spent on a processor."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_pictures(folder: Path, side: int, count: int) -> None:
    folder.mkdir()
    for index in range(count):
        image = Image(draw(side, side, seed=index))
        (folder / f"{index:03}.png").write_bytes(encode(image, "png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["many", "throughput", "memory", "workers"])
    parser.add_argument("--model", default="srcnn")
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
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
            workers(folder, given.model, given.side, given.pictures or 14, given.rounds)


if __name__ == "__main__":
    main()
