"""Picture files in and out: read, refuse early, write whole or not at all."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from upscale.errors import ImageError, OutputError
from upscale.files import refuse_existing, write_bytes
from upscale.image import Image, check_output, encode, probe
from upscale.image.fit import transparent


@dataclass(frozen=True)
class Form:
    """How a picture is encoded; see :func:`upscale.image.encode`."""

    format: str
    quality: int | None = None
    lossless: bool = False
    background: str | None = None

    def check(self, width: int, height: int, image: Image) -> None:
        """Refuse, before any work, what :meth:`encode` could not do at ``width`` x ``height``.

        Raises:
            ImageError: The format cannot hold it.
            UsageError: The options do not fit the format.
        """
        check_output(
            self.format,
            width,
            height,
            has_alpha=transparent(image),
            background=self.background,
            quality=self.quality,
            lossless=self.lossless,
        )

    def encode(self, image: Image) -> bytes:
        """The bytes of a picture file."""
        return encode(
            image,
            self.format,
            quality=self.quality,
            lossless=self.lossless,
            background=self.background,
        )


def read(source: Path) -> bytes:
    """The content of a picture file.

    Raises:
        ImageError: It is missing or cannot be read.
    """
    try:
        return source.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"no such file: {source}; check the path") from error
    except OSError as error:
        raise ImageError(f"{source}: cannot be read ({error.strerror}); check the path") from error


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse, before any work, an output that could not be written in the end.

    Raises:
        OutputError: It is the input; it exists and ``overwrite`` is false; its folder is missing or
            read-only.
    """
    with contextlib.suppress(OSError):
        if source.samefile(target):
            raise OutputError(f"{target} is the input itself; give another output name")
    refuse_existing(target, overwrite)
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {target.parent} is read-only; give another output")


def write(target: Path, data: bytes, size: tuple[int, int], *, overwrite: bool) -> None:
    """Write an encoded picture of ``size`` so that it appears whole or not at all.

    ``size`` is height and width.

    Raises:
        OutputError: It exists and ``overwrite`` is false; the folder is missing or read-only; the
            disk is full; what was written does not read back.
    """

    def check(name: str) -> None:
        info = probe(Path(name).read_bytes())
        if (info.height, info.width) != size:
            raise OutputError(f"{target}: what was written does not read back; check the disk")

    write_bytes(target, [data], overwrite=overwrite, check=check)
