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
)
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
RAW = "a RAW file of a camera; develop it to TIFF or PNG first"
OTHERS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb", b"\0MRM"), RAW),
    (0, (b"v/1\x01",), "OpenEXR; convert it to floating-point TIFF (oiiotool a.exr -o a.tif)"),
    (0, (b"8BPS", b"gimp xcf"), "a document of Photoshop or GIMP; export it as PNG or TIFF"),
    (0, (b"%PDF", b"%!PS"), "a PDF or PostScript; export its pages as PNG"),
    (0, (b"<svg", b"<?xml"), "an SVG (or XML), which has no pixels; export it as PNG"),
    (0, (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "JPEG 2000; convert it to PNG or TIFF"),
    (0, (b"\0\0\1\0",), "an icon; save it as PNG"),
    (0, (b"DDS ", b"qoif", b"BPG\xfb"), "a DDS, QOI or BPG picture; convert it to PNG"),
    (0, (b"\x1aE\xdf\xa3",), "a video; extract its frames first"),
    (8, (b"AVI ",), "a video; extract its frames first"),
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
    raise ImageError(
        "this is no picture that can be read; give PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF, Netpbm, "
        "Radiance (.hdr) or, with the extra jxl, JPEG XL"
    )


def _iso(data: bytes) -> str:
    """AVIF among the files that begin with an ISO base media header."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12]} | {data[i : i + 4] for i in range(16, size, 4)}
    if brands & {b"avif", b"avis"}:
        return "avif"
    if brands & HEIF_BRANDS:
        raise ImageError("this is HEIC (HEIF with HEVC); convert it to JPEG, PNG or AVIF")
    if data[8:12] == b"crx ":
        raise ImageError(f"this is {RAW}")
    raise ImageError("this is a video; extract its frames first")
