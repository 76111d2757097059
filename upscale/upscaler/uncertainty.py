"""Maps of uncertainty: the predictive standard deviation of every pixel, in numbers and in colour.

The variance has two parts: that of mu between the draws, and that which the generator gives each
draw by itself, sigma^2. Their sum is what is written; the means of both parts are in the metadata.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.files import atomic
from upscale.image import Metadata, Pixels, create, format_of, with_provenance

FULL_SCALE = 0.25  # standard deviation, of pixels in [0, 1], that 65,535 stands for
LEVELS = 255 * FULL_SCALE  # the same in levels of 8 bit
COLOURS = cv2.COLORMAP_INFERNO
LEAST_TOP = 4.0  # levels that the lightest colour stands for at least
SHARE_BELOW = 0.999  # of the pixels are below the lightest colour
LEGEND_HEIGHT, LEAST_WIDTH = 36, 200  # pixels
ROWS = 256


class Uncertainty(NamedTuple):
    """Standard deviations of every pixel of a result, of pixels in [0, 1], float32 (H, W).

    Attributes:
        std: Of the prediction: both parts together.
        between: Of the draws around their mean.
        own: That the generator gives each draw.
    """

    std: NDArray[np.float32]
    between: NDArray[np.float32]
    own: NDArray[np.float32]


class MapRows:
    """The rows of a map, kept on the disk until the picture is done: memory holds a few."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._counts = np.zeros(1 << 16, np.int64)
        self._sums = np.zeros(2)
        self.height = self.width = 0

    def add(self, variances: NDArray[np.float32]) -> None:
        """Take rows of both parts of the variance, (2, h, W)."""
        self._sums += variances.sum((1, 2), dtype=np.float64)
        std = np.sqrt(variances.sum(0)) / FULL_SCALE
        values = np.minimum(std * 65535 + 0.5, 65535).astype(np.uint16)
        self._counts += np.bincount(values.ravel(), minlength=1 << 16)
        self._file.write(values.tobytes())
        self.height, self.width = self.height + values.shape[0], values.shape[1]

    def write(
        self, maps: Iterable[tuple[str, bool]], record: dict[str, Any], *, replace: bool
    ) -> None:
        """Write maps, each whole or not at all: file, and whether it is in colour.

        ``record`` is the provenance of the picture. A file that appeared is an ``OutputError``.
        """
        metadata = with_provenance(Metadata(), {**record, "uncertainty": self.record})
        for path, is_view in maps:
            shape = self.view_shape if is_view else (self.height, self.width, 1)
            with atomic(path, replace=replace) as file:
                dtype = "uint8" if is_view else "uint16"
                writer = create(file, format_of(path), shape, dtype, metadata)
                writer.write(self.view() if is_view else self.rows())

    def rows(self) -> Iterator[Pixels]:
        """The map as 16-bit gray, (h, W, 1), top to bottom."""
        self._file.seek(0)
        while data := self._file.read(2 * self.width * ROWS):
            yield np.frombuffer(data, np.uint16).reshape(-1, self.width, 1)

    @property
    def record(self) -> dict[str, Any]:
        """What the numbers mean, for the metadata."""
        parts = np.sqrt(self._sums / max(1, self.height * self.width))
        return {
            "what": "standard deviation of the prediction, of pixels in [0, 1]",
            "full_scale": FULL_SCALE,
            "rms_between_draws": round(float(parts[0]), 6),
            "rms_of_generator": round(float(parts[1]), 6),
        }

    @property
    def top(self) -> float:
        """Levels of 8 bit that the lightest colour of the view stands for."""
        below = np.cumsum(self._counts) / max(1, self._counts.sum())
        value = int(np.searchsorted(below, SHARE_BELOW))
        return max(LEAST_TOP, float(np.ceil(value / 65535 * LEVELS)))

    @property
    def view_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the view."""
        return self.height + LEGEND_HEIGHT, max(self.width, LEAST_WIDTH), 3

    def view(self) -> Iterator[Pixels]:
        """The map in colour with a legend below, (h, W, 3) uint8."""
        _, width, _ = self.view_shape
        for rows in self.rows():
            part = coloured(rows[..., 0] * np.float32(LEVELS / 65535), self.top)
            yield np.pad(part, ((0, 0), (0, width - self.width), (0, 0)))
        yield legend(width, self.top)


def coloured(std: NDArray[np.float32], top: float) -> Pixels:
    """A map (H, W) in colour, (H, W, 3) uint8; ``top`` and more has the lightest colour."""
    small = np.minimum(std / top * 255 + 0.5, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(small, COLOURS), cv2.COLOR_BGR2RGB))


def legend(width: int, top: float) -> Pixels:
    """A bar of the colours with the levels they stand for, (LEGEND_HEIGHT, width, 3) uint8."""
    picture = np.full((LEGEND_HEIGHT, width, 3), 255, np.uint8)
    picture[4:18, 8:-8] = coloured(np.linspace(0, top, width - 16, dtype=np.float32)[None], top)
    texts = ["0", f"{top / 2:g}", f"{top:g} levels of 255"]
    for text, place in zip(texts, (0.0, 0.5, 1.0), strict=True):
        size = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)[0][0]
        left = int(8 + place * (width - 16) - place * size)
        at = (left, LEGEND_HEIGHT - 5)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def joined(parts: Iterable[NDArray[np.float32]]) -> Uncertainty:
    """The deviations of rows of variances (2, h, W)."""
    variances = np.concatenate(list(parts), 1)
    between, own = np.sqrt(variances)
    return Uncertainty(np.sqrt(variances.sum(0)), between, own)
