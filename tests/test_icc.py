"""Profiles against littleCMS, and the colour chunks of PNG."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from tests.pictures import sample
from tests.profiles import cmyk_profile, gray_profile, rgb_tables_profile
from upscale import icc
from upscale.errors import ImageError
from upscale.icc import builder, parse
from upscale.image import Image, Metadata, decode, encode
from upscale.image.fit import losses, to_srgb

PROFILES = {
    f"{name}-{'srgb' if len(curve) > 1 else curve[0]}": icc.build(name, icc.PRIMARIES[name], curve)
    for name in icc.PRIMARIES
    for curve in (icc.SRGB_CURVE, (1.8,), (2.2,), (1.0,))
}


def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", PROFILES)
def test_conversion_to_srgb_agrees_with_littlecms(name: str) -> None:
    profile = PROFILES[name]
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB", 1)
    want = np.asarray(ImageCms.applyTransform(PillowImage.fromarray(pixels()), made)).astype(float)
    found = np.clip(parse(profile).to_srgb(pixels().astype(np.float32) / 255), 0, 1) * 255
    worst = np.abs(found - want).max()
    assert worst < 1.2, f"{worst:.2f} levels"  # littleCMS rounds once


@pytest.mark.parametrize("name", PROFILES)
def test_there_and_back(name: str) -> None:
    profile = parse(PROFILES[name])
    x = pixels().astype(np.float32) / 255
    worst = np.abs(profile.from_srgb(profile.to_srgb(x)) - x).max() * 255
    assert worst < 0.25, f"{worst:.3f} levels"  # where one channel is near 0 under a pure power


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_gray_there_and_back(gamma: float) -> None:
    profile = parse(gray_profile("gray", gamma))
    x = np.linspace(0, 1, 300, dtype=np.float32)[:, None]
    assert np.allclose(profile.from_srgb(profile.to_srgb(x)), x, atol=1e-6)
    srgb = icc.srgb_encode(x**gamma)
    assert np.allclose(profile.to_srgb(x), srgb, atol=1e-6)


def test_pillows_own_srgb_is_srgb_and_others_are_not() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert parse(own).is_srgb
    assert parse(icc.build("sRGB")).is_srgb
    assert not parse(PROFILES["p3-srgb"]).is_srgb
    assert not parse(rgb_tables_profile()).is_srgb


def test_profiles_that_are_built_are_valid() -> None:
    for data in (*PROFILES.values(), gray_profile("gray", 2.2)):
        opened = ImageCms.ImageCmsProfile(io.BytesIO(data))
        assert opened.profile.version == pytest.approx(4.4, abs=0.1)
        assert ImageCms.getProfileDescription(opened).strip()


def test_curves_of_every_type_have_inverses() -> None:
    def para(kind: int, *values: float) -> bytes:
        return (
            b"para" + struct.pack(">IHH", 0, kind, 0) + b"".join(builder._fixed(v) for v in values)
        )

    from upscale.icc.profile import _curve

    table = (np.linspace(0, 1, 300) ** 2.1 * 65535).astype(">u2").tobytes()
    curves = [
        para(0, 2.2),
        para(1, 2.0, 0.9, 0.1),
        para(2, 2.0, 0.8, 0.1, 0.05),
        para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        para(4, 2.4, 0.9, 0.05, 0.07, 0.04, 0.01, 0.005),
        b"curv" + struct.pack(">II", 0, 0),
        b"curv" + struct.pack(">IIH", 0, 1, 563),
        b"curv" + struct.pack(">II", 0, 300) + table,
    ]
    x = np.linspace(0.15, 1, 200, dtype=np.float32)
    for raw in curves:
        curve = _curve(raw)
        assert np.allclose(curve.inverse(curve.forward(x)), x, atol=2e-4), raw[:12]


@pytest.mark.parametrize("cut", [0, 50, 127, 131, 140, 300])
def test_damaged_profiles_are_errors(cut: int) -> None:
    with pytest.raises(ImageError, match="damaged"):
        parse(PROFILES["p3-srgb"][:cut])


def test_a_profile_of_another_kind_than_the_picture_is_left_out_with_a_warning() -> None:
    for profile in (cmyk_profile(), gray_profile("gray", 2.2)):
        image = decode(encode(sample(3, 8).with_metadata(icc=profile), "png"))
        assert image.metadata.icc is None
        assert "left out" in image.metadata.notes[0]
    gray = sample(1, 8).with_metadata(icc=PROFILES["p3-srgb"])
    assert decode(encode(gray, "png")).metadata.icc is not None


def test_hdr_profiles_are_refused() -> None:
    body = b"cicp\0\0\0\0" + bytes((9, 16, 0, 1))
    tags = {b"desc": builder._unicode("Rec2100PQ"), b"cicp": body}
    profile = builder._assemble(b"RGB ", tags)
    with pytest.raises(ImageError, match=r"HDR picture.*PQ"):
        decode(
            encode(sample(3, 8), "png")[:33]
            + _chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))
            + encode(sample(3, 8), "png")[33:]
        )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(*chunks: tuple[bytes, bytes], gray: bool = False) -> Image:
    data = encode(sample(1 if gray else 3, 8), "png")
    return decode(data[:33] + b"".join(_chunk(k, b) for k, b in chunks) + data[33:])


def chrm(name: str) -> tuple[bytes, bytes]:
    p = icc.PRIMARIES[name]
    flat = (*icc.D65, *p[0], *p[1], *p[2])
    return b"cHRM", struct.pack(">8I", *(round(v * 100000) for v in flat))


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100000 / gamma))


def test_png_colour_chunks_that_say_srgb_need_no_profile() -> None:
    assert with_chunks(gama(2.2), chrm("srgb")).metadata.icc is None
    assert with_chunks(gama(2.2)).metadata.icc is None
    assert with_chunks((b"sRGB", b"\0"), gama(1.0)).metadata.icc is None
    assert with_chunks((b"cICP", bytes((1, 13, 0, 1))), gama(1.0)).metadata.icc is None


@pytest.mark.parametrize(
    ("chunks", "primaries", "curve"),
    [
        (((b"cICP", bytes((12, 13, 0, 1))),), "p3", icc.SRGB_CURVE),
        (((b"cICP", bytes((9, 8, 0, 1))), chrm("p3")), "rec2020", (1.0,)),
    ],
)
def test_png_colour_chunks_become_a_profile(
    chunks: tuple[tuple[bytes, bytes], ...], primaries: str, curve: tuple[float, ...]
) -> None:
    found = parse(with_chunks(*chunks).metadata.icc or b"")
    want = parse(icc.build("want", icc.PRIMARIES[primaries], curve))
    x = pixels().astype(np.float32) / 255
    assert np.abs(found.to_srgb(x) - want.to_srgb(x)).max() < 1e-3


@pytest.mark.parametrize("gray", [False, True])
def test_png_gamma_and_primaries_stay_and_are_named_where_they_cannot(gray: bool) -> None:
    image = with_chunks(gama(1.0), chrm("p3"), gray=gray)
    data = encode(image, "png")
    for kind, body in (gama(1.0), chrm("p3")):
        assert data.count(kind + body) == 1
    assert image.metadata.icc is None
    (said,) = losses(image, "tiff")
    assert said == "TIFF holds no gamma (gAMA), primaries (cHRM): left out"
    plain = with_chunks(gama(2.2), chrm("srgb"), (b"sRGB", b"\0"))
    assert losses(plain, "tiff") == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ((9, 16, 0, 1), "HDR.*PQ"),
        ((9, 18, 0, 1), "HDR.*HLG"),
        ((2, 2, 0, 1), "convert the picture"),
        ((1, 13, 0, 0), "video range"),
    ],
)
def test_png_code_points_that_cannot_be_honoured_are_refused(
    body: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        with_chunks((b"cICP", bytes(body)))


def test_impossible_chromaticities_are_refused() -> None:
    with pytest.raises(ImageError, match="primaries"):
        icc.build("none", ((0, 0), (0, 0), (0, 0)))


def test_to_srgb_clips_and_drops_the_profile() -> None:
    image = Image(pixels(), Metadata(icc=PROFILES["p3-srgb"]))
    done = to_srgb(image)
    assert done.metadata.icc is None
    assert not (done.pixels == image.pixels).all()
