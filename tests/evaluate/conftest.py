"""Small pictures on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from upscale.image import Image, encode

Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photograph, (60, 62, 3) uint8."""
    return np.ascontiguousarray(data.astronaut()[40:160:2, 160:284:2])


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Write pixels (H, W, C) to a path below the test's folder."""

    def writer(name: str, pixels: np.ndarray) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image(pixels), path.suffix))
        return path

    return writer
