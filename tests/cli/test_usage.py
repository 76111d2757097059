"""What is easily meant otherwise: it is refused in one line, and the remedy that it names works."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_bad_input import refused, snapshot
from tests.conftest import Finished, draw, png
from upscale.image import Image, decode, encode, probe
from upscale.settings import DEFAULT_DENOISE, Settings

Cli = Callable[..., Finished]
Command = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_and_a_format_that_disagree(cli: Cli, tiny: str, here: Path) -> None:
    (here / "in.png").write_bytes(png())
    for output in ("o8.png", "{stem}_2.png"):
        refused(cli("in.png", "-m", tiny, "-f", "jpg", "-o", output), 2, "png", "-f", "jpg")
    assert sorted(snapshot(here)) == ["in.png"]
    for output in ("o.jpeg", "o.JPG", "o.dat", "{stem}_2.{ext}"):
        assert cli("in.png", "-m", tiny, "-f", "jpg", "-o", output).code == 0
    written = set(snapshot(here)) - {"in.png"}
    assert written == {"o.jpeg", "o.JPG", "o.dat", "in_2.jpg"}
    assert {probe(here / name).format for name in written} == {"jpeg"}


def test_a_picture_for_several(cli: Cli, tiny: str, here: Path) -> None:
    for name in ("a.png", "b.jpg", "in/c.png"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(png())
    for inputs in (("a.png", "b.jpg"), ("in",)):
        refused(cli(*inputs, "-m", tiny, "-o", "one.png"), 2, "one.png", "-o one.png/")
        assert not (here / "one.png").exists()
        assert cli(*inputs, "-m", tiny, "-o", "one.png/").code == 0
        assert cli(*inputs, "-m", tiny, "-o", "one.png").code == 0, "it is a folder by now"
        shutil.rmtree(here / "one.png")
    assert cli("a.png", "b.jpg", "-m", tiny, "-o", "v1.2").code == 0
    assert sorted(p.name for p in (here / "v1.2").iterdir() if p.is_file()) == ["a.png", "b.jpg"]


def test_a_number_after_quiet(cli: Cli, tiny: str, here: Path) -> None:
    (here / "a.png").write_bytes(png())
    for arguments in (("-q", "90", "a.png"), ("a.png", "-q", "90"), ("run", "a.png", "-q", "90")):
        refused(cli(*arguments, "-m", tiny), 2, "90", "did you mean --quality 90?")
    assert sorted(snapshot(here)) == ["a.png"]
    assert cli("a.png", "-m", tiny, "--quality", "90", "-f", "jpg").code == 0
    (here / "90").write_bytes(png())
    assert cli("-q", "90", "-m", tiny).code == 0, "a file of that name is a picture"
    assert (here / "90_tiny_x2.png").exists()


def test_a_file_named_like_an_option(cli: Cli, tiny: str, here: Path) -> None:
    (here / "-dash.png").write_bytes(png())
    refused(cli("-dash.png", "-m", tiny), 2, "./-dash.png", "--")
    assert cli("-m", tiny, "-o", "a.png", "--", "-dash.png").code == 0
    assert cli("./-dash.png", "-m", tiny, "-o", "b.png").code == 0


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--max-side", "40"], (40, 30)),
        (["--max-side", "16"], (24, 18)),
        (["--size", "20x50"], (24, 18)),
        (["--size", "50x50", "--fit", "contain"], (50, 38)),
        (["--size", "12x9", "--fit", "cover"], (24, 18)),
        (["--size", "48x12", "--fit", "cover"], (48, 12)),
        (["-s", "0.5"], (24, 18)),
    ],
)
def test_only_enlarge(options: list[str], size: tuple[int, int]) -> None:
    """A picture of 24 x 18 never becomes smaller, but for what a size that it fills cuts off."""
    given: dict[str, object] = {"fit": "distort"}
    for name, value in zip(options[::2], options[1::2], strict=True):
        width, _, height = value.partition("x")
        key = {"-s": "scale"}.get(name, name.strip("-").replace("-", "_"))
        number = float(value) if key == "scale" else None
        pair = (int(width), int(height)) if height else None
        given[key] = value if key == "fit" else number or pair or int(value)
    settings = Settings(only_enlarge=True, **given)  # type: ignore[arg-type]
    assert settings.final_shape(18, 24, 4) == size[::-1]


def test_only_enlarge_by_the_command(cli: Cli, tiny: str, here: Path) -> None:
    (here / "a.png").write_bytes(png(18, 24))
    smaller = cli("a.png", "-m", tiny, "--max-side", "16", "-o", "s.png")
    assert (smaller.code, probe(here / "s.png").width) == (0, 16)
    kept = cli("a.png", "-m", tiny, "--max-side", "16", "--only-enlarge", "-o", "k.png")
    assert (kept.code, probe(here / "k.png").width) == (0, 24)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["help"], "--help"),
        (["version"], "--version"),
        (["evalute", "photos"], "evaluate"),
        (["Train"], "train"),
        (["docter"], "doctor"),
        (["model"], "models"),
        (["pull", "esrgan"], "weights pull"),
    ],
)
def test_a_mistyped_command(cli: Cli, here: Path, typed: list[str], meant: str) -> None:
    refused(cli(*typed), 2, typed[0], f"did you mean 'upscale {meant}'?")
    words = meant.split() if meant.startswith("--") else [*meant.split(), "--help"]
    assert cli(*words).code == 0


def test_a_picture_named_nearly_as_a_command(cli: Cli, tiny: str, here: Path) -> None:
    (here / "trian").write_bytes(png())
    assert cli("trian", "-m", tiny).code == 0
    (here / "trian").unlink()
    refused(cli("run", "trian", "-m", tiny), 1, "trian", "no such file")
    refused(cli("photograph", "-m", tiny), 1, "photograph", "no such file")


def test_nothing_is_started_by_a_mistyped_command(command: Command, here: Path) -> None:
    (here / "photo.png").write_bytes(png())
    for arguments in (("evalute", "photo.png"), ("photo.png", "-q", "90")):
        process = command(*arguments, cwd=here)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err.count(b"\n")) == (2, b"", 1)
        assert b"did you mean" in err
    assert sorted(snapshot(here)) == ["photo.png"]


@pytest.mark.parametrize(
    ("names", "arguments", "made"),
    [
        (("a.png", "a.jpg"), (), ["a_jpg.webp", "a_png.webp"]),
        (("in/a.png", "in/a.jpg"), ("-o", "out/"), ["out/a_jpg.webp", "out/a_png.webp"]),
        (("x/a.png", "y/a.png"), ("-o", "out 1"), ["out 1/x/a.webp", "out 1/y/a.webp"]),
        (("x/a.png", "x/a.jpg", "y/a.png"), ("-o", "{model}.{ext}"), []),
    ],
)
def test_the_remedy_for_one_name_runs(
    cli: Cli, tiny: str, here: Path, names: tuple[str, ...], arguments: list[str], made: list[str]
) -> None:
    for name in names:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(png())
    result = cli(*names, "-m", "tiny", "-f", "webp", *arguments)
    refused(result, 2, names[0], "would both become", "use a template such as -o ")
    assert sorted(snapshot(here)) == sorted(names)
    remedy = shlex.split(result.lines[-1].partition("such as ")[2])
    again = cli(*names, "-m", "tiny", "-f", "webp", *remedy)
    assert again.code == 0, again.err
    outputs = [n for n in snapshot(here) if n not in names and ".upscale" not in n]
    assert len(outputs) == len(names)
    assert not made or sorted(outputs) == made


def test_no_template_tells_them_apart(cli: Cli, tiny: str, here: Path) -> None:
    names = ("x/in/a.png", "y/in/a.png")
    for name in names:
        (here / name).parent.mkdir(parents=True)
        (here / name).write_bytes(png())
    refused(cli(*names, "-m", tiny, "-o", "out"), 2, *names, "runs of their own")
    for name in names:
        assert cli(name, "-m", tiny, "-o", f"{name[0]}/").code == 0


def test_fields_of_a_network_without_them(cli: Cli, quad: str, here: Path) -> None:
    (here / "a.png").write_bytes(png())
    template = "{stem}_{model}_{alpha}_{denoise}.{ext}"
    for more in (("tiny",), ("duo",), ("quad",), ("quad", "--denoise", "0.25")):
        assert cli("a.png", "-m", *more, "-o", template).code == 0
    made = set(snapshot(here)) - {"a.png"}
    default = f"a_quad_0.8_{DEFAULT_DENOISE:g}.png"
    assert made == {"a_duo_0.8.png", "a_quad_0.8_0.25.png", default, "a_tiny.png"}


def test_the_number_of_a_draw_where_nothing_is_drawn(cli: Cli, tiny: str, here: Path) -> None:
    (here / "a.png").write_bytes(png())
    assert cli("a.png", "-m", tiny, "-o", "{stem}_{sample}.{ext}").code == 0
    assert sorted(snapshot(here)) == ["a.png", "a_mean.png"]


def test_fit(cli: Cli, tiny: str, here: Path) -> None:
    pixels = draw(20, 40)
    (here / "wide.png").write_bytes(encode(Image(pixels), "png"))
    (here / "tall.png").write_bytes(encode(Image(pixels.swapaxes(0, 1).copy()), "png"))
    wanted = {
        "distort": {"wide": (30, 30), "tall": (30, 30)},
        "contain": {"wide": (30, 15), "tall": (15, 30)},
        "cover": {"wide": (30, 30), "tall": (30, 30)},
    }
    for fit, sizes in wanted.items():
        for name, size in sizes.items():
            target = here / f"{name}-{fit}.png"
            options = ("-m", tiny, "--size", "30x30", "--fit", fit, "-o", target, "--json")
            result = cli(f"{name}.png", *options)
            assert result.code == 0, result.err
            assert ("distorts" in result.err) == (fit == "distort")
            record = json.loads(result.out)
            assert (record["out_width"], record["out_height"]) == size
            info = probe(target)
            assert (info.width, info.height) == size
    for name, at in (("wide", (slice(None), slice(15, 45))), ("tall", (slice(15, 45),))):
        size = ("--height", "30") if name == "wide" else ("--width", "30")
        assert cli(f"{name}.png", "-m", tiny, *size, "-o", f"{name}-all.png").code == 0
        whole = decode((here / f"{name}-all.png").read_bytes()).pixels
        middle = decode((here / f"{name}-cover.png").read_bytes()).pixels
        assert np.array_equal(middle, whole[at]), "the middle of the picture that covers the size"


def test_a_size_that_distorts_is_said_once(cli: Cli, tiny: str, here: Path) -> None:
    for name in ("a.png", "b.png"):
        (here / name).write_bytes(png(20, 30))
    for size, said in (("60x40", 0), ("61x40", 1), ("30x30", 1), ("32x21", 0)):
        result = cli("a.png", "b.png", "-m", tiny, "--size", size, "-o", f"o{size}/")
        assert result.code == 0, result.err
        assert result.err.count("distorts") == said, (size, result.err)
    sides = ("--width", "30", "--height", "30")
    assert "distorts 30 x 20" in cli("a.png", "-m", tiny, *sides, "--dry-run").err
    assert "distorts" not in cli("a.png", "-m", tiny, *sides, "-o", "q.png", "-q").err


def test_fit_needs_a_size(cli: Cli, tiny: str, here: Path) -> None:
    (here / "a.png").write_bytes(png())
    for more in ((), ("--width", "30"), ("-s", "2")):
        refused(cli("a.png", "-m", tiny, "--fit", "cover", *more), 2, "fit 'cover'", "--size WxH")
    refused(cli("a.png", "-m", tiny, "--fit", "crop", "--size", "9x9"), 2, "fit 'crop'", "cover")
    (here / "line.png").write_bytes(png(1, 3000))
    size = ("--size", "2000x2000", "--fit", "cover")
    refused(cli("line.png", "-m", tiny, *size), 1, "line.png", "contain")


@pytest.mark.parametrize("picture", [*itertools.product((1, 2, 7, 50, 199), repeat=2)])
@pytest.mark.parametrize("box", [*itertools.product((1, 3, 50, 101), repeat=2)])
def test_sizes_that_fit(picture: tuple[int, int], box: tuple[int, int]) -> None:
    """contain touches the size and stays inside; cover fills it; both keep the ratio."""
    (height, width), (wide, high) = picture, box
    inner = Settings(size=box, fit="contain").final_shape(height, width, 4)
    outer = Settings(size=box, fit="cover").full_shape(height, width, 4)
    assert inner[0] <= high
    assert inner[1] <= wide
    assert inner[0] == high or inner[1] == wide
    assert outer[0] >= high
    assert outer[1] >= wide
    assert outer[0] == high or outer[1] == wide
    for (out_height, out_width), choose in ((inner, min), (outer, max)):
        ratio = choose(wide / width, high / height)
        assert abs(out_height - max(1, height * ratio)) <= 0.5
        assert abs(out_width - max(1, width * ratio)) <= 0.5
    assert Settings(size=box, fit="cover").final_shape(height, width, 4) == (high, wide)
