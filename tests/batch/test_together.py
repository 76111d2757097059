"""Small pictures of one size run together: the same pictures, each with its own fate."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import upscale.batch
from tests.conftest import Finished, draw, png
from upscale import load
from upscale.batch import pool
from upscale.batch.pool import Devices, _Waiting
from upscale.errors import ImageError
from upscale.image import Image, decode, of_image
from upscale.inference.engine import Engine
from upscale.settings import Settings, TileOption
from upscale.upscaler import Result, Upscaler
from upscale.upscaler.job import process_together, to_memory

Cli = Callable[..., Finished]
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here"
)


def together_by(up: Upscaler, images: list[Image], **changes: Any) -> list[tuple[Image, Result]]:
    enlarged: list[Image] = []
    readers, writes = [of_image(image) for image in images], [to_memory(enlarged)] * len(images)
    results = process_together(readers, writes, up, up.changed(changes))
    return list(zip(enlarged, results, strict=True))


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for values that fall on the other side of a rounding."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return bool(difference.max() <= 1 and (difference > 0).mean() < 1e-3)


@pytest.mark.parametrize("model", ["tiny", "duo"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_together_is_as_alone(model: str, channels: int, tiny: str) -> None:
    up = load(model, device="cpu")
    images = [Image(np.ascontiguousarray(draw(21, 30, seed=k)[:, :, :1])) for k in range(5)]
    if channels > 1:
        images = [Image(draw(21, 30, seed=k)) for k in range(5)]
    if channels == 4:
        alphas = [draw(21, 30, seed=9 + k)[:, :, :1] for k in range(5)]
        images = [Image(np.dstack([i.pixels, a])) for i, a in zip(images, alphas, strict=True)]
    for scale in (None, 1.5):
        together = together_by(up, images, scale=scale)
        for image, (big, result) in zip(images, together, strict=True):
            alone, said = up.enlarge(image, scale=scale)
            assert close(big.pixels, alone.pixels)
            assert (result.tile, result.retries, result.weights) == (None, 0, said.weights)
            assert (result.out_width, result.out_height) == (said.out_width, said.out_height)


def test_pictures_of_two_sizes_do_not_run_together(tiny: str) -> None:
    with pytest.raises(ImageError, match="one shape"):
        together_by(load(tiny, device="cpu"), [Image(draw(8, 8)), Image(draw(8, 9))])


def test_a_batch_that_does_not_fit_is_halved(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    up = load(tiny, device="cpu")
    images = [Image(draw(20, 20, seed=k)) for k in range(6)]
    want = [up.enlarge(image)[0].pixels for image in images]
    forward, seen = Engine._forward, []

    def greedy(self: Any, network: Any, lr: torch.Tensor, draw: Any) -> torch.Tensor:
        seen.append(len(lr))
        if len(lr) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 MiB")
        return forward(self, network, lr, draw)

    monkeypatch.setattr(Engine, "_forward", greedy)
    done = together_by(up, images)
    assert seen == [6, 3, 1, 1, 1, 1, 1, 1] or max(seen[2:]) <= 2
    assert all(close(big.pixels, w) for (big, _), w in zip(done, want, strict=True))
    assert done[0][1].retries >= 1


def groups(sides: list[int], together: int, tile: TileOption = "auto") -> list[list[int]]:
    """The groups that a network takes of pictures that wait."""
    taker = Devices.__new__(Devices)
    taker.together, taker._lock = together, threading.Lock()
    taker._waiting = deque(
        _Waiting(
            of_image(Image(np.zeros((side, side, 3), np.uint8))),
            to_memory([]),
            Settings(tile=tile),
            lambda done, total: None,
        )
        for side in sides
    )
    found = []
    while group := taker._take():
        found.append([item.reader.height for item in group])
    return found


def test_groups_are_of_one_size_and_bounded() -> None:
    assert groups([5, 5, 5, 5, 5], 4) == [[5, 5, 5, 5], [5]]
    assert groups([5, 6, 5, 6, 5], 4) == [[5, 5, 5], [6, 6]]
    assert groups([5, 5, 5], 1) == [[5], [5], [5]]
    assert groups([400, 400], 16) == [[400], [400]], "large enough alone"
    assert groups([], 4) == []
    assert groups([33, 33, 32, 32], 4, tile=32) == [[33], [33], [32, 32]], "tiles hold as given"
    assert groups([33, 33], 4, tile="off") == [[33, 33]]


def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As on a GPU; gives the sizes of the groups that ran."""
    sizes: list[int] = []

    def counted(readers: Any, *more: Any) -> Any:
        sizes.append(len(readers))
        return process_together(readers, *more)

    monkeypatch.setattr(pool, "together_on", lambda _: 4)
    monkeypatch.setattr(pool, "process_together", counted)
    return sizes


def test_a_folder_in_groups(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for index in range(30):
        (tmp_path / "in" / f"{index:02}.png").write_bytes(png(9 + index % 2, 8, seed=index))
    (tmp_path / "in" / "07.png").write_bytes(b"broken")
    alone = list(upscale.batch(tmp_path / "in", tmp_path / "alone", model=tiny))
    sizes = together(monkeypatch)
    grouped = list(upscale.batch(tmp_path / "in", tmp_path / "grouped", model=tiny))
    for records in (alone, grouped):
        assert sum(record.status == "ok" for record in records) == 29
    assert max(sizes) > 1
    assert len({record.output for record in grouped if record.status == "ok"}) == 29
    for index in (0, 1, 28, 29):
        first, second = (
            decode((tmp_path / name / f"{index:02}.png").read_bytes())
            for name in ("alone", "grouped")
        )
        assert close(first.pixels, second.pixels)
        assert first.metadata == second.metadata


def test_one_bad_picture_costs_its_group_nothing(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for index in range(12):
        (tmp_path / "in" / f"{index:02}.png").write_bytes(png(9, 8, seed=index))
    process = pool.process

    def picky(reader: Any, *more: Any) -> Any:
        if next(iter(reader.rows()))[0, 0, 0] == bad:
            raise ImageError("this one is bad")
        return process(reader, *more)

    def fails(*_: Any) -> Any:
        raise ImageError("one of them is bad")

    bad = decode((tmp_path / "in" / "05.png").read_bytes()).pixels[0, 0, 0]
    together(monkeypatch)
    monkeypatch.setattr(pool, "process_together", fails)
    monkeypatch.setattr(pool, "process", picky)
    records = list(upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny))
    failed = [record for record in records if record.status == "failed"]
    assert len(records) == 12
    assert 1 <= len(failed) < 12
    assert all("this one is bad" in (record.error or "") for record in failed)


@pytest.mark.parametrize("in_groups", [False, True])
def test_two_networks_share_the_pictures(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_groups: bool
) -> None:
    """As with --device cuda:0,cuda:1: each network has a thread of its own."""
    (tmp_path / "in").mkdir()
    for index in range(30):
        (tmp_path / "in" / f"{index:02}.png").write_bytes(png(9 + index % 2, 8, seed=index))
    (tmp_path / "in" / "07.png").write_bytes(b"broken")
    alone = list(upscale.batch(tmp_path / "in", tmp_path / "alone", model=tiny))
    if in_groups:
        together(monkeypatch)
    both = [load(tiny, device="cpu") for _ in range(2)]
    monkeypatch.setattr("upscale.batch.plan.load", lambda *_: both)
    shared = list(upscale.batch(tmp_path / "in", tmp_path / "shared", model=tiny))
    assert sorted(r.status for r in shared) == sorted(r.status for r in alone)
    for path in (tmp_path / "alone").glob("*.png"):
        mine = decode((tmp_path / "shared" / path.name).read_bytes()).pixels
        assert close(mine, decode(path.read_bytes()).pixels)


@needs_cuda
def test_on_a_gpu_groups_are_the_rule(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in range(40):
        (tmp_path / "in" / f"{index:02}.png").write_bytes(png(32, 32, seed=index))
    records = list(upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, device="cuda"))
    assert sum(record.status == "ok" for record in records) == 40
