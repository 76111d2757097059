"""Make the pictures in ``tests/data/pictures``: ``python -m tests.tools.make_pictures``.

They come from encoders other than the one under test wherever there is one: Pillow, OpenCV,
tifffile, ExifTool (``apt install libimage-exiftool-perl``). The picture is a
part of scikit-image's astronaut (NASA, public domain).
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.pictures import photo
from tests.profiles import cmyk_profile
from upscale import icc

FOLDER = Path(__file__).parents[1] / "data" / "pictures"


def save(name: str, data: bytes) -> None:
    (FOLDER / name).write_bytes(data)


def pillow(picture: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()


def camera() -> None:
    """A JPEG as a phone writes it: 4:2:0, turned, P3, GPS, thumbnail, XMP, IPTC, 72 dpi."""
    turned = Image.fromarray(photo()).transpose(Image.Transpose.ROTATE_90)
    p3 = icc.build("Display P3", icc.PRIMARIES["p3"])
    save("camera.jpg", pillow(turned, "JPEG", quality=80, icc_profile=p3, dpi=(72, 72)))
    thumbnail = FOLDER / "thumbnail.tmp"
    thumbnail.write_bytes(pillow(Image.fromarray(photo(15, 20)), "JPEG", quality=50))
    tags = [
        "-Make=Example",
        "-Model=Camera",
        "-Orientation#=6",
        "-DateTimeOriginal=2024:05:06_07:08:09",
        "-GPSLatitude=48.2",
        "-GPSLatitudeRef=N",
        "-GPSLongitude=16.4",
        "-GPSLongitudeRef=E",
        "-Artist=Nobody",
        "-ExifImageWidth=60",
        "-ExifImageHeight=80",
        "-LensModel=50mm",
        "-XMP-dc:Title=Astronaut",
        "-XMP-tiff:ImageWidth=60",
        "-XMP-tiff:Orientation#=6",
        "-IPTC:City=Vienna",
        "-IPTC:Keywords=space",
        "-EXIF:Software=Firmware_1.0",
        "-Comment=hello",
    ]
    command = ["exiftool", "-q", "-overwrite_original", *tags, f"-ThumbnailImage<={thumbnail}"]
    subprocess.run([*command, str(FOLDER / "camera.jpg")], check=True)
    thumbnail.unlink()


def disc(background: int) -> NDArray[np.uint8]:
    """An orange disc with a soft edge on transparent black (0) or white (255), straight alpha."""
    y, x = np.mgrid[:48, :48]
    alpha = np.clip(18.5 - np.hypot(x - 23.5, y - 23.5), 0, 1)
    out = np.full((48, 48, 4), background, np.uint8)
    out[alpha > 0, :3] = (230, 120, 20)
    out[:, :, 3] = np.round(alpha * 255)
    return out


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    rgb, deep = photo(), photo().astype(np.uint16) * 257
    p3 = icc.build("Display P3", icc.PRIMARIES["p3"])
    gray = np.asarray(Image.fromarray(rgb).convert("L"))
    camera()
    palette = Image.fromarray(rgb).quantize(32)
    palette.info["transparency"] = bytes([0, 128] + [255] * 30)
    save("palette.png", pillow(palette, "PNG", transparency=palette.info["transparency"]))
    cmyk = Image.fromarray(255 - np.dstack([rgb, np.full(gray.shape, 225, np.uint8)]), "CMYK")
    save("cmyk.jpg", pillow(cmyk, "JPEG", quality=90, icc_profile=cmyk_profile()))
    save("cmyk.tif", pillow(cmyk, "TIFF", compression="tiff_lzw", icc_profile=cmyk_profile()))
    save("progressive.jpg", pillow(Image.fromarray(rgb), "JPEG", quality=75, progressive=True))
    save("fax.tif", pillow(Image.fromarray(gray).convert("1"), "TIFF", compression="group4"))
    save("ycbcr.tif", pillow(Image.fromarray(rgb), "TIFF", compression="jpeg"))
    lzw = [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 2]
    save("lzw16.tif", cv2.imencode(".tif", deep[:, :, ::-1], lzw)[1].tobytes())
    floats = (rgb.astype(np.float32) / 255)[:, :, ::-1]
    predicted = [cv2.IMWRITE_TIFF_COMPRESSION, 8, cv2.IMWRITE_TIFF_PREDICTOR, 3]
    save("float.tif", cv2.imencode(".tif", floats, predicted)[1].tobytes())
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        deep.transpose(2, 0, 1),
        photometric="rgb",
        planarconfig="separate",
        tile=(32, 32),
        compression="zlib",
        byteorder=">",
        metadata=None,
        bigtiff=True,
    )
    save("planar-tiles.tif", buffer.getvalue())
    save("pages.tif", pillow(palette, "TIFF", save_all=True, append_images=[palette]))
    ten_bit = [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100]
    save("ten-bit.avif", cv2.imencode(".avif", (deep >> 6)[:, :, ::-1], ten_bit)[1].tobytes())
    frames = [Image.fromarray(np.roll(rgb[::2, ::2], 5 * i, 1)) for i in range(3)]
    for name, format_ in (
        ("animated.gif", "GIF"),
        ("animated.webp", "WEBP"),
        ("animated.png", "PNG"),
    ):
        save(
            name, pillow(frames[0], format_, save_all=True, append_images=frames[1:], duration=100)
        )
    save("still.gif", pillow(Image.fromarray(rgb).quantize(32), "GIF", comment=b"hello"))
    save("p3.webp", pillow(Image.fromarray(rgb), "WEBP", lossless=True, icc_profile=p3, exif=b""))
    save("light.hdr", cv2.imencode(".hdr", floats * 4)[1].tobytes())
    for name, background in (("disc-black.png", 0), ("disc-white.png", 255)):
        save(name, pillow(Image.fromarray(disc(background)), "PNG"))
    shape = Image.new("L", (32, 24))
    ImageDraw.Draw(shape).ellipse((4, 4, 28, 20), fill=200)
    save(
        "gray-alpha.png", pillow(Image.merge("LA", (shape, shape.point(lambda v: 255 - v))), "PNG")
    )
    save("rle.bmp", bytes.fromhex(RLE))


RLE = (
    (  # 4 x 2 pixels, BI_RLE8, two colours
        "424d4a0000000000 00003e00000028000000040000000200000001000800010000000c000000"
        "00000000000000000200000000000000"
    ).replace(" ", "")
    + "0000ff0000ff00000400"
    + "0000"
    + "02000201"
    + "0001"
)


if __name__ == "__main__":
    main()
