"""Between pixels as they are stored and tensors as networks see them: values, gray, luma, alpha.

Luma and chroma are of BT.601 in studio range, as MATLAB's ``rgb2ycbcr`` gives them, in floating
point and without rounding: Y runs from 16 / 255 to 235 / 255, Cb and Cr from 16 / 255 to 240 / 255.
Sums are taken channel by channel, each product and each sum rounded by itself: rows give what the
whole picture gives, to the last bit, on every CPU. (A matrix product does not promise that.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from upscale.errors import ImageError, reason
from upscale.image import Pixels, Reader
from upscale.image.fit import divided
from upscale.resample import resize

STRIP = 32  # rows that are converted at a time
REACH = 1  # LR pixels around a pixel that bound its alpha
NEAR, FAR = 0.02, 0.12  # a limit that is nearer counts in full, one that is farther not at all
CELL = 64  # LR pixels a side of the largest cell of the pyramid that fills holes
MARGIN = 2 * CELL  # rows around a piece, beginning at a multiple of CELL, that decide its filling

# Which gray a network of one channel takes: Y of BT.601 in studio range (16 to 235 of 255), or
# 0.299 R + 0.587 G + 0.114 B from 0 to 1, which is OpenCV's gray.
Luma = Literal["studio", "full"]

# Rows Y, Cb, Cr; columns R, G, B in [0, 1]; values on the scale 0..255 (ITU-R BT.601).
FORWARD = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
)
OFFSET = np.array([16.0, 128.0, 128.0])
INVERSE = np.linalg.inv(FORWARD)


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, C) uint8, uint16 or float32 to (1, C, H, W) float32, full scale at 1."""
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    planes = np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C")
    return torch.from_numpy(planes).div_(top).unsqueeze(0)


def to_pixels(x: Tensor, dtype: np.dtype[Any]) -> Pixels:
    """(1, C, H, W) float32 to (H, W, C) of ``dtype``: integers clipped and rounded half up."""
    if dtype == np.float32:
        return np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    whole = x[0].clamp(0, 1).mul_(float(np.iinfo(dtype).max)).add_(0.5)
    integer = torch.uint8 if dtype == np.uint8 else torch.int32  # the fraction is cut off
    turned = whole.to(integer).permute(1, 2, 0).contiguous().numpy()
    return turned if dtype == np.uint8 else turned.astype(dtype)


def by_rows(change: Callable[[Pixels], Pixels], x: Tensor) -> Tensor:
    """Apply a change of (h, W, C) arrays to (1, C, H, W), a few rows at a time, in threads."""

    def part(y: int) -> Tensor:
        rows = np.ascontiguousarray(x[0, :, y : y + STRIP].permute(1, 2, 0).numpy())
        with np.errstate(all="ignore"):  # floating-point values may be very large
            return torch.from_numpy(change(rows)).permute(2, 0, 1)

    starts = range(0, x.shape[2], STRIP)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy lets go of the interpreter
        return torch.cat(list(pool.map(part, starts)), 1).unsqueeze(0)


def straight(pixels: Pixels, *, premultiplied: bool) -> tuple[Tensor, Tensor | None]:
    """Colour, not multiplied by alpha, (1, 1 or 3, H, W), and alpha, (1, 1, H, W) in [0, 1]."""
    x = to_tensor(pixels)
    if x.shape[1] in (1, 3):
        return x, None
    colour, alpha = x[:, :-1], x[:, -1:].clamp(0, 1)
    if premultiplied:
        colour = torch.from_numpy(divided(colour.numpy(), alpha.numpy()))
    return colour.contiguous(), alpha.contiguous()


def _mix(x: Tensor, matrix: np.ndarray, offset: np.ndarray) -> Tensor:
    """Multiply the channels of (N, 3, H, W) by a 3 x 3 matrix and add an offset."""
    out = torch.empty_like(x)
    for o in range(3):
        plane = out[:, o]
        torch.mul(x[:, 0], float(matrix[o, 0]), out=plane)
        for c in (1, 2):
            plane.add_(x[:, c] * float(matrix[o, c]))
        plane.add_(float(offset[o]))
    return out


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] to Y, Cb, Cr divided by 255; linear, so nothing is clipped."""
    return _mix(rgb, FORWARD / 255, OFFSET / 255)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of ``rgb_to_ycbcr``; RGB may leave [0, 1] where Y and chroma do not agree."""
    return _mix(ycbcr, INVERSE * 255, -INVERSE @ OFFSET)


def gray_to_luma(gray: Tensor) -> Tensor:
    """Gray in [0, 1] to studio Y: what ``rgb_to_ycbcr`` gives for R = G = B."""
    return (gray * 219 + 16) / 255


def luma_to_gray(luma: Tensor) -> Tensor:
    """The inverse of ``gray_to_luma``."""
    return (luma * 255 - 16) / 219


def luma_in(studio: Tensor, luma: Luma) -> Tensor:
    """Studio Y (1, 1, H, W) as a network of one channel takes it."""
    return studio if luma == "studio" else luma_to_gray(studio)


def luma_out(y: Tensor, luma: Luma) -> Tensor:
    """The inverse of ``luma_in``."""
    return y if luma == "studio" else gray_to_luma(y)


def gray_in(gray: Tensor, channels: int, luma: Luma) -> Tensor:
    """Gray (1, 1, H, W) as a network takes it: luma (1), or three equal channels (3)."""
    if channels == 1:
        return gray_to_luma(gray) if luma == "studio" else gray
    return gray.expand(-1, 3, -1, -1).contiguous()


def gray_out(x: Tensor, luma: Luma) -> Tensor:
    """The inverse of ``gray_in``; three channels are weighed as in luma (BT.601)."""
    if x.shape[1] == 1:
        return luma_to_gray(x) if luma == "studio" else x
    red = x[:, :1]  # so written, three equal channels give exactly their value
    return red + 0.587 * (x[:, 1:2] - red) + 0.114 * (x[:, 2:] - red)


@dataclass(eq=False)
class Statistics:
    """What holds for all rows of a picture so far.

    Attributes:
        has_alpha: There is an alpha channel.
        premultiplied: Colour is multiplied by it.
        is_data: It holds data, no transparency: all colour is seen.
        low: The smallest value of the colour that is seen, at most 0.
        high: The largest, at least 1.
        is_gray_seen: The colour is gray where alpha is above 0.
        is_gray: It is gray everywhere.
        alpha_low: The smallest alpha in [0, 1].
        alpha_high: The largest.
        sums: Of colour times alpha, and of alpha.
    """

    has_alpha: bool
    premultiplied: bool
    is_data: bool = False
    low: float = 0.0
    high: float = 1.0
    is_gray_seen: bool = True
    is_gray: bool = True
    alpha_low: float = 1.0
    alpha_high: float = 0.0
    sums: NDArray[np.float64] | None = None

    @property
    def neutral(self) -> bool:
        """Whether the colour is gray, be it stored in one channel or in three equal ones."""
        return self.is_gray_seen and (self.is_gray or self.constant_alpha is None)

    @property
    def constant_alpha(self) -> float | None:
        """The value of a constant alpha; None without alpha, or where it varies."""
        return self.alpha_low if self.has_alpha and not self.alpha_varies else None

    @property
    def alpha_varies(self) -> bool:
        """Whether there is an alpha channel that is not constant."""
        return self.has_alpha and self.alpha_low != self.alpha_high

    @property
    def fill(self) -> Tensor | None:
        """Mean colour of what is seen, (1, 1 or 3, 1, 1); None unless some of it is not."""
        if self.is_data or not self.alpha_varies or self.alpha_low > 0 or self.sums is None:
            return None
        return torch.from_numpy(self.sums[:-1] / self.sums[-1]).float().view(1, -1, 1, 1)

    def add(self, pixels: Pixels) -> None:
        """Take rows (h, W, C) into account."""
        if not (self.has_alpha or self.is_gray_seen or pixels.dtype == np.float32):
            return  # nothing can change any more
        equal = np.ones(pixels.shape[:2], bool)
        if pixels.shape[2] >= 3:
            equal = (pixels[:, :, :1] == pixels[:, :, 1:3]).all(2)
        self.is_gray &= bool(equal.all())
        if not self.has_alpha:
            self.is_gray_seen = self.is_gray
            if pixels.dtype == np.float32:
                self._add_range(torch.from_numpy(np.array(pixels)))
            return
        colour, alpha = straight(pixels, premultiplied=self.premultiplied)
        assert alpha is not None
        seen = (alpha[0, 0] > 0) | self.is_data
        self.is_gray_seen &= bool(equal[seen.numpy()].all())
        low, high = alpha.aminmax()
        self.alpha_low = min(self.alpha_low, float(low))
        self.alpha_high = max(self.alpha_high, float(high))
        if bool(seen.any()):
            self._add_range(colour[0][:, seen])
        weighed = torch.cat((colour * alpha, alpha), 1)[0].double().numpy()
        for row in weighed.sum(-1).T:  # row by row: the sum does not depend on the cut
            self.sums = row if self.sums is None else self.sums + row

    def _add_range(self, values: Tensor) -> None:
        low, high = (float(v) for v in values.aminmax())
        self.low, self.high = min(self.low, low), max(self.high, high)


def rows_of(reader: Reader) -> Iterator[Pixels]:
    """The rows of a picture; what the system refuses is an error of the picture.

    Raises:
        ImageError: It is damaged or cannot be read.
    """
    try:
        yield from reader.rows()
    except OSError as error:
        raise ImageError(reason(error)) from error


def statistics(
    reader: Reader, *, alpha_is_data: bool = False, tick: Callable[[], None] = lambda: None
) -> Statistics:
    """Go through a picture once; one that is damaged shows it here, before any work.

    ``tick`` is called after each strip. Where alpha is data, colour is not divided by it.
    """
    premultiplied = reader.metadata.premultiplied and not alpha_is_data
    totals = Statistics(reader.channels in (2, 4), premultiplied, alpha_is_data)
    for pixels in rows_of(reader):
        tick()
        totals.add(pixels)
    return totals


def bleed(colour: Tensor, alpha: Tensor, far: Tensor | None = None) -> Tensor:
    """Fill the colour of fully transparent pixels from the opaque ones around them.

    A pyramid of alpha-weighted means is built up to cells of ``CELL`` pixels; every hole takes the
    finest level that has colour (push-pull interpolation, Gortler et al. 1996, section 3.4), and
    what is farther from all colour takes one for all.

    Args:
        colour: (N, C, H, W), straight (not multiplied by alpha).
        alpha: (N, 1, H, W) in [0, 1].
        far: (N, C, 1, 1), the colour far from all others; None: the mean of what is seen.

    Returns:
        (N, C, H, W): ``colour`` where alpha is above 0, the filling elsewhere; ``colour`` itself
        where nothing is transparent, or all and ``far`` is None.
    """
    hole = alpha <= 0
    if not bool(hole.any()) or (far is None and bool(hole.all())):
        return colour
    if far is None:
        far = (colour * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True)
    return torch.where(hole, _fill(colour * alpha, alpha, far, CELL), colour)


def _fill(weighted: Tensor, weight: Tensor, far: Tensor, cell: int) -> Tensor:
    """Colour everywhere from ``weighted`` = colour * weight, coarser levels where weight is 0."""
    # 1. The mean of what is seen in each cell of this level.
    own = weighted / weight.clamp_min(1e-12)
    if cell == 1:
        return torch.where(weight > 0, own, far)
    # 2. The coarser levels, where those too have holes; theirs shows through the holes of this one.
    coarse = _fill(_halve(weighted), _halve(weight), far, cell // 2)
    up = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, own, up[..., : weight.shape[-2], : weight.shape[-1]])


def _halve(x: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels; an odd last row or column stands alone."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def enlarge_alpha(
    alpha: Tensor,
    shape: tuple[int, int],
    rows: tuple[int, int],
    network: Tensor | None,
    part: tuple[int, int] | None = None,
) -> Tensor:
    """Output rows [y0, y1) of alpha enlarged to ``shape``, (1, 1, y1 - y0, W') in [0, 1].

    The result stays between the smallest and the largest alpha within ``REACH`` LR pixels, so that
    an opaque interior stays opaque whatever a network makes of it. Networks also ring along edges:
    where the bicubic kernel comes near one of the two limits, that limit is taken.

    Args:
        alpha: (1, 1, H, W), what the picture had.
        shape: Height and width of the whole output.
        rows: y0 and y1.
        network: The same rows as the network gave them; None for the bicubic kernel alone.
        part: First row and whole height of the picture where ``alpha`` is some rows of it: those
            that the kernel needs, and ``REACH`` more on both sides.
    """
    first, height = part or (0, alpha.shape[-2])
    # 1. The limits around every output pixel, and what the kernel makes of alpha.
    side = 2 * REACH + 1
    high = _nearest_rows(F.max_pool2d(alpha, side, 1, REACH), shape, rows, (first, height))
    low = _nearest_rows(-F.max_pool2d(-alpha, side, 1, REACH), shape, rows, (first, height))
    smooth = resize(alpha, shape, rows=rows, part=(first, height))
    # 2. Nothing beyond the limits.
    inside = torch.minimum(torch.maximum(smooth if network is None else network, low), high)
    if network is None or shape == (height, alpha.shape[-1]):
        return inside
    # 3. Towards a limit, the more the nearer the kernel's result lies to it.
    between = (smooth - low) / (high - low).clamp_min(1e-6)
    above = ((between - 1 + FAR) / (FAR - NEAR)).clamp(0, 1)
    below = ((FAR - between) / (FAR - NEAR)).clamp(0, 1)
    return inside + above * (high - inside) - below * (inside - low)


def _nearest_rows(
    x: Tensor, shape: tuple[int, int], rows: tuple[int, int], part: tuple[int, int]
) -> Tensor:
    """Output rows [y0, y1) of a picture enlarged to ``shape`` by nearest neighbour.

    ``x`` (N, C, h, W) is its rows from ``part[0]`` on, ``part[1]`` its height.
    """
    first, height = part
    at_y = (torch.arange(rows[0], rows[1]) * 2 + 1) * height // (2 * shape[0]) - first
    at_x = (torch.arange(shape[1]) * 2 + 1) * x.shape[-1] // (2 * shape[1])
    return x.index_select(-2, at_y).index_select(-1, at_x)
