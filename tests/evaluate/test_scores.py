"""Scores over sets: order, means, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upscale.errors import DataError, ImageError, UsageError
from upscale.evaluate import Baseline, Candidate, Score, evaluate, find_sets, mean

Writer = Callable[..., Path]

KEYS = """
    set picture model weights scale alpha protocol psnr_y ssim_y psnr_rgb bicubic_psnr_y
    bicubic_ssim_y lr_consistency seconds megapixels degrade mean_gradient
    mean_gradient_truth denoise rank_correlation coverage bits
"""


def one(**changes: object) -> Score:
    base = Score("s", "a", "m", {}, 2, None, "edsr", 30.0, 0.9, 28.0, 29.0, 0.8, 50.0, 0.5, 0.25)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_keys_are_those_of_the_agreed_command_line() -> None:
    record = one(weights={"n": "00ff"}).as_dict()
    assert list(record) == KEYS.split()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_infinite_scores_are_null_in_json() -> None:
    record = one(psnr_y=float("inf"), psnr_rgb=None).as_dict()
    assert record["psnr_y"] is None
    assert record["psnr_rgb"] is None


def test_means_and_sums() -> None:
    got = mean([one(), one(picture="b", psnr_y=34.0, ssim_y=0.7, psnr_rgb=30.0, seconds=1.5)])
    assert got.picture is None
    assert (got.psnr_y, got.ssim_y, got.psnr_rgb) == pytest.approx((32.0, 0.8, 29.0))
    assert (got.seconds, got.megapixels) == (2.0, 0.5)
    assert mean([one(), one(psnr_rgb=None)]).psnr_rgb is None


def test_order_one_network_at_a_time(tmp_path: Path, write: Writer, photo: np.ndarray) -> None:
    for name in ("A/1.png", "A/2.png", "B/1.png"):
        write(name, photo)
    events: list[object] = []

    def candidates() -> Iterator[Candidate]:
        for scale in (2, 3):
            events.append(f"load x{scale}")
            yield Baseline(scale=scale)

    for score in evaluate(find_sets([tmp_path / "A", tmp_path / "B"]), candidates()):
        events.append((score.scale, score.set, score.picture))
    rows = [("A", "1.png"), ("A", "2.png"), ("A", None), ("B", "1.png"), ("B", None)]
    want: list[object] = []
    for scale in (2, 3):
        want += [f"load x{scale}", *[(scale, *row) for row in rows]]
    assert events == want


def test_summary_is_the_mean_of_its_pictures(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("A/1.png", photo)
    write("A/2.png", photo[::-1])
    write("A/3.png", photo[:33, :47, :1])
    *pictures, summary = evaluate(find_sets([tmp_path / "A"]), [Baseline(scale=3)])
    assert len(pictures) == 3
    assert summary.as_dict() == mean(pictures).as_dict()  # no blocks in the smallest: NaN
    assert [p.megapixels for p in pictures] == pytest.approx([60 * 60e-6, 60 * 60e-6, 33 * 45e-6])


def test_given_low_resolution_pictures_are_used(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("A/1.png", photo)
    write("lr/1x2.png", photo[::2, ::2])
    sets = find_sets([tmp_path / "A"])
    made, _ = evaluate(sets, [Baseline(scale=2)])
    given, _ = evaluate(sets, [Baseline(scale=2)], lr_dir=tmp_path / "lr")
    assert given.psnr_y < made.psnr_y - 1
    write("lr/1x2.png", photo[:20, :20])
    with pytest.raises(DataError, match=r"1\.png.*20x20.*31x30"):
        list(evaluate(sets, [Baseline(scale=2)], lr_dir=tmp_path / "lr"))


def test_restoration_at_scale_1_needs_degraded_pictures(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("A/1.png", photo)
    write("noisy/1.png", np.clip(photo.astype(int) + 10, 0, 255).astype(np.uint8))
    sets = find_sets([tmp_path / "A"])
    with pytest.raises(UsageError, match="--lr-dir"):
        list(evaluate(sets, [Baseline(scale=1)]))
    score, _ = evaluate(sets, [Baseline(scale=1)], lr_dir=tmp_path / "noisy")
    assert score.psnr_rgb == pytest.approx(28.13, abs=0.3)  # 20 log10(255 / 10), a little clipped
    assert score.lr_consistency == float("inf")


def test_unknown_protocol(tmp_path: Path, write: Writer, photo: np.ndarray) -> None:
    write("A/1.png", photo)
    with pytest.raises(UsageError, match=r"'matlab'.*edsr or srcnn"):
        list(evaluate(find_sets([tmp_path / "A"]), [Baseline(scale=2)], protocol="matlab"))


def test_a_result_of_another_size_is_refused(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("A/1.png", photo)

    class Wrong(Baseline):
        def image(self, lr: np.ndarray) -> np.ndarray:
            return Baseline(scale=3).image(lr)

    with pytest.raises(DataError, match=r"1\.png.*93x90.*62x60"):
        list(evaluate(find_sets([tmp_path / "A"]), [Wrong(scale=2)]))


def test_a_damaged_picture_ends_the_set_without_means(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("A/1.png", photo)
    damaged = write("A/2.png", photo)
    damaged.write_bytes(damaged.read_bytes()[:-600])
    seen = []
    with pytest.raises(ImageError, match=r"2\.png"):
        seen.extend(evaluate(find_sets([tmp_path / "A"]), [Baseline(scale=2)]))
