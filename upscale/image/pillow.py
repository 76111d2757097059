"""Pictures that Pillow reads and writes; those of AVIF, BMP and JPEG XL have files of their own.

WebP: libvips decodes it in threads that are missing in a forked process, where it would wait for
them for ever. What libvips writes would depend on the number of threads (AVIF), and EXIF blocks be
made anew.
"""

from __future__ import annotations

import importlib
import io
import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import DecompressionBombError

from upscale.errors import ImageError
from upscale.image import exif
from upscale.image.metadata import Metadata
from upscale.image.model import Image, Info

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import ImageFile

for _category in (UserWarning, RuntimeWarning):  # they would go to the terminal
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")

PLUGINS = {"avif": "Avif", "bmp": "Bmp", "dds": "Dds", "gif": "Gif", "ico": "Ico", "pcx": "Pcx"}
PLUGINS |= {"jp2": "Jpeg2K", "png": "Png", "qoi": "Qoi", "tga": "Tga", "webp": "WebP"}
MOST = {"dds": 2, "gif": 4096, "pcx": 512, "qoi": 64, "tga": 128}  # pixels that a byte stands for
MODES = {"1": "L", "L": "L", "LA": "LA", "RGBA": "RGBA", "I;16": "I;16", "I;16B": "I;16"}
CHANNELS = {"L": 1, "I;16": 1, "LA": 2, "RGB": 3, "RGBA": 4}
FULL_COLOUR = 90  # quality from which colour is not subsampled
THREADS = 4  # of libavif, whatever the machine has: the bytes depend on it
DAMAGE = (  # what Pillow's decoders have been seen to raise over damaged files
    DecompressionBombError,
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError),
    *(
        OverflowError,
        ZeroDivisionError,
        MemoryError,
        RuntimeError,
        struct.error,
        NotImplementedError,
    ),
)


def opened(name: str, data: bytes) -> ImageFile.ImageFile:
    """A file whose header Pillow has read.

    Raises:
        ImageError: Damaged, cut short, or of a kind that Pillow does not read.
    """
    try:
        if name == "heic":
            return _heif_plugin().HeifImageFile(io.BytesIO(data))  # type: ignore[no-any-return]
        plugin = importlib.import_module(f"PIL.{PLUGINS[name]}ImagePlugin")
        file = getattr(plugin, f"{PLUGINS[name]}ImageFile")(io.BytesIO(data))
    except DAMAGE as error:
        raise _damaged(name, error) from error
    return file  # type: ignore[no-any-return]


def _damaged(name: str, error: BaseException) -> ImageError:
    if isinstance(error, NotImplementedError):
        return ImageError(f"this kind of {name.upper()} is not read; convert it to PNG")
    return ImageError(f"the {name.upper()} is damaged or cut short; fetch it again")


def _heif_plugin() -> Any:
    try:
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImageError(
            "this is HEIC (HEIF with HEVC); reading it needs an extra: pip install "
            "'upscale[heif]', or convert it to JPEG, PNG or AVIF (heif-convert a.heic a.png)"
        ) from error
    return pillow_heif


def look(name: str, data: bytes) -> tuple[Info, Callable[[], Image]]:
    """What the header of a picture says, and what decodes the picture.

    Raises:
        ImageError: Damaged or cut short; so does the decoder.
    """
    if name == "webp" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageError("the WEBP is cut short; fetch it again")
    file = opened(name, data)
    width, height = file.size
    if width * height > len(data) * MOST.get(name, 1 << 40):
        raise ImageError(
            f"the {name.upper()} is cut short: it cannot hold {width} x {height}; fetch it again"
        )
    try:
        frames = 1 if name in ("ico", "heic") else int(getattr(file, "n_frames", 1))
    except DAMAGE as error:
        raise _damaged(name, error) from error
    mode = mode_of(file)
    depth = 16 if mode == "I;16" else 8
    info = Info(
        name, width, height, depth, CHANNELS[mode], frames, metadata=metadata_of(name, data, file)
    )
    return info, lambda: Image(pixels_of(name, file, mode), info.metadata)


def mode_of(file: PillowImage.Image) -> str:
    """The mode in which a picture is taken: gray, RGB, both with alpha, or gray of 16 bits."""
    mode = MODES.get(file.mode, "RGBA" if file.mode in ("PA", "RGBa") else "RGB")
    if "transparency" in file.info and mode in ("L", "RGB"):
        mode = "RGBA" if mode == "RGB" else "LA"
    return mode


def pixels_of(name: str, file: ImageFile.ImageFile, mode: str) -> np.ndarray[Any, Any]:
    """The pixels of a picture in one of the modes of ``CHANNELS``, (H, W, C).

    Raises:
        ImageError: Damaged or cut short.
    """
    try:
        file.load()
        picture = file if mode in (file.mode, "I;16") else file.convert(mode)
        return np.array(picture).reshape(file.height, file.width, -1)
    except DAMAGE as error:
        raise _damaged(name, error) from error


def metadata_of(name: str, data: bytes, file: ImageFile.ImageFile) -> Metadata:
    """What travels with the pixels."""
    info, notes = file.info, []
    comment = info.get("comment")
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "replace").rstrip("\0")
    start = data.find(b"\xff\x4f\xff\x51") if name == "jp2" else -1
    bits = (data[start + 42] & 127) + 1 if 0 <= start < len(data) - 42 else 8
    if bits > 8 and not file.mode.startswith("I"):
        notes.append(f"JPEG 2000 of {bits} bits a channel: read with 8")
    return Metadata(
        name,
        icc=info.get("icc_profile"),
        exif=info.get("exif"),
        xmp=info.get("xmp"),
        dpi=info.get("dpi") if name in ("bmp", "pcx", "jp2") else None,
        text=(("Comment", comment),) if comment and name == "gif" else (),
        palette=file.mode in ("1", "P", "PA"),
        bilevel=file.mode == "1",
        notes=tuple(notes),
    )


def save(image: Image, name: str, **options: Any) -> bytes:
    """Encode a picture (8 bit) with its profile, EXIF and XMP.

    Raises:
        ImageError: The encoder refuses it.
    """
    from PIL import Image as PillowImage

    m, buffer = image.metadata, io.BytesIO()
    metadata = {"icc_profile": m.icc or b"", "exif": m.exif or b"", "xmp": m.xmp or b""}
    try:
        pixels = image.pixels[:, :, 0] if image.pixels.shape[2] == 1 else image.pixels
        PillowImage.fromarray(pixels).save(buffer, name, **metadata, **options)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        raise ImageError(
            f"{image.width} x {image.height} cannot be written as {name} ({error}); choose -f png"
        ) from error
    return buffer.getvalue()


def encode_webp(image: Image, *, quality: int, lossless: bool) -> bytes:
    """The bytes of a WebP; colour under alpha 0 is kept."""
    return save(image, "WEBP", quality=quality, lossless=lossless, exact=True, method=4)


def encode_avif(image: Image, *, quality: int) -> bytes:
    """The bytes of an AVIF; full colour resolution from 90 on."""
    subsampling = "4:4:4" if quality >= FULL_COLOUR else "4:2:0"
    if image.metadata.exif:  # else Pillow makes it anew, and maker notes move
        image = image.with_metadata(exif=exif.without_orientation(image.metadata.exif))
    return save(image, "AVIF", quality=quality, max_threads=THREADS, subsampling=subsampling)


def encode_tga(image: Image) -> bytes:
    """The bytes of a TGA, in run lengths."""
    return save(image, "TGA", compression="tga_rle")


def from_pillow(picture: PillowImage.Image) -> Image:
    """A picture of Pillow, upright, in the colours that it shows, with its profile and metadata.

    Raises:
        ImageError: Its mode has no meaning here.
    """
    from PIL import ImageOps

    file = ImageOps.exif_transpose(picture)
    info = file.info
    m = Metadata("", icc=info.get("icc_profile"), exif=info.get("exif"), xmp=info.get("xmp"))
    if file.mode in ("F", "I;16", "I;16B", "I;16L"):
        dtype = np.float32 if file.mode == "F" else np.uint16
        return Image(np.asarray(file).astype(dtype)[:, :, None], m)
    if file.mode in ("I", "LAB", "HSV"):
        raise ImageError(f"a Pillow picture of mode {file.mode} is none here; convert it to RGB")
    if file.mode == "CMYK" and m.icc:
        from upscale import icc

        return Image(
            icc.inks_to_rgb(np.asarray(file), m.icc), Metadata("", cmyk=m.icc, exif=m.exif)
        )
    mode = mode_of(file)
    pixels = np.array(file if file.mode == mode else file.convert(mode))
    return Image(pixels.reshape(file.height, file.width, -1), m)


def to_pillow(image: Image) -> PillowImage.Image:
    """The inverse of ``from_pillow``: 8 bits, or gray of 16 bits or floating point."""
    from PIL import Image as PillowImage

    from upscale.image.fit import to_depth

    pixels = image.pixels
    if pixels.shape[2] != 1 or pixels.dtype == np.uint8:
        pixels = to_depth(pixels, 8)
    picture = PillowImage.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    m = image.metadata
    pairs = {"icc_profile": m.icc, "exif": m.exif, "xmp": m.xmp, "dpi": m.dpi}
    picture.info |= {key: value for key, value in pairs.items() if value}
    return picture
