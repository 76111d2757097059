"""Every kind of picture in every format, and the tables of ``docs/formats.md``."""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import IPTC, XMP, exif_block, exposure, identity, sample, stamped, written
from tests.profiles import cmyk_profile, gray_profile, rgb_tables_profile
from tests.tools import formats_table
from tests.tools.formats_table import cell, table
from tests.tools.measured import documented
from upscale import icc
from upscale.errors import ImageError, UsageError
from upscale.image import (
    FORMATS,
    Encoding,
    Image,
    Metadata,
    decode,
    encode,
    format_of,
    png,
    strip_metadata,
    tiffwriter,
    to_depth,
)
from upscale.image.fit import check_output, losses

EXACT = {
    "png": {8, 16},
    "tiff": {8, 16, 32},
    "webp": {8},
    "bmp": {8},
    "ppm": {8, 16},
    "jxl": {8},
}
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
needs_jxl = pytest.mark.skipif(
    importlib.util.find_spec("pillow_jxl") is None, reason="pillow-jxl-plugin is not installed"
)


@needs_jxl
def test_the_tables_in_the_docs_are_what_is_measured() -> None:
    said = documented(formats_table.PART)
    assert said == table(), "run: python -m tests.tools.formats_table --write"


@pytest.mark.parametrize("format_", list(written()), ids=lambda f: f.name)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_formats_give_the_pixels_back(format_: object, channels: int) -> None:
    name = format_.name  # type: ignore[attr-defined]
    for depth in sorted(EXACT.get(name, ())):
        found = cell(FORMATS[name], channels, depth)
        only_as_rgb = not FORMATS[name].gray or (name, channels) == ("bmp", 2)
        if found.text == "as RGB" and only_as_rgb and channels < 3:
            continue
        assert found.exact, f"{name}, {channels} channels, {depth} bit: {found.text}"


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_light_keeps_the_colour(channels: int) -> None:
    name = "hdr"
    source = sample(channels, 8)
    back = decode(encode(identity(decode(encode(source, name))), name))
    light = icc.srgb_decode(to_depth(source.pixels, 32))
    if channels == 1:
        light = light[:, :, [0, 0, 0]]
    worst = (np.abs(back.pixels - light) / np.maximum(light.max(2, keepdims=True), 1e-3)).max()
    assert worst <= 1 / 64, f"{worst} of the brightest channel"


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_come_close_and_quality_counts(name: str, channels: int) -> None:
    if FORMATS[name].needs and importlib.util.find_spec(FORMATS[name].needs) is None:
        pytest.skip(f"{FORMATS[name].needs} is not installed")
    smooth = np.linspace(20, 230, 64)[None, :, None] + np.zeros((48, 1, channels))
    source = Image(smooth.astype(np.uint8))
    good, poor = (encode(source, name, quality=q) for q in (95, 10))
    assert len(poor) < len(good)
    worst = np.abs(decode(good).pixels.astype(int) - smooth.astype(int)).max()
    assert worst <= 6, f"{name} at quality 95: {worst} levels"


@pytest.mark.parametrize(("quality", "kind"), [(95, "4:4:4"), (90, "4:4:4"), (80, "4:2:0")])
def test_jpeg_colour_is_whole_from_90_on(quality: int, kind: str) -> None:
    from upscale.image import probe

    assert probe(encode(sample(3, 8), "jpeg", quality=quality)).kind == kind


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    "profile",
    [
        icc.build("P3", icc.PRIMARIES["p3"]),
        icc.build("Rec. 2020", icc.PRIMARIES["rec2020"]),
        icc.build("Adobe", icc.PRIMARIES["adobe"], (563 / 256,)),
        icc.build("ProPhoto", PROPHOTO, (1.8,), (0.3457, 0.3585)),
        icc.build("Linear", curve=(1.0,)),
        rgb_tables_profile(),
    ],
    ids=["p3", "rec2020", "adobe", "prophoto", "linear", "tables"],
)
def test_a_profile_goes_to_srgb_and_back_exactly(profile: bytes, depth: int) -> None:
    source = sample(3, depth).with_metadata(icc=profile)
    back = identity(source)
    worst = np.abs(back.pixels.astype(int) - source.pixels.astype(int)).max()
    assert worst == 0, f"{worst} levels of {depth} bits"
    assert back.metadata.icc == profile


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_a_gray_profile_goes_to_srgb_and_back_exactly(gamma: float) -> None:
    source = sample(1, 16).with_metadata(icc=gray_profile("g", gamma))
    assert (identity(source).pixels == source.pixels).all()
    assert (identity(source, 1).pixels == source.pixels).all()


@pytest.mark.parametrize("name", ["jpeg", "tiff"])
def test_cmyk_is_separated_again(name: str) -> None:
    worst = formats_table.cmyk_difference(name)
    assert worst <= 24, f"{worst} levels"  # the profile's tables have 17 nodes a side


def test_cmyk_becomes_srgb_where_the_format_knows_none() -> None:
    image = sample(3, 8).with_metadata(cmyk=cmyk_profile())
    assert decode(encode(image, "png")).metadata.icc is None
    assert any("CMYK" in loss for loss in losses(image, "png"))


def test_what_a_format_cannot_hold_is_named() -> None:
    image = Image(sample(3, 16).pixels, Metadata(exif=exif_block(), xmp=XMP, iptc=IPTC))
    assert losses(image, "png") == ()
    said = " ".join(losses(image, "bmp"))
    assert "EXIF" in said
    assert "XMP" in said
    assert "16 bits" in said


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("jpeg", 65536, 10), {}, ("65536 x 10", "65500", "-f png")),
        (("webp", 10, 16384), {}, ("16383", "-f png")),
        (("jpeg", 10, 10), {"has_alpha": True}, ("--background",)),
        (("xyz", 10, 10), {}, ("xyz", "png")),
    ],
)
def test_limits_are_found_before_the_work(
    arguments: tuple[str, int, int], options: dict[str, bool], words: tuple[str, ...]
) -> None:
    with pytest.raises(ImageError) as caught:
        check_output(*arguments, **options)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"quality": 0}, {"quality": 101}, {"lossless": True}, {"background": "nocolour"}]
)
def test_options_that_do_not_fit_are_wrong_usage(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check_output("jpeg", 4, 4, Encoding(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("a/b.JPG", "jpeg"),
        (".tif", "tiff"),
        ("webp", "webp"),
        ("x.y/z.pgm", "ppm"),
        ("C:\\a.JPE", "jpeg"),
    ],
)
def test_the_extension_names_the_format(name: str, want: str) -> None:
    assert format_of(name) == want


def test_a_name_without_extension_has_no_format() -> None:
    with pytest.raises(ImageError, match="no picture format"):
        format_of("folder.d/picture")


def test_transparent_pixels_get_the_background() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = (255, 0, 0, 255)
    back = decode(encode(Image(pixels), "jpeg", quality=100, background="#0000ff")).pixels
    assert np.abs(back[1].astype(int) - [255, 0, 0]).max() < 12
    assert np.abs(back[6].astype(int) - [0, 0, 255]).max() < 12
    gray = Image(np.zeros((8, 8, 2), np.uint8))
    assert decode(encode(gray, "jpeg", background="white")).pixels.shape == (8, 8, 1)
    assert decode(encode(gray, "jpeg", background="red")).pixels.shape == (8, 8, 3)


def test_the_background_is_a_colour_and_not_numbers_of_the_profile() -> None:
    profile = icc.build("P3", icc.PRIMARIES["p3"])
    clear = Image(np.zeros((8, 8, 4), np.uint8), Metadata(icc=profile))
    back = decode(encode(clear, "jpeg", quality=100, background="#00ff00"))
    assert np.abs(back.pixels[4, 4].astype(int) - [117, 251, 76]).max() <= 3  # sRGB green in P3


def test_opaque_alpha_needs_no_background() -> None:
    pixels = np.full((4, 4, 4), 255, np.uint8)
    assert decode(encode(Image(pixels), "jpeg")).pixels.shape == (4, 4, 3)


def test_premultiplied_alpha_stays_so_in_tiff_and_becomes_straight_elsewhere() -> None:
    rng = np.random.default_rng(0)
    alpha = rng.integers(1, 256, (9, 7, 1)).astype(np.float64)
    colour = rng.integers(0, 256, (9, 7, 3))
    multiplied = np.round(colour * alpha / 255)
    pixels = np.concatenate([multiplied, alpha], 2).astype(np.uint8)
    image = Image(pixels, Metadata(premultiplied=True))
    tiff = decode(encode(image, "tiff"))
    assert tiff.metadata.premultiplied
    assert (tiff.pixels == pixels).all()
    assert (identity(tiff).pixels == pixels).all()
    png = decode(encode(image, "png"))
    assert not png.metadata.premultiplied
    strong = alpha[:, :, 0] > 128
    assert np.abs(png.pixels[:, :, :3].astype(int) - colour)[strong].max() <= 1


def test_floating_point_beyond_white_is_not_cut_silently() -> None:
    bright = Image(np.full((4, 4, 3), 1.5, np.float32))
    with pytest.raises(ImageError, match=r"1\.5.*-f tiff"):
        encode(bright, "png")
    assert (decode(encode(bright, "tiff")).pixels == 1.5).all()


def test_a_palette_is_written_when_asked() -> None:
    from upscale.image import probe

    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8], pixels[8:] = (200, 10, 30), (0, 90, 250)
    data = encode(Image(pixels), "png", palette=True)
    assert probe(data).kind == "palette"
    assert (decode(data).pixels == pixels).all()


def test_stripping_leaves_the_profile_and_the_resolution() -> None:
    profile = icc.build("P3", icc.PRIMARIES["p3"])
    start = sample(3, 8).with_metadata(
        icc=profile, exif=exif_block(), xmp=XMP, iptc=IPTC, text=(("a", "b"),), dpi=(300, 300)
    )
    native = (("gamma", b"gAMA", b"abcd"), ("time", b"tIME", b"abcdefg"))
    start = start.with_metadata(native=native)
    m = strip_metadata(stamped(start, {"software": "upscale"}).metadata)
    assert m.native == native[:1]
    assert (m.exif, m.xmp, m.iptc, m.text) == (None, None, None, ())
    assert (m.icc, m.dpi) == (profile, (300, 300))


def test_a_large_tiff_is_a_bigtiff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiffwriter, "CLASSIC", 1000)
    source = sample(3, 16).with_metadata(exif=exif_block(), xmp=XMP, iptc=IPTC, dpi=(300, 300))
    data = encode(source, "tiff")
    assert data[:4] == b"II+\0"
    back = decode(data)
    assert (back.pixels == source.pixels).all()
    assert back.metadata.dpi == (300, 300)
    assert exposure(back.metadata.exif or b"")


def test_a_very_long_png_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    wide = Image(np.zeros((1, FORMATS["png"].max_side + 7, 1), np.uint8))
    with pytest.raises(ImageError, match=r"1000007 x 1 .*at most 1000000 pixels a side"):
        encode(wide, "png")
    data = png.SIGNATURE + png.chunk(b"IHDR", struct.pack(">IIBBBBB", 1000007, 1, 8, 0, 0, 0, 0))
    data += png.chunk(b"IDAT", zlib.compress(bytes(1000008))) + png.chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="1000007 x 1, and at most 1000000 pixels a side"):
        decode(data)
    assert capfd.readouterr() == ("", ""), "libpng is not asked"


BYTES = """
import hashlib, os, sys
import numpy as np
if sys.argv[1] == "one":
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from tests.pictures import sample
from upscale.image import Image, encode
image = Image(np.tile(sample(3, 8, 64, 64).pixels, (6, 6, 1)))
for name in ("avif", "jpeg", "png", "tiff", "webp"):
    print(name, hashlib.sha256(encode(image, name)).hexdigest())
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system lets no process choose its cores"
)
def test_the_bytes_do_not_depend_on_the_machine() -> None:
    root = Path(__file__).parents[2]
    found = []
    for cores, threads in (("one", "1"), ("all", "1"), ("all", "7")):
        environment = dict(os.environ, VIPS_CONCURRENCY=threads, PYTHONSAFEPATH="")
        command = [sys.executable, "-c", BYTES, cores]
        done = subprocess.run(command, capture_output=True, cwd=root, env=environment, check=True)
        found.append(done.stdout.decode())
    assert found[0].count("\n") == 5
    assert found[0] == found[1] == found[2]
