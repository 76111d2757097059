"""Streams: several pictures or the frames of a video, in and out, one in memory at a time."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Finished, draw, png
from tests.memory import PEAK, linux_only
from upscale import load
from upscale.errors import ImageError
from upscale.image import Encoding, Image, Series, create_pages, decode, encode, y4m
from upscale.image import open as open_image
from upscale.upscaler.job import process, process_pages

Cli = Callable[..., Finished]
Command = Callable[..., "subprocess.Popen[bytes]"]
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

HEADERS = [
    "W33 H21 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=LIMITED",
    "W32 H20 F25:1 Ip A4:3 C420mpeg2 XCOLORRANGE=FULL",
    "W33 H20 F25:1 Ip C420paldv",
    "W32 H21 F50:1 I? A0:0 C422",
    "W31 H20 F24:1 Ip A1:1 C444 XCOLORRANGE=LIMITED",
    "W31 H20 F24:1 Ip A1:1 Cmono XCOLORRANGE=FULL",
    "W32 H20 F24:1 Ip A1:1 C420p10 XYSCSS=420P10 XCOLORRANGE=LIMITED",
    "W32 H20 F24:1 Ip A1:1 C422p10",
    "W1280 H20 F24:1 Ip A1:1 C444p10",
    "W32 H20 F24:1 Ip A1:1 Cmono10 XCOLORRANGE=FULL",
    "W32 H20 C420",
]


def header(words: str) -> bytes:
    return b"YUV4MPEG2 " + words.encode() + b"\n"


def clip(words: str, count: int = 3) -> bytes:
    """A stream of smooth frames whose colours all can be shown."""
    video = y4m.parse(header(words))
    data = header(words)
    for number in range(count):
        pixels = (0.2 + 0.6 * draw(video.height, video.width, seed=number) / 255) * 65535
        for axis in (0, 1):  # chroma of half the size holds no more
            for _ in range(3):
                pixels = (pixels + np.roll(pixels, 1, axis) + np.roll(pixels, -1, axis)) / 3
        data += b"FRAME\n" + y4m.from_rgb(pixels.astype(np.uint16), video)
    return data


@pytest.mark.parametrize("words", HEADERS)
def test_a_video_comes_back_as_it_was(words: str, cli: Cli) -> None:
    data = clip(words)
    done = cli("-", "-o", "-", "-f", "y4m", "-m", "bicubic", "-s", "1", "-q", stdin=data)
    assert done.code == 0, done.err
    assert done.out.startswith(header(words)), "rate, aspect, siting, range and all that was said"
    assert len(done.out) == len(data)
    dtype = y4m.parse(header(words)).dtype
    worst = 0
    for before, after in zip(frames_of(data), frames_of(done.out), strict=True):
        difference = np.frombuffer(before, dtype).astype(int) - np.frombuffer(after, dtype)
        worst = max(worst, int(np.abs(difference).max()))
    assert worst <= (1 if dtype.itemsize == 1 else 3), f"{worst} of a sample"


def frames_of(data: bytes) -> list[bytes]:
    """The samples of each frame of a stream."""
    video = y4m.parse(data.partition(b"\n")[0] + b"\n")
    size = len("FRAME\n") + video.frame_bytes
    rest = data[len(data.partition(b"\n")[0]) + 1 :]
    assert len(rest) % size == 0
    return [rest[at + 6 : at + size] for at in range(0, len(rest), size)]


def test_frames_are_the_pictures_one_by_one(cli: Cli, tiny: str) -> None:
    data = clip("W20 H12 F25:1 Ip C444", 5)
    done = cli("-", "-o", "-", "-f", "y4m", "-m", tiny, "-q", stdin=data)
    assert done.code == 0, done.err
    up = load(tiny, device="cpu")
    video = y4m.parse(done.out.partition(b"\n")[0] + b"\n")
    assert (video.width, video.height) == (40, 24)
    given = open_image(data).pages()
    for page, found in zip(given, frames_of(done.out), strict=True):
        assert y4m.from_rgb(up.image(page.read()).pixels, video) == found


def test_a_video_is_read_from_a_file_and_written_to_one(
    cli: Cli, tiny: str, tmp_path: Path
) -> None:
    (tmp_path / "in.y4m").write_bytes(clip("W20 H12 F25:1 Ip C420jpeg", 4))
    assert cli(tmp_path / "in.y4m", "-o", tmp_path / "out.y4m", "-m", tiny).code == 0
    assert len(frames_of((tmp_path / "out.y4m").read_bytes())) == 4
    done = cli(tmp_path / "in.y4m", "-o", tmp_path / "out.jpg", "-m", tiny)
    assert done.code == 1
    assert "several pictures and JPEG holds one" in done.err
    assert not (tmp_path / "out.jpg").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("W20 H12 It C420", "interlaced"),
        ("W20 H12 C444alpha", "C444alpha is not read"),
        ("W20 C420", "no width and height"),
        ("W0 H12 C420", "0 x 12"),
        ("W99999999 H99999999 C420", "above the limit"),
    ],
)
def test_a_header_that_cannot_be_read_is_one_line(words: str, reason: str, cli: Cli) -> None:
    done = cli("-", "-o", "-", "-f", "y4m", "-m", "bicubic", "-q", stdin=header(words) + b"FRAME\n")
    assert (done.code, done.out) == (1, b"")
    assert reason in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("left", [-1, 100, 7])
def test_a_damaged_video_names_the_frame_and_gives_those_before(left: int, cli: Cli) -> None:
    data = clip("W20 H12 F25:1 Ip C444", 5)
    size = 6 + 20 * 12 * 3
    cut = data[: len(data) - 2 * size + left % size]
    done = cli("-", "-o", "-", "-f", "y4m", "-m", "bicubic", "-s", "2", "-q", stdin=cut)
    assert done.code == 1
    assert "frame 4: the y4m stream is cut short" in done.err
    assert len(frames_of(done.out)) == 3


@needs_ffmpeg
@pytest.mark.parametrize("size", ["64x48", "1280x64"])
@pytest.mark.parametrize(
    "kind", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv444p10le", "gray"]
)
def test_colours_are_those_of_ffmpeg(kind: str, size: str, tmp_path: Path) -> None:
    matrix = "bt709" if size.startswith("1280") else "smpte170m"
    source = tmp_path / "in.png"
    width, height = (int(side) for side in size.split("x"))
    smooth = 60 + 120 * np.linspace(0, 1, width)[None, :, None] * np.linspace(1, 0.2, 3)
    pixels = np.repeat(smooth, height, 0).astype(np.uint8)
    source.write_bytes(encode(Image(np.ascontiguousarray(pixels)), "png"))
    full = kind in ("yuvj420p", "gray")
    filters = f"scale=out_color_matrix={matrix}:out_range={'full' if full else 'limited'}"
    data = ffmpeg("-i", source, "-vf", filters, "-pix_fmt", kind, "-strict", "-1", *Y4M)
    found = next(open_image(data).pages()).read().pixels / 257
    want = pixels.astype(float)
    if kind == "gray":
        shares = [0.299, 0.587, 0.114] if matrix != "bt709" else [0.2126, 0.7152, 0.0722]
        want = (pixels @ shares)[..., None]
    difference = np.abs(found - want)
    print(difference.max(), difference.mean())
    assert difference.max() < 3
    assert difference.mean() < 1


Y4M = ("-f", "yuv4mpegpipe", "-")


def ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    command = ["ffmpeg", "-v", "error", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._at, self._most = data, 0, most

    def read(self, size: int = -1) -> bytes:
        part = self._data[self._at : self._at + min(size, self._most)]
        self._at += len(part)
        return part


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
@pytest.mark.parametrize("between", [b"", b"\n", bytes(200)])
def test_pictures_end_where_they_end(most: int, between: bytes) -> None:
    small = Image(draw(9, 11))
    files = [encode(small, name) for name in ("png", "jpeg", "bmp", "webp", "ppm", "jpeg", "png")]
    files += [encode(Image(draw(5, 4, 4)), "ppm"), encode(Image(draw(30, 40)), "png")]
    pipe: Any = Trickle(between.join(files) + between, most)
    series = Series(pipe)
    assert not series.is_one
    assert [data.rstrip(b"\n") for data in series.pictures()] == [f.rstrip(b"\n") for f in files]


def test_what_follows_and_is_no_picture_is_left() -> None:
    for rest in (b"", b"\n\n", b"some words", bytes(100)):
        series = Series(io.BytesIO(png() + rest))
        assert series.is_one
        assert decode(series.first).height == 8


@pytest.mark.parametrize("name", ["png", "jpeg", "ppm", "bmp", "webp"])
def test_pictures_go_out_as_they_came_in(name: str, cli: Cli, tiny: str) -> None:
    files = [encode(Image(draw(9 + k, 7, seed=k)), name) for k in range(4)]
    done = cli("-", "-o", "-", "-m", tiny, "-q", stdin=b"".join(files))
    assert done.code == 0, done.err
    found = list(Series(io.BytesIO(done.out)).pictures())
    assert [decode(data).pixels.shape for data in found] == [(18 + 2 * k, 14, 3) for k in range(4)]
    up = load(tiny, device="cpu")
    for data, file in zip(found, files, strict=True):
        assert np.array_equal(decode(data).pixels, decode(up.bytes(file)).pixels)


def test_a_damaged_picture_is_named_and_those_before_are_out(cli: Cli, tiny: str) -> None:
    third = bytearray(png(20, 20))
    third[len(third) // 2] ^= 0xFF
    done = cli("-", "-o", "-", "-m", tiny, "-q", stdin=png() + png(seed=1) + third + png(seed=2))
    assert done.code == 1
    assert "picture 3: " in done.err
    assert len(list(Series(io.BytesIO(done.out)).pictures())) == 2


def test_several_pictures_into_one_file_are_refused_before_any_work(
    cli: Cli, tiny: str, tmp_path: Path
) -> None:
    done = cli("-", "-o", tmp_path / "out.png", "-m", tiny, stdin=png() + png())
    assert done.code == 1
    assert "several pictures and PNG holds one" in done.err
    assert not list(tmp_path.iterdir())


def test_frames_of_two_sizes_are_no_video(cli: Cli, tiny: str) -> None:
    done = cli("-", "-o", "-", "-f", "y4m", "-m", tiny, "-q", stdin=png() + png(9, 9))
    assert done.code == 1
    assert "picture 2: a frame of 18 x 18 pixels in a video of 20 x 16; give --size" in done.err
    assert len(frames_of(done.out)) == 1
    done = cli("-", "-o", "-", "-f", "y4m", "-m", tiny, "--size", "8x8", stdin=png() + png(9, 9))
    assert (done.code, len(frames_of(done.out))) == (0, 2)


class Counted:
    """A pipe that nobody reads; it counts."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def endless(words: str, count: int) -> Iterator[bytes]:
    data = clip(words, 1)
    start = data.partition(b"\n")[0] + b"\n"
    yield start
    for _ in range(count):
        yield data[len(start) :]


def test_few_frames_are_in_hand_at_a_time(tiny: str) -> None:
    """The reader is never more than some frames ahead of the writer."""
    up, out, taken = load(tiny, device="cpu"), Counted(), 0
    words = "W16 H16 F25:1 Ip C444"
    video = y4m.parse(header(words))

    def read(count: int) -> bytes:
        nonlocal taken
        part = next(source, b"")
        taken += part.startswith(b"FRAME")
        assert taken * 4 * video.frame_bytes - out.bytes < 10 * 4 * video.frame_bytes
        return part

    source = endless(words, 200)
    pipe: Any = type("Pipe", (), {"read": staticmethod(read)})()
    file: Any = out
    reader = open_image(Series(pipe))
    pages = create_pages(file, "y4m", Encoding(), None, is_pipe=True)
    result = process_pages(
        reader,
        pages,
        lambda page, write, told: process(page, write, up, up.settings, told),
        up.settings,
    )
    assert taken == 200
    assert (result.width, result.out_width) == (16, 32)


@pytest.mark.parametrize("at_once", [1, 3])
def test_an_error_of_the_network_names_the_frame(tiny: str, at_once: int) -> None:
    up, file = load(tiny, device="cpu"), io.BytesIO()
    seen: list[int] = []

    def run(page: Any, write: Any, told: Any) -> Any:
        seen.append(1)
        if len(seen) == 4:
            raise ImageError("it cannot be")
        return process(page, write, up, up.settings, told)

    reader = open_image(clip("W16 H16 F25:1 Ip C444", 6))
    pages = create_pages(file, "y4m", Encoding(), None, is_pipe=True)
    with pytest.raises(ImageError, match=r"frame \d: it cannot be"):
        process_pages(reader, pages, run, up.settings, at_once=at_once)
    assert len(frames_of(file.getvalue())) == 3 if at_once == 1 else len(seen) >= 4


def test_nobody_reads_any_more(command: Command) -> None:
    process = command("-", "-o", "-", "-f", "y4m", "-m", "tiny", "-q", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    parts = endless("W64 H64 F25:1 Ip C444", 10**6)
    process.stdin.write(next(parts) + next(parts))
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 10) == b"YUV4MPEG2 "
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        for part in parts:
            process.stdin.write(part)
    assert process.wait(60) == 141
    assert process.stderr.read() == b""


def test_a_stream_is_stopped_by_a_signal(command: Command) -> None:
    process = command("-", "-o", "-", "-f", "y4m", "-m", "tiny", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    parts = endless("W64 H64 F25:1 Ip C444", 10**6)
    process.stdin.write(b"".join(next(parts) for _ in range(4)))
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 10) == b"YUV4MPEG2 "
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.communicate(timeout=60)
    assert process.returncode == 130


@linux_only
@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tiny_cache: Path) -> None:
    """500 frames of 256 x 256 in less than 500 MB."""
    code = (
        f"{PEAK}from upscale.cli import status\n"
        "code = status(['-', '-o', '-', '-f', 'y4m', '-m', 'srcnn', '-s', '2', '-q'])\n"
        "sys.stderr.write(f'{code} {peak()}')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    for part in endless("W256 H256 F25:1 Ip C420jpeg", 500):
        process.stdin.write(part)
    process.stdin.close()
    assert process.stderr is not None
    code, mib = process.stderr.read().decode().split()
    assert code == "0"
    assert int(mib) < 500_000 >> 10


def lines_of_the_docs() -> list[str]:
    """The command lines with ffmpeg in the page."""
    text = (Path(__file__).parents[1] / "docs" / "using.md").read_text("utf-8")
    blocks = text.split("```sh\n")[1:]
    joined = "\n".join(block.partition("```")[0] for block in blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if "ffmpeg" in line]


@needs_ffmpeg
def test_the_lines_of_the_docs_run(tmp_path: Path) -> None:
    video = ("-f", "lavfi", "-i", "testsrc2=s=32x24:r=10", "-f", "lavfi", "-i", "sine", "-t", "0.5")
    ffmpeg(*video, "-pix_fmt", "yuv420p", "-c:a", "aac", tmp_path / "in.mp4")
    lines = lines_of_the_docs()
    assert len(lines) >= 2
    for line in lines:
        ours = f"{shlex.quote(sys.executable)} -m upscale"
        text = line.replace("upscale -", f"{ours} -").replace("ffmpeg ", "ffmpeg -v error -y ")
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {text}"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr.decode())
    entries = "stream=codec_type,width,height,r_frame_rate,nb_read_frames"
    shown = subprocess.run(
        [
            *["ffprobe", "-v", "error", "-count_frames", "-of", "csv", "-show_entries"],
            entries,
            "out.mp4",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown[0] == "stream,video,64,48,10/1,5"
    assert any("audio" in line for line in shown)


def test_several_at_once_come_out_in_order(tiny: str) -> None:
    """As on a GPU, where frames of one size run together."""
    up, written = load(tiny, device="cpu"), []
    for at_once in (1, 4):
        file: Any = io.BytesIO()
        pages = create_pages(file, "y4m", Encoding(), None, is_pipe=True)
        process_pages(
            open_image(clip("W16 H16 F25:1 Ip C444", 9)),
            pages,
            lambda page, write, told: process(page, write, up, up.settings, told),
            up.settings,
            at_once=at_once,
        )
        written.append(file.getvalue())
    assert written[0] == written[1]
    assert len(frames_of(written[0])) == 9
