"""Panels: which, in which order, under which labels, and how images and networks are mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upscale.compare import Crop, compare, subjects
from upscale.errors import DataError, UsageError
from upscale.evaluate import Baseline, Candidate, load_candidate
from upscale.settings import Settings

Writer = Callable[..., Path]
CPU = "cpu"


def pair(*alphas: float) -> list[Candidate]:
    return [load_candidate(Settings(model="known-pair", scale=4, alpha=a), CPU) for a in alphas]


def levels(row: object) -> list[int]:
    return [int(p.pixels[0, 0, 0]) for p in row.panels]  # type: ignore[attr-defined]


def test_a_sweep(known_models: Path, write: Writer, photo: np.ndarray) -> None:
    found = subjects([write("a.png", photo)], 4)
    (row,) = compare(found, pair(0, 0.5, 1), 4)
    assert [p.label for p in row.panels] == ["bicubic", "alpha 0", "alpha 0.5", "alpha 1"]
    assert levels(row)[1:] == [64, 128, 191]
    assert all((p.height, p.width) == (240, 248) for p in row.panels)
    assert [p.alpha for p in row.panels] == [None, 0, 0.5, 1]
    assert [p.figures.mean_gradient for p in row.panels[1:]] == [0, 0, 0]


def test_several_models_are_named(known_models: Path, write: Writer, photo: np.ndarray) -> None:
    found = subjects([write("a.png", photo)], 4, from_hr=True)
    candidates = [*pair(0.0), load_candidate(Settings(model="known-srcnn", scale=4), CPU)]
    (row,) = compare(found, candidates, 4)
    assert [p.label for p in row.panels] == [
        "bicubic",
        "known-psnr-x4 alpha 0",
        "known-srcnn-x2",
        "ground truth",
    ]
    truth = row.panels[-1]
    np.testing.assert_array_equal(truth.pixels, photo[:60, :60])
    assert truth.figures.psnr_y is None
    assert all(p.figures.psnr_y is not None for p in row.panels[:-1])


def test_images_beside_networks(known_models: Path, write: Writer, photo: np.ndarray) -> None:
    found = subjects([write("a.png", photo)], 4)
    (row,) = compare(found, pair(0, 0.25, 1), 4, mix=0.25)
    assert [p.label for p in row.panels] == [
        "bicubic",
        "alpha 0",
        "images mixed, alpha 0.25",
        "networks mixed, alpha 0.25",
        "alpha 1",
    ]
    # 0.75 * 64 + 0.25 * 191 = 95.75; 255 * (0.25 + 0.25 / 2) = 95.6
    assert levels(row)[1:] == [64, 96, 96, 191]
    records = row.records()
    assert [r["mixed"] for r in records] == [None, None, "images", "networks", None]
    assert list(records[2]["weights"]) == ["known-psnr-x4", "known-gan-x4"]


def test_mixing_needs_a_pair(known_models: Path, write: Writer, photo: np.ndarray) -> None:
    found = subjects([write("a.png", photo)], 2)
    srcnn = load_candidate(Settings(model="known-srcnn", scale=2), CPU)
    with pytest.raises(UsageError, match="pair"):
        compare(found, [srcnn], 2, mix=0.5)


def test_one_network_at_a_time_and_a_step_for_each_panel(write: Writer, photo: np.ndarray) -> None:
    found = subjects([write("a.png", photo), write("b.png", photo)], 2)
    events = []

    def candidates() -> Iterator[Candidate]:
        for name in ("first", "second"):
            events.append(name)
            yield replace(Baseline(scale=2), model=name)

    compare(found, candidates(), 2, step=events.append)
    assert events == ["a.png", "b.png", "first", "a.png", "b.png", "second", "a.png", "b.png"]


def test_a_part_is_what_the_whole_gives(write: Writer) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (150, 160, 3), np.uint8)
    path = write("a.png", picture)
    (whole,) = compare(subjects([path], 3), [], 3)
    (part,) = compare(subjects([path], 3, crops=[Crop(60, 70, 20, 10)]), [], 3)
    np.testing.assert_array_equal(part.panels[0].pixels, whole.panels[0].pixels[210:240, 180:240])
    assert part.records()[0]["crop"] == "60,70,20,10"


def test_another_scale_is_refused(write: Writer, photo: np.ndarray) -> None:
    found = subjects([write("a.png", photo)], 2)
    with pytest.raises(DataError, match=r"186x180.*'a\.png'.*124x120"):
        compare(found, [Baseline(scale=3)], 2)
