"""How long commands take to start: this checkout, and others beside it, in interleaved rounds.

    python tests/tools/startup.py [--rounds N] [--beside NAME=FOLDER ...] [--only TEXT]

Every round runs each command once in a process of its own, in each checkout (``PYTHONPATH``; a
folder with ``upscale/`` and ``weights/``). Shown are medians of wall time and of processor time
(user and system) in seconds, and the wall time over that of ``python -c "import torch"`` in the
same rounds. "until the first tile" is the time until the record of a picture of 24 x 24 pixels
comes, less the seconds in which the network ran: so decoding and encoding are counted too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
TORCH = 'python -c "import torch"'
PICTURE = ["a.png", "-o", "out.png", "--overwrite"]
COMMANDS = {
    "--help": ["--help"],
    "models": ["models"],
    "weights list": ["weights", "list"],
    "info PICTURE": ["info", "a.png"],
    "doctor": ["doctor"],
    "PICTURE --dry-run": [*PICTURE, "--dry-run"],
    "PICTURE": PICTURE,
    "PICTURE, until the first tile": [*PICTURE, "--json"],
}
Times = tuple[float, float]  # wall, processor


def timed(arguments: list[str], folder: str, package: Path | None, to_record: bool) -> Times:
    """Run Python with arguments; the seconds that it takes, or that the first record takes."""
    environment = dict(os.environ)
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    wall = 0.0
    if to_record:
        record = json.loads(process.stdout.readline())
        wall = time.perf_counter() - started - record.get("network_seconds", record["seconds"])
    process.communicate()
    if process.returncode:
        raise SystemExit(f"{arguments} in {package}: status {process.returncode}")
    wall = wall or time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def picture() -> np.ndarray:
    """A clean picture of 24 x 24 pixels."""
    y, x = np.mgrid[0:24, 0:24]
    return np.stack([x * 8, y * 8, (x + y) * 4], 2).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", nargs="*", default=[])
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    packages = {name: Path(folder) for name, _, folder in (b.partition("=") for b in given.beside)}
    packages["here"] = ROOT
    found: dict[tuple[str, str], list[Times]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(f"{folder}/a.png", picture())
        for round_ in range(given.rounds + 1):  # the first one does not count
            runs = {(TORCH, ""): timed(["-c", "import torch"], folder, None, False)}
            for label, arguments in COMMANDS.items():
                for name, package in packages.items() if given.only in label else ():
                    command = ["-m", "upscale", *arguments]
                    runs[label, name] = timed(command, folder, package, "--json" in arguments)
            for key, times in runs.items() if round_ else ():
                found.setdefault(key, []).append(times)
    torch = statistics.median(wall for wall, _ in found[TORCH, ""])
    for (label, name), times in found.items():
        wall, processor = (statistics.median(part) for part in zip(*times, strict=True))
        print(f"{label:30} {name:8} {wall:6.2f} s  {processor:6.2f} s cpu  x{wall / torch:.2f}")


if __name__ == "__main__":
    main()
