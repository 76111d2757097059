"""``Settings``: what decides the bytes of an output besides its input and the weights."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from upscale.errors import UsageError
from upscale.options import (
    between,
    check_options,
    compute_option,
    integers,
    is_file,
    model_option,
    one_of,
    output_option,
    word_or,
)

IccMode = Literal["keep", "srgb"]
AlphaMode = Literal["network", "bicubic", "separate"]
FitMode = Literal["distort", "contain", "cover"]
TileOption = int | Literal["auto", "off"]

DIGEST_VERSION = 2
MAX_SCALE = 64.0
MAX_SIDE = 1_000_000
MIN_TILE = 16
DEFAULT_DENOISE = 1.0  # share of the pair for real pictures, where a model has one
MOST_DISTORTION = 0.01  # of the ratio of width to height, before a line says so


def _check_denoise(denoise: float | str) -> str:
    if isinstance(denoise, str):
        return "is unknown: give a number in [0, 1]"
    return between(0, 1, ": 0 is for clean pictures, 1 for noisy, compressed ones")(denoise)


def _check_tile(tile: TileOption) -> str:
    if isinstance(tile, bool) or not isinstance(tile, int):
        return "" if tile in ("auto", "off") else "is unknown: give auto, off, or a number"
    return "" if tile >= MIN_TILE else f"is too small: give {MIN_TILE} or more, auto, or off"


def _check_size(size: Any) -> str:
    fits = isinstance(size, tuple) and len(size) == 2 and all(1 <= n <= MAX_SIDE for n in size)
    return "" if fits else f"is no size: give width and height, each 1 to {MAX_SIDE}"


def _denoise(text: str) -> Any:
    return None if text.strip() == "auto" else word_or(float)(text)  # the word for the default


parse_size = integers(
    r"(\d+)[xX×](\d+)", "size {!r} is not WIDTHxHEIGHT: give for example 1920x1080"
)
SIDE = between(1, MAX_SIDE)


def parse_page(text: str) -> tuple[int, int]:
    """Numbers of the first and the last page."""
    words = "1" if text.strip() == "first" else text
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", words.strip())
    if match is None:
        raise UsageError(f"page {text!r} is no page: give first, a number, or two: 3-7")
    return int(match[1]), int(match[2] or match[1])


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of an output, besides its input and the weights.

    Each field says with :func:`option` what it means. ``size`` is (width, height).

    Raises:
        UsageError: A value is out of range, or two do not go together.
    """

    format: str | None = output_option(
        None,
        "-f, --format EXT",
        "Output format: png, jpg, webp, tif, ...",
        shown="the input's where it can hold the result",
    )
    quality: int | None = output_option(
        None, "--quality N", "Quality of lossy formats, 1 to 100.", check=between(1, 100)
    )
    lossless: bool = output_option(False, "--lossless", "Lossless coding, where the format has it.")
    background: str | None = output_option(
        None,
        "--background COLOUR",
        "What to put under a transparent picture where the format holds no alpha: white, #rrggbb.",
    )
    icc: IccMode = output_option(
        "keep",
        "--icc keep|srgb",
        "Keep the colour profile of the input, or leave the result in sRGB.",
        check=one_of("keep", "srgb"),
    )
    assume_icc: str | None = output_option(
        None, "--assume-icc FILE", "ICC profile for CMYK pictures that carry none.", check=is_file
    )
    page: tuple[int, int] | None = output_option(
        None,
        "--page N|N-M|first",
        "Pages of a file, or frames of an animation or a stream, that are taken.",
        shown="all",
        parse=parse_page,
        check=lambda pages: "" if 1 <= pages[0] <= pages[1] else "is no page: they count from 1",
    )
    palette: bool = output_option(False, "--palette", "PNG with a palette of at most 256 colours.")
    strip_metadata: bool = output_option(
        False, "--strip-metadata", "Drop EXIF, XMP, and provenance; the ICC profile stays."
    )
    model: str = model_option(
        "esrgan",
        "-m, --model NAME",
        "Family (srcnn, esrgan, swinir), weights name (swinir-light-x2), or checkpoint file.",
    )
    scale: float | None = model_option(
        None,
        "-s, --scale FLOAT",
        "Final scale; the nearest native scale at or above it runs, the rest is bicubic.",
        shown="the model's",
        check=lambda s: (
            "" if 0 < s <= MAX_SCALE else f"is out of range: over 0, up to {MAX_SCALE:g}"
        ),
    )
    size: tuple[int, int] | None = model_option(
        None, "--size WxH", "Final size instead of a scale.", parse=parse_size, check=_check_size
    )
    width: int | None = model_option(None, "--width N", "Final width; height follows.", check=SIDE)
    height: int | None = model_option(
        None, "--height N", "Final height; width follows.", check=SIDE
    )
    max_side: int | None = model_option(None, "--max-side N", "Final longer side.", check=SIDE)
    only_enlarge: bool = model_option(
        False, "--only-enlarge", "A picture that would become smaller keeps its size."
    )
    fit: FitMode = model_option(
        "distort",
        "--fit distort|contain|cover",
        "Where --size has another ratio than the picture: distort gives that very size and says "
        "so, contain the largest one in it, cover fills it and cuts off what is over, evenly.",
        check=one_of("distort", "contain", "cover"),
    )
    alpha: float | None = model_option(
        None,
        "--alpha FLOAT",
        "esrgan: (1 - A) x PSNR net + A x GAN net, in [0, 1]: 0 is faithful, 1 is crisp.",
        shown="0.8",
        check=between(0, 1, ": 0 is the PSNR net, 1 the GAN"),
    )
    denoise: float | None = model_option(
        None,
        "--denoise FLOAT|auto",
        "esrgan: (1 - D) x pair for clean pictures + D x pair for noisy and compressed ones, D "
        "in [0, 1]; auto is the default.",
        shown=f"{DEFAULT_DENOISE:g}",
        parse=_denoise,
        check=_check_denoise,
    )
    tta: bool = model_option(False, "-x, --tta", "Mean over the eight flips and turns: 8x slower.")
    alpha_mode: AlphaMode = model_option(
        "network",
        "--alpha-mode network|bicubic|separate",
        "How a picture's transparency is enlarged; separate: it holds data (gloss, height), and "
        "colour and alpha are enlarged as they stand.",
        check=one_of("network", "bicubic", "separate"),
    )
    seamless: str = model_option(
        "",
        "--seamless [x|y]",
        "Textures that tile: the right edge goes on at the left, the bottom at the top; x or y: "
        "one of the two alone.",
        shown="off",
        check=lambda v: "" if v in ("", "x", "y", "xy") else "is unknown: give x, y, or neither",
    )
    color_fix: bool = model_option(
        False, "--color-fix", "Put the input's low frequencies back, against colour drift."
    )
    samples: int = model_option(
        1,
        "--samples N",
        "vae: plausible pictures that are drawn; their mean is written.",
        check=between(1, 10000),
    )
    seed: int = model_option(
        0,
        "--seed N",
        "vae: seed of the first draw; draw K, from 0 on, has the seed N + K.",
        check=between(0, (1 << 63) - 1),
    )
    temperature: float = model_option(
        0.8,
        "--temperature T",
        "vae: how far draws go: 0 is the middle, 1 what was learned.",
        check=between(0, 10),
    )
    tile: TileOption = compute_option(
        "auto",
        "-t, --tile auto|off|N",
        "Side of a tile in input pixels.",
        parse=word_or(int),
        check=_check_tile,
    )
    overlap: int | None = compute_option(
        None,
        "--overlap N",
        "Pixels that neighbouring tiles share.",
        shown="what the network needs",
        check=lambda n: "" if n >= 0 else "is negative: give 0 or more",
    )
    dtype: str = compute_option("auto", "--dtype NAME", "auto (on a CPU fp32), fp16, bf16, fp32.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        denoise: object = self.denoise
        if isinstance(denoise, str):
            object.__setattr__(self, "denoise", _denoise(denoise))
        page: object = self.page
        if isinstance(page, int | str):
            object.__setattr__(self, "page", parse_page(str(page)))
        seamless: object = self.seamless
        if isinstance(seamless, bool):
            object.__setattr__(self, "seamless", "xy" if seamless else "")
        if self.assume_icc is not None:
            object.__setattr__(self, "assume_icc", os.fspath(self.assume_icc))
        check_options(self)
        sides = (self.width, self.height)
        if self.scale is not None and self.has_size:
            raise UsageError(
                f"scale {self.scale:g} and size {self.size_label}: give one of the two"
            )
        if self.size is not None and (*sides, self.max_side) != (None, None, None):
            raise UsageError("size and width, height, or max side: give one kind")
        if self.max_side is not None and sides != (None, None):
            raise UsageError("max side and width or height: give one of them")

    @property
    def has_size(self) -> bool:
        """Whether a size in pixels is asked for instead of a scale."""
        return any((self.size, self.width, self.height, self.max_side))

    @property
    def size_label(self) -> str:
        """The size asked for, in names: ``1920x1080``, ``1920x``, ``max512``."""
        if self.max_side is not None:
            return f"max{self.max_side}"
        width, height = self.size or (self.width, self.height)
        return f"{width or ''}x{height or ''}"

    @property
    def box(self) -> tuple[int, int] | None:
        """Width and height where both are asked for, else ``None``."""
        if self.size is None and self.width is not None and self.height is not None:
            return self.width, self.height
        return self.size

    def final_shape(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """Height and width of the result for an input of ``height`` x ``width``, at least 1 x 1.

        ``scale`` counts where the settings name neither scale nor size.
        """
        if self.box is not None and self.fit == "cover":
            enlarges = max(self.box[0] / width, self.box[1] / height) >= 1
            if enlarges or not self.only_enlarge:
                return self.box[1], self.box[0]
        return self.full_shape(height, width, scale)

    def full_shape(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """As ``final_shape``, before ``cover`` cuts off what is over on both sides."""
        factor = self.scale or scale
        ratios = factor, factor
        if self.box is not None:
            ratios = self.box[1] / height, self.box[0] / width
            if self.fit != "distort":
                ratios = (min(ratios) if self.fit == "contain" else max(ratios),) * 2
        elif self.max_side is not None:
            ratios = (self.max_side / max(width, height),) * 2
        elif self.width is not None or self.height is not None:
            ratios = (self.width / width if self.width else (self.height or 0) / height,) * 2
        if self.only_enlarge and min(ratios) < 1:
            return height, width
        if self.has_size:
            full = max(1, round(height * ratios[0])), max(1, round(width * ratios[1]))
        else:
            full = max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        if self.fit == "cover" and max(full) > MAX_SIDE:
            raise UsageError(
                f"fit 'cover' of {self.size_label} makes {width} x {height} pixels {full[1]} x "
                f"{full[0]} before they are cut: give contain, or a ratio nearer to the picture's"
            )
        return full

    def distortion(self, height: int, width: int) -> str:
        """What the size asked for does to the ratio of an input, or "" where it keeps it.

        Rounding to whole pixels is no distortion.
        """
        if self.box is None or self.fit != "distort":
            return ""
        ratios = self.box[0] / width, self.box[1] / height
        ratio, change = min(ratios), max(ratios) / min(ratios) - 1
        if self.only_enlarge and ratio < 1:
            return ""
        near = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        if change <= MOST_DISTORTION or near == self.box:
            return ""
        return (
            f"{self.size_label} distorts {width} x {height} pixels by {change:.0%}: "
            "--fit contain keeps their ratio, --fit cover fills the size and cuts off the rest"
        )

    def digest(self, weights: tuple[str, ...], *, alpha: float | None, scale: float) -> str:
        """Return 16 hexadecimal digits that differ when an output would differ.

        Fields that have their default are left out, so that a new one changes no old digest.

        Args:
            weights: Names and SHA-256 of the checkpoints in use.
            alpha: The alpha in use.
            scale: The scale in use.
        """
        import hashlib  # --help does without
        import json

        filled = replace(self, alpha=alpha, scale=None if self.has_size else scale)
        values = asdict(filled)
        changed = {f.name: values[f.name] for f in fields(self) if values[f.name] != f.default}
        if not self.has_size and "," not in self.model:
            # else the family may choose other weights for other pictures; a chain has an order
            changed.pop("model", None)
        text = json.dumps([DIGEST_VERSION, sorted(weights), changed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
