"""Interrupt a batch at random moments, resume it, and compare the end with an undisturbed run.

    python tests/tools/soak.py --rounds 60 --pictures 40 [--rows]

Each round starts ``upscale`` on one folder and ends it in one of several ways at a random moment:
SIGKILL, SIGTERM, SIGINT, SIGINT twice, a closed stdout, a full disk, a read-only output folder, an
input deleted, an input changed. After each round no half-written file may bear a final name. At the
end everything is put back, the same command runs once undisturbed, and every output must be
byte for byte that of a run that nothing disturbed. With ``--rows`` half of the pictures are TIFFs
and all go by rows from file to file, as large ones do. Needs root on Linux for the disk (else those
rounds are left out, and it says so).
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.conftest import png
from upscale.image import decode, encode

SECONDS = 300
BY_ROWS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):  # until the command line takes them over
    signal.signal(number, lambda number, frame: os._exit(128 + number))
from upscale import memory, storage
storage.READ_BYTES, memory.AT_ONCE = 0, 1
from upscale.cli import status
sys.exit(status(sys.argv[1:]))
"""


class Soak:
    """A folder of pictures, an output folder, and the command that goes from one to the other."""

    def __init__(self, folder: Path, pictures: int, model: str, seed: int, rows: bool) -> None:
        self.program = ("-c", BY_ROWS) if rows else ("-m", "upscale")
        self.random = random.Random(seed)
        self.inputs, self.output = folder / "in", folder / "disk" / "out"
        self.disk = folder / "disk"
        self.model = model
        self.disk.mkdir(parents=True)
        self.has_disk = self._mount()
        self.content: dict[Path, bytes] = {}
        for index in range(pictures):
            ext = "tif" if rows and index % 2 else "png"
            path = self.inputs / f"{index % 5}" / f"{index:04}.{ext}"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = png(20 + index % 9, 30 + index % 7, seed=index)
            self.content[path] = encode(decode(data), ext)
            path.write_bytes(self.content[path])
        self.environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONFAULTHANDLER="1")

    def _mount(self) -> bool:
        if os.geteuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.disk)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def close(self) -> None:
        if self.has_disk:
            subprocess.run(["umount", "-l", str(self.disk)], check=True)

    def start(self, output: Path | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, *self.program, str(self.inputs), "-r", "--json", "-q"),
                *("-o", str(output or self.output), "-m", self.model),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def restore(self) -> None:
        """Put the inputs back as they were."""
        for path, data in self.content.items():
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)

    def wait(self, process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except ValueError:  # stdout was closed on purpose
            process.wait(SECONDS)
            out, err = b"", process.stderr.read() if process.stderr else b""
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler writes what every thread does
            raise AssertionError(f"hangs: {process.communicate()[1].decode()}") from None
        return process.returncode, out, err

    def until(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a random moment: some start-up, then some pictures, then a fraction more."""
        assert process.stdout is not None
        if self.random.random() < 0.15:
            time.sleep(self.random.uniform(0.3, 2.5))  # before, Python itself starts
            return
        fresh = self.random.randrange(1, 8)
        while fresh:
            line = process.stdout.readline()
            if not line:
                return
            fresh -= b'"ok"' in line
        time.sleep(self.random.uniform(0, 0.03))


def by_signal(*numbers: int) -> Callable[[Soak], str]:
    """Return a round that sends signals."""

    def go(soak: Soak) -> str:
        process = soak.start()
        soak.until(process)
        for number in numbers:
            if process.poll() is None:
                process.send_signal(number)
                time.sleep(0.02)
        code, _, err = soak.wait(process)
        allowed = {signal.SIGKILL: {-9}, signal.SIGTERM: {143}, signal.SIGINT: {130}}[numbers[0]]
        check(code in allowed | {0}, f"{numbers}: status {code}: {err.decode()}")
        return "finished first" if code == 0 else f"status {code}"

    return go


def closed_pipe(soak: Soak) -> str:
    process = soak.start()
    soak.until(process)
    assert process.stdout is not None
    process.stdout.close()
    code, _, err = soak.wait(process)
    check(code in {0, 141} and b"Traceback" not in err, f"closed pipe: {code}: {err.decode()}")
    return f"status {code}"


def full_disk(soak: Soak) -> str:
    """Leave room for a few outputs only, from the start."""
    filler = soak.disk / "filler"
    free = shutil.disk_usage(soak.disk).free
    filler.write_bytes(bytes(max(0, free - soak.random.randrange(0, 60000))))
    code, _, err = soak.wait(soak.start())
    filler.unlink()
    check(code in {0, 1} and b"Traceback" not in err, f"full disk: {code}: {err.decode()}")
    check(code == 0 or b"no space left" in err, f"full disk: {err.decode()}")
    return f"status {code}"


def read_only(soak: Soak) -> str:
    """Make the output folders immutable in mid-run."""
    process = soak.start()
    soak.until(process)
    folders = [str(p) for p in (soak.output, *soak.output.rglob("*")) if p.is_dir()]
    chattr(["+i", *folders])
    code, _, err = soak.wait(process)
    chattr(["-i", *folders])
    check(code in {0, 1, 2} and b"Traceback" not in err, f"read-only: {code}: {err.decode()}")
    return f"status {code}"


def chattr(arguments: list[str]) -> bool:
    if len(arguments) < 2 or shutil.which("chattr") is None:
        return False
    return subprocess.run(["chattr", *arguments], check=False, capture_output=True).returncode == 0


def input_deleted(soak: Soak) -> str:
    process = soak.start()
    soak.until(process)
    for path in soak.random.sample(sorted(soak.content), 3):
        path.unlink(missing_ok=True)
    code, _, err = soak.wait(process)
    check(code in {0, 1} and b"Traceback" not in err, f"deleted: {code}: {err.decode()}")
    return f"status {code}"


def input_changed(soak: Soak) -> str:
    process = soak.start()
    soak.until(process)
    for path in soak.random.sample(sorted(soak.content), 3):
        path.write_bytes(png(25, 25, seed=soak.random.randrange(10**6)))
    code, _, err = soak.wait(process)
    check(code in {0, 1} and b"Traceback" not in err, f"changed: {code}: {err.decode()}")
    return f"status {code}"


ROUNDS: dict[str, Callable[[Soak], str]] = {
    "SIGKILL": by_signal(signal.SIGKILL),
    "SIGTERM": by_signal(signal.SIGTERM),
    "SIGINT": by_signal(signal.SIGINT),
    "SIGINT twice": by_signal(signal.SIGINT, signal.SIGINT),
    "closed pipe": closed_pipe,
    "full disk": full_disk,
    "read-only folder": read_only,
    "input deleted": input_deleted,
    "input changed": input_changed,
}
NEED_DISK = {"full disk", "read-only folder"}


def check(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def outputs(folder: Path) -> dict[str, bytes]:
    """Final names with their content; the journal and temporary files are left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".upscale" not in path.parts and not path.name.startswith(".upscale-")
    }


def whole(folder: Path) -> None:
    """Every final name holds a whole picture."""
    for name, data in outputs(folder).items():
        try:
            decode(data)
        except Exception as error:
            raise AssertionError(f"{name} is half a file: {error}") from error


def soak(
    folder: Path, rounds: int, pictures: int, model: str, seed: int, by_rows: bool
) -> dict[str, int]:
    """Run all rounds; return how often each kind was done."""
    job = Soak(folder, pictures, model, seed, by_rows)
    try:
        names = [name for name in ROUNDS if job.has_disk or name not in NEED_DISK]
        counts: collections.Counter[str] = collections.Counter()
        reference = folder / "reference"
        code, _, err = job.wait(job.start(reference))
        check(code == 0, f"undisturbed: {code}: {err.decode()}")
        for number in range(rounds):
            name = names[number % len(names)]
            result = ROUNDS[name](job)
            if job.output.exists():
                whole(job.output)
            job.restore()
            counts[name] += 1
            done = len(outputs(job.output)) if job.output.exists() else 0
            print(f"{number + 1:3} {name:17} {result:16} {done}/{pictures} there", flush=True)
            if done > pictures * 0.6:
                shutil.rmtree(job.output)  # begin anew, so that every round interrupts something
        code, out, err = job.wait(job.start())
        check(code == 0, f"resumed: {code}: {err.decode()}")
        check(len(out.splitlines()) == pictures, "one record for each picture")
        check(outputs(job.output) == outputs(reference), "outputs differ from the undisturbed run")
        left = list(job.output.rglob(".upscale-*"))
        check(not left, f"temporary files are left: {left}")
        code, out, _ = job.wait(job.start())
        statuses = {json.loads(line)["status"] for line in out.splitlines()}
        check(statuses == {"skipped"}, f"a finished folder: {statuses}")
        return dict(counts)
    finally:
        job.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--model", default="srcnn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", action="store_true")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = soak(
            Path(folder), given.rounds, given.pictures, given.model, given.seed, given.rows
        )
    print(f"{sum(counts.values())} rounds in {time.monotonic() - started:.0f} s, byte-identical")
    for name, count in counts.items():
        print(f"  {name:17} {count}")


if __name__ == "__main__":
    main()
