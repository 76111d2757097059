"""What an output depends on besides its input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from upscale.errors import UsageError

IccMode = Literal["keep", "srgb"]
AlphaMode = Literal["network", "bicubic"]

JOURNAL_VERSION = 1
MAX_SCALE = 64.0
MAX_SIDE = 1_000_000


@dataclass(frozen=True)
class Size:
    """A final size in pixels: both sides, one side (the other follows), or the longer side."""

    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Return the final (width, height) of a picture of that size, at least 1 x 1."""
        if self.max_side is not None:
            ratio = self.max_side / max(width, height)
        elif self.width is not None and self.height is not None:
            return self.width, self.height
        elif self.width is not None:
            ratio = self.width / width
        else:
            ratio = (self.height or height) / height
        return (
            self.width or max(1, round(width * ratio)),
            self.height or max(1, round(height * ratio)),
        )

    def __str__(self) -> str:
        if self.max_side is not None:
            return f"max{self.max_side}"
        return f"{self.width or ''}x{self.height or ''}"


@dataclass(frozen=True)
class Settings:
    """The options of the main job that change the bytes of an output, and where it is computed.

    Attributes:
        model: Family, weights name, or checkpoint file.
        alpha: Interpolation between the PSNR and the GAN network, in [0, 1]; ``None``: the default.
        scale: Final scale; ``None``: the model's.
        size: Final size instead of a scale.
        tile: ``"auto"``, ``"off"``, or a side in LR pixels.
        overlap: Overlap of tiles in LR pixels; ``None``: the network's.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:0,cuda:1"``, ``"mps"``.
        dtype: ``"auto"``, ``"fp16"``, ``"bf16"``, ``"fp32"``.
        tta: Mean over the eight flips and turns.
        format: Output format (an extension); ``None``: the input's.
        quality: Quality of lossy formats, 1 to 100.
        lossless: Lossless coding where the format has both.
        strip_metadata: Drop EXIF, XMP, and provenance.
        background: Colour to put under alpha where the format holds none.
        icc: ``"keep"`` the profile, or leave results in ``"srgb"``.
        assume_icc: File of an ICC profile for CMYK pictures that carry none.
        alpha_mode: Enlarge alpha by the ``"network"`` or ``"bicubic"``.
        color_fix: Put the input's low frequencies back.
        palette: Write PNG with a palette of at most 256 colours.
        samples: Draws from the prior (vae).
        seed: Seed of the noise (vae).
        temperature: Standard deviation of the noise (vae).
    """

    model: str = "esrgan"
    alpha: float | None = None
    scale: float | None = None
    size: Size | None = None
    tile: str | int = "auto"
    overlap: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    tta: bool = False
    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    strip_metadata: bool = False
    background: str | None = None
    icc: IccMode = "keep"
    assume_icc: str | None = None
    alpha_mode: AlphaMode = "network"
    color_fix: bool = False
    palette: bool = False
    samples: int = 1
    seed: int = 0
    temperature: float = 0.8

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.size is not None:
            self._check_size(self.size)
        if isinstance(self.tile, str) and self.tile not in {"auto", "off"}:
            raise UsageError(f"tile {self.tile!r}: give auto, off, or a number of pixels")
        if self.icc not in get_args(IccMode):
            raise UsageError(f"icc {self.icc!r}: give keep or srgb")
        if self.alpha_mode not in get_args(AlphaMode):
            raise UsageError(f"alpha mode {self.alpha_mode!r}: give network or bicubic")
        if self.assume_icc is not None and not Path(self.assume_icc).is_file():
            raise UsageError(f"ICC profile {self.assume_icc}: no such file")
        if self.dtype not in {"auto", "fp16", "bf16", "fp32"}:
            raise UsageError(f"dtype {self.dtype!r}: give auto, fp16, bf16, or fp32")

    def _check_numbers(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(
                f"alpha {self.alpha:g} is outside [0, 1]: 0 is the PSNR net, 1 the GAN"
            )
        if self.scale is not None and not 0 < self.scale <= MAX_SCALE:
            raise UsageError(f"scale {self.scale:g} is not in (0, {MAX_SCALE:g}]")
        if isinstance(self.tile, int) and self.tile < 16:
            raise UsageError(f"tile {self.tile} is too small: give at least 16, auto, or off")
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"overlap {self.overlap} is negative: give 0 or more pixels")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"quality {self.quality} is not in 1 to 100")
        if self.samples < 1:
            raise UsageError(f"samples {self.samples}: give 1 or more")
        if not 0 <= self.temperature <= 10:
            raise UsageError(f"temperature {self.temperature:g} is not in [0, 10]")

    def _check_size(self, size: Size) -> None:
        if self.scale is not None:
            raise UsageError(f"scale {self.scale:g} and size {size}: give one of them")
        if size.max_side is not None and (size.width is not None or size.height is not None):
            raise UsageError("a longest side and a width or height: give one of them")
        for side in (size.width, size.height, size.max_side):
            if side is not None and not 1 <= side <= MAX_SIDE:
                raise UsageError(f"side {side} is not in 1 to {MAX_SIDE} pixels")

    def resolved(self, alpha: float | None, scale: float) -> Settings:
        """Return the same settings with the defaults of the model filled in."""
        return replace(self, alpha=alpha, scale=scale if self.size is None else None)

    def digest(self, weights: tuple[str, ...]) -> str:
        """Return 16 hexadecimal digits that differ when an output would differ.

        The device is left out: a run may be finished on another machine.

        Args:
            weights: SHA-256 of the checkpoints in use.
        """
        fields = asdict(self)
        del fields["device"]
        if self.size is None:  # else the family may choose other weights for other pictures
            del fields["model"]
        text = json.dumps([JOURNAL_VERSION, sorted(weights), fields], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
