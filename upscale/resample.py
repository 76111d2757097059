"""The one bicubic kernel: MATLAB's ``imresize(..., 'bicubic')``.

Keys' cubic convolution with a = -0.5 (Keys 1981, eq. 15), half-pixel centres, stretched by 1/scale
when it shrinks (antialiasing), weights normalised to sum to 1, borders mirrored symmetrically (the
edge pixel repeated). Separable: the axis with the smaller scale first, rows first on a tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

A = -0.5
SUPPORT = 4.0  # width of the kernel, in pixels of the coarser grid


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel (a = -0.5) at distance ``x`` in pixels; any shape; 0 from 2 on."""
    d = np.abs(x)
    near = (A + 2) * d**3 - (A + 3) * d**2 + 1
    far = A * d**3 - 5 * A * d**2 + 8 * A * d - 4 * A
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@lru_cache(maxsize=128)
def taps(in_len: int, out_len: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Source indices and weights of every output position of one axis.

    Returns:
        ``(index, weight)``, both (out_len, P): output i is ``sum_p weight[i, p] * x[index[i, p]]``;
        each row of ``weight`` sums to 1.
    """
    scale = out_len / in_len
    shrink = min(scale, 1.0)
    width = SUPPORT / shrink
    centre = (np.arange(out_len, dtype=np.float64) + 0.5) / scale - 0.5
    count = int(np.ceil(width)) + 2
    left = np.floor(centre - width / 2).astype(np.int64)
    index = left[:, None] + np.arange(count)
    weight = shrink * cubic(shrink * (centre[:, None] - index))
    weight /= weight.sum(1, keepdims=True)
    used = np.abs(weight).max(0) > 0
    index, weight = index[:, used], weight[:, used]
    mirrored = index % (2 * in_len)
    index = np.where(mirrored < in_len, mirrored, 2 * in_len - 1 - mirrored)
    index.setflags(write=False)
    weight.setflags(write=False)
    return index, weight


def _gather(x: Tensor, dim: int, index: NDArray[np.int64], weight: NDArray[np.float64]) -> Tensor:
    """Weighted sum of slices of ``x`` along ``dim``, the taps always in the same order."""
    shape = [1] * x.dim()
    shape[dim] = index.shape[0]
    at = torch.from_numpy(index.T.copy()).to(x.device)
    w = torch.from_numpy(weight.T.copy()).to(device=x.device, dtype=x.dtype)
    out = x.index_select(dim, at[0]).mul_(w[0].view(shape))
    for k in range(1, at.shape[0]):  # product and sum each rounded: the same on every CPU
        out.add_(x.index_select(dim, at[k]).mul_(w[k].view(shape)))
    return out


def _axes(in_size: tuple[int, int], out_size: tuple[int, int]) -> tuple[int, ...]:
    """The axes in the order in which they are resized, without those that keep their length."""
    scales = (out_size[0] / in_size[0], out_size[1] / in_size[1])
    order = (0, 1) if scales[0] <= scales[1] else (1, 0)
    return tuple(a for a in order if in_size[a] != out_size[a])


def _separable(
    x: Tensor,
    size: tuple[int, int],
    rows: tuple[int, int] | None,
    part: tuple[int, int] | None,
    after: Callable[[Tensor], Tensor],
) -> Tensor:
    first, height = part or (0, x.shape[-2])
    in_size = (height, x.shape[-1])
    y0, y1 = rows if rows is not None else (0, size[0])
    a = first
    if rows is not None:  # cut to the rows that are read, then work on the cut alone
        a, b = source_rows(in_size[0], size[0], y0, y1)
        x = x[..., a - first : b - first, :]
    for axis in _axes(in_size, size):
        index, weight = taps(in_size[axis], size[axis])
        if axis == 0:
            index, weight = index[y0:y1] - a, weight[y0:y1]
        x = after(_gather(x, axis - 2, index, weight))
    return x


def resize(
    x: Tensor,
    size: tuple[int, int],
    *,
    rows: tuple[int, int] | None = None,
    part: tuple[int, int] | None = None,
) -> Tensor:
    """Resize by MATLAB's bicubic, in floating point without rounding or clamping.

    Args:
        x: (N, C, H, W), floating; half precision is computed in float32.
        size: Output height and width, each at least 1.
        rows: Give only output rows [y0, y1) of that size; only the source rows they need are read.
        part: First row and whole height of the picture of which ``x`` holds some rows, at least
            those that ``source_rows`` names; None: ``x`` is the picture.

    Returns:
        (N, C, H', W') of ``x``'s dtype and device, H' = y1 - y0 with ``rows``; ``x`` itself where
        the size is unchanged.
    """
    exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return _separable(exact, size, rows, part, lambda t: t).to(x.dtype)


def consistent(sr: Tensor, lr: Tensor) -> Tensor:
    """``sr`` with the coarse part of the input: one step of back-projection (Irani & Peleg 1991).

    (N, C, s*H, s*W) and (N, C, H, W) to (N, C, s*H, s*W). A gradient that comes back through it has
    lost the part that the input determines.
    """
    missing = lr - resize(sr, (lr.shape[-2], lr.shape[-1]))
    return sr + resize(missing, (sr.shape[-2], sr.shape[-1]))


def resize_uint8(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as MATLAB does for uint8: rounded half up and clamped to 0..255 after each pass.

    Args:
        x: (N, C, H, W), values 0..255 of any dtype.
        size: Output height and width.

    Returns:
        (N, C, H', W') float32 with whole numbers 0..255.
    """
    done = _separable(x.double(), size, None, None, lambda t: t.add_(0.5).floor_().clamp_(0, 255))
    return done.float()


def source_rows(in_h: int, out_h: int, y0: int, y1: int) -> tuple[int, int]:
    """The half-open range of input rows that output rows [y0, y1) read."""
    if in_h == out_h:
        return y0, y1
    index = taps(in_h, out_h)[0][y0:y1]
    return int(index.min()), int(index.max()) + 1


def resize_strips(
    strips: Iterable[Tensor], in_size: tuple[int, int], out_size: tuple[int, int]
) -> Iterator[Tensor]:
    """Resize a picture that comes as strips of rows, top to bottom, and give strips of the result.

    Args:
        strips: Tensors (N, C, h, W) whose heights add up to ``in_size[0]``.
        in_size: Height and width of the whole input.
        out_size: Height and width of the whole output.

    Yields:
        (N, C, h', W'), top to bottom; only the rows that later output rows read are kept.

    Raises:
        ValueError: The strips have more or fewer rows than ``in_size`` says.
    """
    index, weight = taps(in_size[0], out_size[0])
    last_row = np.maximum.accumulate(index.max(1))  # input rows up to here are needed for row i
    first_row = np.minimum.accumulate(index.min(1)[::-1])[::-1]  # … and none above here after it
    columns = taps(in_size[1], out_size[1]) if in_size[1] != out_size[1] else None
    kept: Tensor | None = None
    top = seen = done = 0
    for raw in strips:
        strip = raw if columns is None else _gather(raw, -1, *columns)
        kept = strip if kept is None else torch.cat((kept, strip), -2)
        seen += strip.shape[-2]
        ready = int(np.searchsorted(last_row, seen, side="left"))
        if in_size[0] == out_size[0]:
            yield strip
            done, kept, top = seen, None, seen
            continue
        if ready > done:
            yield _gather(kept, -2, index[done:ready] - top, weight[done:ready])
            done = ready
            keep_from = int(first_row[done]) if done < out_size[0] else seen
            kept, top = kept[..., keep_from - top :, :], keep_from
    if seen != in_size[0] or done != out_size[0]:
        raise ValueError(f"strips hold {seen} rows, {in_size[0]} were announced")
