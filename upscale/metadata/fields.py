"""What travels with the pixels of a picture."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metadata:
    """What travels with the pixels.

    Attributes:
        format: Name of the format that the picture came from, or "".
        icc: ICC profile of the pixels as they stand; None means sRGB (gray: its tone curve).
        exif: EXIF block, beginning with its TIFF header ("II*" or "MM"), orientation already 1.
        xmp: XMP packet (UTF-8 XML).
        iptc: IPTC-IIM records.
        dpi: Horizontal and vertical resolution in pixels per inch.
        text: Keyword and text of PNG text chunks and of JPEG and GIF comments ("Comment").
        palette: The file held palette indices.
        bilevel: The file held one bit per pixel.
        premultiplied: Colour is multiplied by alpha (associated alpha of TIFF).
        orientation: EXIF orientation, 1 to 8, of the pixels as they are stored; 1 once decoded.
        cmyk: CMYK profile of the separations that the file held; the pixels are sRGB.
        delay: Seconds that the picture is shown, where it is one of an animation.
        loop: How often the animation is shown, 0 for ever; None where it is none.
        video: The header of a y4m stream, word by word, without the size.
        notes: What the file held and the picture does not, one sentence each.
    """

    format: str = ""
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    xmp: bytes | None = field(default=None, repr=False)
    iptc: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()
    palette: bool = False
    bilevel: bool = False
    premultiplied: bool = False
    orientation: int = 1
    cmyk: bytes | None = field(default=None, repr=False)
    delay: float | None = None
    loop: int | None = None
    video: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
