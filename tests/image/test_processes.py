"""Reading and writing beside threads, forks and new processes."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import sample
from upscale import image
from upscale.image import Reader, decode, encode

NAMES = ("png", "jpeg", "tiff", "webp", "avif")
ROOT = Path(__file__).parents[2]


def total(reader: Reader) -> int:
    """The sum of all samples; it is sent to other processes by its name."""
    return sum(int(rows.sum()) for rows in reader.rows())


def test_many_threads_read_and_write_at_once() -> None:
    pictures = [sample(3, 8, 70 + i, 90) for i in range(24)]

    def there_and_back(i: int) -> bool:
        name = ("png", "tiff")[i % 2]
        return bool((decode(encode(pictures[i], name)).pixels == pictures[i].pixels).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(24)))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.skipif(sys.platform == "win32", reason="this system cannot fork processes")
def test_readers_go_to_other_processes(tmp_path: Path, method: str) -> None:
    """Also by fork, after this process has read and written."""
    readers, want = [], []
    for name in NAMES:
        path = tmp_path / f"a.{name}"
        path.write_bytes(encode(sample(3, 8, 60, 50), name))
        readers += [image.open(path), image.open(path.read_bytes())]
        want += [total(readers[-1])] * 2
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(total, readers, timeout=60)) == want


FORK = """
import io, os, sys
import numpy as np
from upscale.errors import ImageError
from upscale.image import Image, decode, encode

picture = Image(np.zeros((300, 200, 3), np.uint8))
if sys.argv[1] == "after":
    data = encode(picture, "png")
child = os.fork()
if child == 0:
    try:
        os.write(1, f"{decode(encode(picture, 'png')).pixels.shape}".encode())
    except ImageError as error:
        os.write(1, str(error).encode())
    os._exit(0)
os.waitpid(child, 0)
encode(picture, "tiff")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")
@pytest.mark.parametrize(
    ("when", "words"), [("before", "(300, 200, 3)"), ("after", "spawn or forkserver")]
)
def test_a_forked_process_writes_or_says_why_not(when: str, words: str) -> None:
    """Threads of libvips that wait for work in the parent are missing in the child."""
    command = [sys.executable, "-c", FORK, when]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert words in done.stdout
    assert "\n" not in done.stdout


def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    broken = []
    for name in NAMES:
        data = encode(image.Image(noise), name)
        broken.append(data[: len(data) * 2 // 3])
        broken.append(data[:200] + bytes(300) + data[500:])
    code = (
        "import logging, sys, pathlib\nlogging.basicConfig()\n"
        "from upscale.errors import ImageError\nfrom upscale.image import decode\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: decode(path.read_bytes())\n"
        "    except ImageError: pass\n"
    )
    for i, data in enumerate(broken):
        (tmp_path / str(i)).write_bytes(data)
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_writer_lets_other_threads_run() -> None:
    """Rows may come from a thread pool that works meanwhile."""
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda y: np.full((8, 50, 3), y, np.uint8), range(40))
        file = io.BytesIO()
        image.create(file, "png", (320, 50, 3), np.uint8).write(made)
    assert (decode(file.getvalue()).pixels[::8, 0, 0] == np.arange(40)).all()
