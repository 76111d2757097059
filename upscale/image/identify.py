"""Which format a file is of, by its first bytes; what is not read is refused by its name."""

from __future__ import annotations

from upscale.errors import ImageError

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"YUV4MPEG2 ", "y4m"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"BM", "bmp"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"#?RADIANCE", "hdr"),
    (0, b"#?RGBE", "hdr"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),
    (0, b"\0\0\1\0", "ico"),
    (0, b"DDS ", "dds"),
    (0, b"qoif", "qoi"),
)
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
RAW = "a RAW file of a camera; develop it to TIFF or PNG first (darktable-cli a.dng a.tif)"
OTHERS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb", b"\0MRM"), RAW),
    (0, (b"v/1\x01",), "OpenEXR; convert it to floating-point TIFF (oiiotool a.exr -o a.tif)"),
    (0, (b"8BPS",), "a document of Photoshop; export it as PNG or TIFF (magick 'a.psd[0]' a.png)"),
    (0, (b"gimp xcf",), "a document of GIMP; export it as PNG or TIFF (magick a.xcf a.png)"),
    (0, (b"%PDF", b"%!PS"), "a PDF or PostScript; export its pages as PNG (pdftoppm -png a.pdf a)"),
    (0, (b"<svg", b"<?xml"), "an SVG (or XML), which has no pixels; export it as PNG"),
    (0, (b"BPG\xfb",), "a BPG picture; convert it to PNG (bpgdec -o a.png a.bpg)"),
    (0, (b"II\xbc\x01",), "JPEG XR; convert it to TIFF (JxrDecApp -i a.jxr -o a.tif)"),
    (0, (b"\x1aE\xdf\xa3",), "a video; extract its frames first (ffmpeg -i a.mkv %06d.png)"),
    (8, (b"AVI ",), "a video; extract its frames first (ffmpeg -i a.avi %06d.png)"),
    (0, (b"PK\x03\x04", b"\x1f\x8b"), "an archive (ZIP or gzip); unpack it first"),
    (0, (b"<!DOCTYPE", b"<html"), "a web page; the download failed, fetch the picture again"),
    (0, (b"version https://git-lfs",), "a Git LFS pointer; fetch the file with git lfs pull"),
)


def identify(data: bytes) -> str:
    """The format of a file by its content; its name plays no part.

    Raises:
        ImageError: Empty, or of a kind that is not read; known kinds are named.
    """
    if not data:
        raise ImageError("the file is empty; give a picture")
    for at, signature, name in SIGNATURES:
        if data[at : at + len(signature)] == signature and (name != "webp" or data[:4] == b"RIFF"):
            return name
    if len(data) > 2 and data[0:1] == b"P" and data[1:2] in b"1234567Ff" and data[2:3].isspace():
        return "ppm"
    if data[4:8] == b"ftyp":
        return _iso(data)
    for at, signatures, what in OTHERS:
        if data.startswith(signatures, at):
            raise ImageError(f"this is {what}")
    if _is_tga(data):
        return "tga"
    if (
        len(data) > 128
        and data[0] == 10
        and data[1] < 6
        and data[2] < 2
        and data[3] in (1, 2, 4, 8)
    ):
        return "pcx"
    raise ImageError(
        "this is no picture that can be read; give PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF, TGA, "
        "ICO, DDS, PCX, QOI, JPEG 2000, Netpbm, Radiance (.hdr) or, with the extras jxl and heif, "
        "JPEG XL and HEIC"
    )


def _is_tga(data: bytes) -> bool:
    """Whether the header is that of a TGA, which has no signature."""
    if len(data) < 19 or data[2] not in (1, 2, 3, 9, 10, 11) or data[17] & 0xC0:
        return False
    colours = data[2] in (1, 9)
    table = data[1] == 1 and data[7] in (15, 16, 24, 32) if colours else data[1] < 2
    sides = any(data[12:14]) and any(data[14:16])
    bits = (8,) if colours or data[2] in (3, 11) else (15, 16, 24, 32)
    return table and sides and (data[16] in bits or (data[2] in (3, 11) and data[16] == 16))


def _iso(data: bytes) -> str:
    """AVIF and HEIC among the files that begin with an ISO base media header."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12]} | {data[i : i + 4] for i in range(16, size, 4)}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & HEIF_BRANDS:
        return "heic"
    if data[8:12] == b"crx ":
        raise ImageError(f"this is {RAW}")
    raise ImageError("this is a video; extract its frames first (ffmpeg -i a.mp4 %06d.png)")
