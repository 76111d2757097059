"""Pages and animations: every one as before, one in memory at a time, none half written."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from tests.conftest import Finished, draw, png
from tests.memory import PEAK, linux_only
from tests.tools import fuzz_decode
from upscale import load
from upscale.image import open as open_image
from upscale.image import provenance

Cli = Callable[..., Finished]
Command = Callable[..., "subprocess.Popen[bytes]"]
SAME = ("-m", "bicubic", "-s", "1", "-q")
DELAYS = [100, 50, 200, 120, 70]


def frames(count: int = 5, height: int = 20, width: int = 30) -> list[np.ndarray]:
    """A disc that moves over a still ground, some of which is transparent."""
    y, x = np.mgrid[:height, :width]
    found = []
    for k in range(count):
        frame = np.zeros((height, width, 4), np.uint8)
        frame[..., :3] = 40 + 60 * (x[..., None] // 8)
        frame[np.hypot(y - 8, x - 5 - 4 * k) < 5, :3] = (200, 30, 10)
        frame[..., 3] = np.where(y < 16, 255, 0)
        found.append(frame)
    return found


def animate(path: Path, **more: Any) -> None:
    """An animation by Pillow, whose frames hold what changes alone."""
    first, *rest = map(PillowImage.fromarray, frames())
    options = {"append_images": rest, "duration": DELAYS, "loop": 3, **more}
    options |= {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    options |= {"disposal": 2} if path.suffix == ".gif" else {}
    first.save(path, save_all=True, **options)


def seen(path: Path) -> tuple[list[np.ndarray], list[int], int | None]:
    """What Pillow shows of an animation: frames, milliseconds, and how often."""
    file, pictures, delays = PillowImage.open(path), [], []
    for k in range(getattr(file, "n_frames", 1)):
        file.seek(k)
        pictures.append(np.asarray(file.convert("RGBA")).astype(int))
        delays.append(round(file.info["duration"]))
    return pictures, delays, file.info.get("loop")


@pytest.mark.parametrize(
    ("before", "after", "loop"),
    [("gif", "gif", 3), ("png", "webp", 3), ("webp", "gif", 2), ("gif", "png", 4)],
)
def test_an_animation_comes_back_as_it_was(
    before: str, after: str, loop: int, cli: Cli, tmp_path: Path
) -> None:
    """GIF tells how often it is repeated, the others how often it is shown."""
    source, target = tmp_path / f"in.{before}", tmp_path / f"out.{after}"
    animate(source)
    more = ["--lossless"] if after == "webp" else []
    assert cli(source, "-o", target, *SAME, *more).code == 0
    (pictures, *times), (want, _, _) = seen(target), seen(source)
    assert times == [DELAYS, loop]
    for one, other in zip(pictures, want, strict=True):
        assert np.array_equal(one[..., 3], other[..., 3]), "the same is transparent"
        opaque = one[..., 3] > 0
        assert np.abs(one - other)[opaque].max() <= (1 if "gif" in (before, after) else 0)


def test_avif_of_several_frames(cli: Cli, tmp_path: Path) -> None:
    first, *rest = (PillowImage.fromarray(frame[..., :3]) for frame in frames())
    source, target = tmp_path / "in.avif", tmp_path / "out.avif"
    first.save(source, save_all=True, append_images=rest, duration=DELAYS, quality=100)
    assert cli(source, "-o", target, *SAME, "--quality", "100").code == 0
    pictures, delays, _ = seen(target)
    assert delays == DELAYS
    for one, other in zip(pictures, seen(source)[0], strict=True):
        assert np.abs(one - other).max() < 12


def test_frames_are_composed_before_they_are_enlarged(cli: Cli, tiny: str, tmp_path: Path) -> None:
    animate(tmp_path / "in.webp")
    done = cli(tmp_path / "in.webp", "-o", tmp_path / "out.png", "-m", tiny, "-q")
    assert done.code == 0, done.err
    up = load(tiny, device="cpu")
    for one, frame in zip(seen(tmp_path / "out.png")[0], frames(), strict=True):
        assert np.array_equal(one, up.image(frame))


def test_a_gif_does_not_flicker(cli: Cli, tiny: str, tmp_path: Path) -> None:
    """What stands still has one colour through all frames, though there are many colours."""
    still = draw(40, 40)
    pictures = []
    for k in range(6):
        frame = still.copy()
        frame[:8, :8] = draw(8, 8, seed=k)
        pictures.append(PillowImage.fromarray(frame))
    source = tmp_path / "in.webp"
    pictures[0].save(source, save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    done = cli(source, "-o", tmp_path / "out.gif", "-m", tiny)
    assert done.code == 0, done.err
    assert "256 colours" in done.err
    shown = [picture[40:, 40:, :3] for picture in seen(tmp_path / "out.gif")[0]]
    assert all(np.array_equal(shown[0], other) for other in shown)


def stack(path: Path, count: int = 4, **more: Any) -> list[np.ndarray]:
    """A TIFF of pages of several sizes and depths."""
    kinds = [
        ((16, 20), np.uint16),
        ((9, 31, 3), np.uint8),
        ((12, 12), np.float32),
        ((8, 8, 4), "u1"),
    ]
    pages = []
    with tifffile.TiffWriter(path, **more) as writer:
        for k in range(count):
            shape, dtype = kinds[k % 4]
            values = draw(*shape[:2], shape[2] if len(shape) > 2 else 1, seed=k)
            page = values.astype(dtype) if dtype != np.float32 else values.astype("f4") / 300
            page = page.reshape(shape) * (257 if dtype == np.uint16 else 1)
            extra = {"extrasamples": ["unassalpha"]} if shape[-1] == 4 else {}
            kind = "rgb" if len(shape) > 2 else "minisblack"
            writer.write(page, photometric=kind, description=f"page {k}", metadata=None, **extra)
            pages.append(page)
    return pages


@pytest.mark.parametrize("more", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_pages_come_back_as_they_were(more: dict[str, Any], cli: Cli, tmp_path: Path) -> None:
    pages = stack(tmp_path / "in.tif", 8, **more)
    assert cli(tmp_path / "in.tif", "-o", tmp_path / "out.tif", *SAME).code == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert len(file.pages) == 8
        for k, (page, want) in enumerate(zip(file.pages, pages, strict=True)):
            assert np.array_equal(page.asarray(), want)
            assert page.description == f"page {k}"  # type: ignore[union-attr]


def test_pages_are_as_one_by_one(cli: Cli, tiny: str, tmp_path: Path) -> None:
    pages = stack(tmp_path / "in.tif")
    assert cli(tmp_path / "in.tif", "-o", tmp_path / "all.tif", "-m", tiny).code == 0
    found = [page.read() for page in open_image(tmp_path / "all.tif").pages()]
    record = [provenance(page.metadata) for page in found]
    assert record[0]
    assert record[0]["model"] == tiny
    for number in range(1, len(pages) + 1):
        target = tmp_path / f"{number}.tif"
        assert cli(tmp_path / "in.tif", "-o", target, "-m", tiny, "--page", str(number)).code == 0
        assert np.array_equal(open_image(target).read().pixels, found[number - 1].pixels)


@pytest.mark.parametrize(("page", "left"), [("2-3", [1, 2]), ("first", [0]), ("3-99", [2, 3])])
def test_some_pages(page: str, left: list[int], cli: Cli, tmp_path: Path) -> None:
    pages = stack(tmp_path / "in.tif")
    assert cli(tmp_path / "in.tif", "-o", tmp_path / "out.tif", *SAME, "--page", page).code == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        found = [p.asarray() for p in file.pages]
    assert all(np.array_equal(a, pages[k]) for a, k in zip(found, left, strict=True))


@pytest.mark.parametrize("page", ["0", "3-2", "x", "1-"])
def test_what_is_no_page(page: str, cli: Cli, picture: Path) -> None:
    done = cli(picture, "--page", page)
    assert done.code == 2
    assert "page" in done.err


def test_a_page_that_is_not_there(cli: Cli, tmp_path: Path, picture: Path) -> None:
    stack(tmp_path / "in.tif")
    for source, count in ((tmp_path / "in.tif", 4), (picture, 1)):
        done = cli(source, "-o", tmp_path / "out.tif", *SAME, "--page", "9")
        assert done.code == 1
        assert f"there is no page 9: give --page 1 to {count}" in done.err


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.gif"])
def test_a_stack_is_refused_where_one_picture_fits(name: str, cli: Cli, tmp_path: Path) -> None:
    stack(tmp_path / "in.tif")
    for more in ([], ["--dry-run"]):
        done = cli(tmp_path / "in.tif", "-o", tmp_path / name, *SAME[:-1], *more)
        assert done.code == 1
        said = done.err + done.out.decode()
        assert "4 pages" in said
        assert "--page 1" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_python_takes_pages_too(tiny: str, tmp_path: Path) -> None:
    up = load(tiny, device="cpu")
    stack(tmp_path / "in.tif")
    result = up.file(tmp_path / "in.tif", tmp_path / "out.tif")
    assert (result.width, result.out_width) == (20, 40)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert [page.shape[:2] for page in file.pages][:2] == [(32, 40), (18, 62)]
    animate(tmp_path / "in.gif")
    data = up.bytes((tmp_path / "in.gif").read_bytes(), format="webp")
    assert getattr(PillowImage.open(io.BytesIO(data)), "n_frames", 1) == 5
    one = up.bytes((tmp_path / "in.gif").read_bytes(), page=2)
    assert open_image(one).count == 1


def test_a_damaged_page_is_named(cli: Cli, tiny: str, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for k in range(4):
            writer.write(draw(20, 20, seed=k), photometric="rgb", compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "in.tif") as file:
        at = file.pages[2].dataoffsets[0]  # type: ignore[union-attr]
    data = bytearray((tmp_path / "in.tif").read_bytes())
    data[at : at + 40] = bytes(40)
    (tmp_path / "in.tif").write_bytes(data)
    done = cli(tmp_path / "in.tif", "-o", tmp_path / "out.tif", "-m", tiny)
    assert done.code == 1
    assert "page 3: " in done.err
    assert not (tmp_path / "out.tif").exists()


def test_a_folder_of_pages_resumes(cli: Cli, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    stack(tmp_path / "in" / "a.tif")
    animate(tmp_path / "in" / "b.gif")
    (tmp_path / "in" / "c.png").write_bytes(png())
    for status in ("ok", "skipped"):
        done = cli(tmp_path / "in", "-o", tmp_path / "out", "-m", tiny, "--json")
        assert [json.loads(line)["status"] for line in done.out.splitlines()] == [status] * 3
    assert seen(tmp_path / "out" / "b.png")[1] == DELAYS


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffmpeg is not installed")
def test_ffmpeg_sees_the_same_frames(cli: Cli, tmp_path: Path) -> None:
    animate(tmp_path / "in.gif")
    for name in ("out.png", "out.gif"):
        assert cli(tmp_path / "in.gif", "-o", tmp_path / name, *SAME).code == 0
        command = "ffprobe -v error -count_frames -show_entries stream=nb_read_frames,width -of csv"
        form = ["-f", "apng"] if name == "out.png" else []
        done = subprocess.run(
            [*command.split(), *form, str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "stream,30,5"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_nothing_is_half_there(
    seed: int, command: Command, tmp_path: Path
) -> None:
    """The same command gives the same bytes afterwards."""
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for k in range(200):
            writer.write(draw(32, 32, 1, seed=k % 9)[..., 0], photometric="minisblack")
    job = (tmp_path / "in.tif", "-m", "tiny", "-q", "-o")
    assert command(*job, tmp_path / "want.tif").wait(120) == 0
    started = time.monotonic()
    assert command(*job, tmp_path / "again.tif").wait(120) == 0
    whole = time.monotonic() - started
    want = (tmp_path / "want.tif").read_bytes()
    assert (tmp_path / "again.tif").read_bytes() == want
    chance = random.Random(seed)
    for k in range(4):
        target = tmp_path / f"out{k}.tif"
        process = command(*job, target)
        time.sleep(chance.uniform(0.3, 1) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not target.exists() or target.read_bytes() == want
        assert command(*job, target, "--overwrite").wait(120) == 0
        assert target.read_bytes() == want
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@linux_only
@pytest.mark.slow
def test_memory_does_not_grow_with_the_pages(tmp_path: Path) -> None:
    """800 pages of 256 x 256 of 16 bits in less than 500 MB."""
    page = draw(256, 256, 1)[..., 0].astype(np.uint16) * 257
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for _ in range(800):
            writer.write(page, photometric="minisblack")
    code = f"{PEAK}from upscale.cli import status\nprint(status(sys.argv[1:]), peak())"
    job = ["in.tif", "-o", "out.tif", "-m", "bicubic", "-s", "2", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", code, *job], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    code, mib = done.stdout.split()
    assert code == "0"
    assert int(mib) < 500_000 >> 10
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert len(file.pages) == 800


def test_mutated_animations_are_refused_in_words(tmp_path: Path) -> None:
    files = []
    for name in ("a.gif", "a.png", "a.webp"):
        animate(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    stack(tmp_path / "a.tif")
    files.append((tmp_path / "a.tif").read_bytes())
    taken = sum(fuzz_decode.attempt(fuzz_decode.mutated(number, files)) for number in range(200))
    assert taken < 200


def test_one_file_a_page(cli: Cli, tiny: str, tmp_path: Path) -> None:
    """Named by {page}, each as --page makes it; what is there is not made again."""
    stack(tmp_path / "a.tif", 12)
    job = (tmp_path / "a.tif", "-o", tmp_path / "out" / "{stem}_{page}.tif", "-m", tiny, "--json")
    looked = cli(*job, "--dry-run")
    names = [f"a_{number:02}.tif" for number in range(1, 13)]
    lines = [json.loads(line) for line in looked.out.splitlines()]
    assert looked.code == 0, looked.err
    assert [Path(line["output"]).name for line in lines] == names
    assert [line["width"] for line in lines[:3]] == [20, 31, 12]
    assert not (tmp_path / "out").exists()
    # 1. Some, then all: those that are there stay.
    done = cli(*job, "--page", "2-3")
    assert done.code == 0, done.err
    assert found(tmp_path / "out") == names[1:3]
    done = cli(*job)
    assert Counter(statuses(done)) == {"skipped": 2, "ok": 10}
    assert found(tmp_path / "out") == names
    for number in (1, 4, 11):
        target = tmp_path / "one.tif"
        more = ("-m", tiny, "--page", str(number), "--overwrite")
        assert cli(tmp_path / "a.tif", "-o", target, *more).code == 0
        assert (tmp_path / "out" / names[number - 1]).read_bytes() == target.read_bytes()
    # 2. One is gone, and made again; the same bytes.
    want = (tmp_path / "out" / names[6]).read_bytes()
    (tmp_path / "out" / names[6]).unlink()
    done = cli(*job)
    assert Counter(statuses(done)) == {"skipped": 11, "ok": 1}
    assert (tmp_path / "out" / names[6]).read_bytes() == want
    # 3. One that is not ours is refused before any work.
    (tmp_path / "out" / names[3]).unlink()
    (tmp_path / "out" / names[8]).write_bytes(b"mine")
    done = cli(*job)
    assert (done.code, "exists; give --overwrite" in done.err) == (2, True)
    assert not (tmp_path / "out" / names[3]).exists()


def found(folder: Path) -> list[str]:
    """The names of the outputs in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".upscale")


def statuses(done: Finished) -> list[str]:
    return [json.loads(line)["status"] for line in done.out.splitlines()]


def test_frames_as_files(cli: Cli, tmp_path: Path) -> None:
    """Of animations in a folder, and of a still one, whose page is 1; the field may stand twice."""
    (tmp_path / "in").mkdir()
    for name in ("a.gif", "b.png", "c.webp"):
        animate(tmp_path / "in" / name)
    (tmp_path / "in" / "d.png").write_bytes(png())
    target = tmp_path / "out" / "{page}" / "{stem}_{page}.png"
    done = cli(tmp_path / "in", "-o", target, *SAME)
    assert done.code == 0, done.err
    for name in ("a.gif", "b.png", "c.webp"):
        pictures = seen(tmp_path / "in" / name)[0]
        assert len(pictures) == 5
        for number, picture in enumerate(pictures, 1):
            file = PillowImage.open(tmp_path / "out" / str(number) / f"{name[0]}_{number}.png")
            assert getattr(file, "n_frames", 1) == 1
            made = np.asarray(file.convert("RGBA")).astype(int)
            assert np.array_equal(made[..., 3], picture[..., 3])
            assert np.array_equal(made[made[..., 3] > 0], picture[picture[..., 3] > 0])
    assert found(tmp_path / "out" / "1") == ["a_1.png", "b_1.png", "c_1.png", "d_1.png"]
    assert found(tmp_path / "out" / "2") == ["a_2.png", "b_2.png", "c_2.png"]


def test_what_has_no_page_for_a_name(cli: Cli, command: Command, tmp_path: Path) -> None:
    stack(tmp_path / "a.tif")
    target = tmp_path / "out" / "{stem}_{page}.png"
    done = cli(tmp_path / "a.tif", "-o", tmp_path / "a.png", *SAME)
    assert "give -f tiff, --page 1, or {page} in the name" in done.err
    done = cli(tmp_path / "a.tif", "-o", target, *SAME, "--page", "9")
    assert (done.code, "there is no page 9: give --page 1 to 4" in done.err) == (1, True)
    # 1. Two inputs of one name.
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a.tif", tmp_path / "b")
    done = cli(tmp_path / "a.tif", tmp_path / "b" / "a.tif", "-o", target, *SAME)
    assert (done.code, "{parent}/{stem}_{page}.{ext}" in done.err) == (2, True)
    # 2. A video, whose frames nobody has counted.
    video = b"YUV4MPEG2 W4 H4 F25:1 Cmono\n" + 2 * (b"FRAME\n" + bytes(16))
    (tmp_path / "v.y4m").write_bytes(video)
    done = cli(tmp_path / "v.y4m", "-o", target, *SAME)
    assert (done.code, "does not tell how many pictures" in done.err) == (1, True)
    assert not (tmp_path / "out").exists()
    # 3. A damaged page is named, and the others are made.
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[2].dataoffsets[0]  # type: ignore[union-attr]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[at : at + 4] = b"\0\0\xc0\x7f"
    (tmp_path / "a.tif").write_bytes(data)
    done = cli(tmp_path / "a.tif", "-o", target.with_suffix(".tif"), *SAME)
    assert (done.code, "a.tif: page 3: " in done.err) == (1, True)
    assert found(tmp_path / "out") == ["a_1.tif", "a_2.tif", "a_4.tif"]


def test_pages_of_stdin(command: Command, tmp_path: Path) -> None:
    stack(tmp_path / "a.tif")
    target = tmp_path / "{page}.tif"
    for _ in range(2):
        with (tmp_path / "a.tif").open("rb") as file:
            assert command("-", "-o", target, *SAME, stdin=file).wait(120) == 0
    assert found(tmp_path) == ["1.tif", "2.tif", "3.tif", "4.tif", "a.tif"]
