"""The main job's options, and the shell around it: help, version, doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Finished, draw, png
from tests.profiles import cmyk_profile, rgb_tables_profile
from upscale.cli.console import printable, shorten
from upscale.image import Image, Metadata, decode, encode, probe

Cli = Callable[..., Finished]


def size_of(path: Path) -> tuple[int, int]:
    info = probe(path.read_bytes())
    return info.width, info.height


def test_beside_the_input(cli: Cli, tiny: str, picture: Path) -> None:
    result = cli(picture, "-m", tiny)
    assert result.code == 0, result.err
    assert result.out == b""
    assert size_of(picture.with_name("picture_tiny_x2.png")) == (18, 24)


@pytest.mark.parametrize("options", [["--files-from", "-"], ["--report", "-", "--json"]])
def test_a_stream_has_one_use(cli: Cli, tiny: str, tmp_path: Path, options: list[str]) -> None:
    result = cli("-", "-m", tiny, "-o", tmp_path / "a.png", *options, stdin=png(9, 9))
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_same_bytes_as_from_python(cli: Cli, tiny: str, picture: Path) -> None:
    import upscale

    cli(picture, "-m", tiny, "-o", picture.with_name("cli.png"))
    up = upscale.load(tiny)
    own = decode(up.bytes(picture.read_bytes())).pixels
    assert np.array_equal(decode(picture.with_name("cli.png").read_bytes()).pixels, own)


def test_provenance_is_kept_or_stripped(cli: Cli, duo: str, picture: Path) -> None:
    from upscale.image import provenance

    cli(picture, "-m", duo, "--alpha", "0.25", "-o", picture.with_name("kept.png"))
    record = provenance(decode(picture.with_name("kept.png").read_bytes()).metadata)
    assert record is not None
    assert (record["model"], record["alpha"], record["scale"]) == ("duo", 0.25, 2)
    assert set(record["weights"]) == {"duo-psnr-x2", "duo-gan-x2"}
    cli(picture, "-m", duo, "--strip-metadata", "-o", picture.with_name("bare.png"))
    assert provenance(decode(picture.with_name("bare.png").read_bytes()).metadata) is None


def test_transparent_picture_as_jpeg(cli: Cli, tiny: str, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(png(6, 6, channels=4))
    refused = cli(source, "-m", tiny, "-f", "jpg")
    assert refused.code == 1
    assert "--background" in refused.err
    assert cli(source, "-m", tiny, "-f", "jpg", "--background", "white").code == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-s", "2"], (18, 24)),
        (["-s", "1.5"], (14, 18)),
        (["-s", "3"], (27, 36)),
        (["-s", "0.5"], (5, 6)),
        (["--size", "31x17"], (31, 17)),
        (["--width", "27"], (27, 36)),
        (["--height", "6"], (4, 6)),
        (["--max-side", "48"], (36, 48)),
    ],
)
def test_sizes(
    cli: Cli, tiny: str, picture: Path, options: list[str], expected: tuple[int, int]
) -> None:
    result = cli(picture, "-m", tiny, "-o", picture.with_name("o.png"), *options)
    assert result.code == 0, result.err
    assert size_of(picture.with_name("o.png")) == expected


def test_alpha_between_two_networks(cli: Cli, duo: str, picture: Path) -> None:
    outputs = {}
    for name in ("duo", "duo-psnr-x2", "duo-gan-x2"):
        for alpha in ("0", "1", "0.5") if name == "duo" else ("",):
            target = picture.with_name(f"{name}{alpha}.png")
            more = ["--alpha", alpha] if alpha else []
            assert cli(picture, "-m", name, "-o", target, "--strip-metadata", *more).code == 0
            outputs[name + alpha] = target.read_bytes()
    assert outputs["duo0"] == outputs["duo-psnr-x2"]
    assert outputs["duo1"] == outputs["duo-gan-x2"]
    assert outputs["duo0.5"] not in (outputs["duo0"], outputs["duo1"])


def test_format_and_quality(cli: Cli, tiny: str, picture: Path) -> None:
    sizes = []
    for quality in ("20", "95"):
        target = picture.with_name(f"{quality}.jpg")
        assert cli(picture, "-m", tiny, "-o", target, "--quality", quality).code == 0
        assert probe(target.read_bytes()).format == "jpeg"
        sizes.append(target.stat().st_size)
    assert sizes[0] < sizes[1]
    assert cli(picture, "-m", tiny, "-f", "webp", "--lossless").code == 0
    lossless = decode(picture.with_name("picture_tiny_x2.webp").read_bytes())
    cli(picture, "-m", tiny, "-o", picture.with_name("same.png"))
    same = decode(picture.with_name("same.png").read_bytes())
    assert np.array_equal(lossless.pixels, same.pixels)


def test_template(cli: Cli, tiny: str, picture: Path) -> None:
    template = f"{picture.parent}/{{stem}}-{{model}}-{{scale}}.{{ext}}"
    assert cli(picture, "-m", tiny, "-o", template, "-f", "webp").code == 0
    assert picture.with_name("picture-tiny-2.webp").exists()


def test_tile_and_tta(cli: Cli, tiny: str, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(encode(Image(draw(70, 50)), "png"))
    for name, options in {"whole": ["-t", "off"], "tiled": ["-t", "16"], "tta": ["-x"]}.items():
        result = cli(source, "-m", tiny, "-o", tmp_path / f"{name}.png", "--json", *options)
        assert result.code == 0, result.err
        assert json.loads(result.out)["tile"] == (16 if name == "tiled" else None)
    whole, tiled, tta = (
        decode((tmp_path / f"{name}.png").read_bytes()).pixels for name in ("whole", "tiled", "tta")
    )
    assert np.array_equal(whole, tiled)
    assert not np.array_equal(whole, tta)


def test_several_files_into_a_folder(cli: Cli, tiny: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    result = cli(tmp_path / "a.png", tmp_path / "b.png", "-m", tiny, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "a.png").exists()
    assert (tmp_path / "out" / "b.png").exists()


def test_quiet_and_verbose(cli: Cli, tiny: str, picture: Path) -> None:
    assert cli(picture, "-m", tiny, "-q").err == ""
    loud = cli(picture, "-m", tiny, "-v", "--overwrite")
    assert "9x12 to 18x24" in loud.err


def test_max_pixels(cli: Cli, tiny: str, picture: Path) -> None:
    result = cli(picture, "-m", tiny, "--max-pixels", "100")
    assert result.code == 1
    assert "--max-pixels" in result.err


def test_a_rehearsal_knows_the_limit_of_pixels(cli: Cli, tiny: str, picture: Path) -> None:
    assert cli(picture, "-m", tiny, "--dry-run").code == 0
    result = cli(picture, "-m", tiny, "--dry-run", "--max-pixels", "10")
    assert result.code == 1
    assert "--max-pixels" in result.err


def test_help_names_every_agreed_option(cli: Cli) -> None:
    text = cli("--help").text
    agreed = (
        "-o --output -m --model -s --scale --size --width --height --max-side --alpha -t --tile "
        "--overlap --device --dtype -x --tta -f --format --quality --lossless -r --recursive "
        "--include --exclude --files-from -0 --null --overwrite --skip-existing -j --jobs --json "
        "--report --dry-run --fail-fast --strip-metadata -q --quiet -v --verbose"
    )
    missing = [name for name in agreed.split() if name not in text]
    assert not missing
    from upscale.cli.commands import COMMANDS

    assert all(name in text for name in COMMANDS)


def test_version(cli: Cli) -> None:
    import upscale

    assert cli("--version").text == f"upscale {upscale.__version__}\n"


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


HEAVY = "[m for m in ('torch', 'cv2', 'numpy', 'PIL') if m in sys.modules]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["--frob"]])
def test_the_shell_stays_light(arguments: list[str]) -> None:
    code = f"import sys; from upscale.cli import status; status({arguments}); print({HEAVY})"
    assert run_python(code).splitlines()[-1] == "[]"


def test_help_of_every_command_stays_light() -> None:
    code = (
        "import sys; from upscale.cli import status; from upscale.cli.commands import COMMANDS\n"
        "for name in COMMANDS:\n"
        "    status([name, '--help'])\n"
        f"    print('HEAVY', name, {HEAVY})"
    )
    lines = [line for line in run_python(code).splitlines() if line.startswith("HEAVY")]
    assert [line for line in lines if not line.endswith("[]")] == []


def test_printable() -> None:
    assert printable("a\x1b[31m\n\u202e\x00é模") == "a\\x1b[31m\\n\\u202e\\x00é模"
    assert printable(os.fsdecode(b"\xff")) == "\\xff"
    assert shorten("abcdefghij", 5) == "ab…ij"


def test_doctor(cli: Cli, tiny: str) -> None:
    result = cli("doctor", "--json")
    checks = [json.loads(line) for line in result.text.splitlines()]
    parts = {check["part"] for check in checks}
    assert {"versions", "devices", "memory", "weights", "codecs"} <= parts
    assert any(check["name"] == "tiny-x2" and check["state"] == "ok" for check in checks)
    assert result.code == any(check["state"] == "failed" for check in checks)
    assert "devices" in cli("doctor").text


def test_colour_and_alpha_options_change_the_picture(cli: Cli, tiny: str, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(png(20, 24, 4, seed=3))
    made = {}
    for name, more in {
        "plain": (),
        "bicubic": ("--alpha-mode", "bicubic"),
        "fixed": ("--color-fix",),
        "palette": ("--palette",),
    }.items():
        target = tmp_path / f"{name}.png"
        assert cli(source, "-m", tiny, "-o", target, *more).code == 0
        made[name] = decode(target.read_bytes()).pixels.astype(int)
    assert (made["plain"][..., :3] == made["bicubic"][..., :3]).all()
    assert (made["plain"][..., 3] != made["bicubic"][..., 3]).any()
    assert (made["plain"][..., :3] != made["fixed"][..., :3]).any()
    assert b"PLTE" in (tmp_path / "palette.png").read_bytes()
    colours = made["palette"].reshape(-1, made["palette"].shape[2])
    assert len({tuple(c) for c in colours}) <= 256


def test_profile_is_kept_or_left(cli: Cli, tiny: str, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    pixels = np.full((10, 12, 3), (200, 40, 30), np.uint8)
    profile = rgb_tables_profile()
    source.write_bytes(encode(Image(pixels, Metadata(icc=profile)), "png"))
    made = {}
    for mode in ("keep", "srgb"):
        target = tmp_path / f"{mode}.png"
        assert cli(source, "-m", tiny, "-o", target, "--icc", mode).code == 0
        made[mode] = decode(target.read_bytes())
    assert made["keep"].metadata.icc == profile
    assert made["srgb"].metadata.icc != profile
    assert (made["keep"].pixels != made["srgb"].pixels).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--icc", "other"), "icc 'other' is unknown: give keep or srgb"),
        (
            ("--alpha-mode", "best"),
            "alpha mode 'best' is unknown: give network, bicubic or separate",
        ),
        (("--assume-icc", "none.icc"), "assume icc 'none.icc' is no file"),
    ],
)
def test_wrong_colour_options(
    options: tuple[str, str], words: str, cli: Cli, tiny: str, picture: Path
) -> None:
    result = cli(picture, "-m", tiny, *options)
    assert result.code == 2
    assert words in result.err


def test_cmyk_without_a_profile_names_the_option_that_helps(
    cli: Cli, tiny: str, tmp_path: Path
) -> None:
    from PIL import Image as Pillow

    source = tmp_path / "a.jpg"
    Pillow.new("CMYK", (16, 16), (20, 90, 200, 10)).save(source)
    result = cli(source, "-m", tiny, "-o", tmp_path / "o.png")
    assert result.code == 1
    assert "--assume-icc" in result.err
    (tmp_path / "press.icc").write_bytes(cmyk_profile())
    target = tmp_path / "o.png"
    done = cli(source, "-m", tiny, "-o", target, "--assume-icc", tmp_path / "press.icc")
    assert done.code == 0, done.err
    assert decode(target.read_bytes()).pixels.shape[2] == 3
