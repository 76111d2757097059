"""Textures that tile: enlarged with ``seamless``, they tile again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Finished
from tests.test_color_rows import file_of
from upscale import load
from upscale.image import Image, decode, encode
from upscale.upscaler.enlargement import margins, wrapped

Cli = Callable[..., Finished]
MODELS = ["bicubic", "srcnn", "esrgan", "swinir", "swinir-jpeg,esrgan", "vae"]


def texture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Waves that fit into the picture a whole number of times, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None]
    picture = rng.normal(0, 0.3, (height, width, channels))
    for _ in range(30):
        down, across = (
            rng.integers(-height // 4, height // 4),
            rng.integers(-width // 4, width // 4),
        )
        wave = np.cos(2 * np.pi * (down * y / height + across * x / width + rng.random(channels)))
        picture += wave / (1 + np.hypot(down, across) / 4)
    picture -= picture.min()
    return np.rint(picture / picture.max() * 255).astype(np.uint8)


def steps(picture: np.ndarray, axis: int) -> tuple[float, np.ndarray]:
    """Mean step across the border along an axis, and those between rows or columns inside."""
    lines = np.moveaxis(picture.astype(float), axis, 0)
    return float(np.abs(lines[0] - lines[-1]).mean()), np.abs(np.diff(lines, axis=0)).mean((1, 2))


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    return np.dstack([texture(32, 48), texture(32, 48, 1, seed=7)])


@pytest.mark.parametrize("model", MODELS)
def test_no_step_across_the_border_is_larger_than_inside(model: str, tile: np.ndarray) -> None:
    scale = 4 if model in ("bicubic", "srcnn") else None
    ways = {"xy": (True, True), "x": (False, True), "y": (True, False)}
    for seamless, wraps in ways.items() if model == "srcnn" else [("xy", ways["xy"])]:
        big = load(model, device="cpu", scale=scale, seamless=seamless).image(tile)
        for part in (big[:, :, :3], big[:, :, 3:]):  # alpha too
            for axis, wrapped_here in enumerate(wraps):
                across, inside = steps(part, axis)
                print(model, seamless, axis, round(across, 2), np.round(np.sort(inside)[-3:], 2))
                assert (across <= 1.05 * inside.max()) == wrapped_here


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("srcnn", {"scale": 4}),
        ("esrgan", {}),
        ("esrgan", {"scale": 1.5}),
        ("swinir", {}),
    ],
)
def test_where_the_picture_begins_does_not_matter(
    model: str, options: dict[str, object], tile: np.ndarray
) -> None:
    up = load(model, device="cpu", seamless=True, **options)
    moved = up.image(np.roll(tile, (8, 16), (0, 1)))
    shift = (-round(8 * up.scale), -round(16 * up.scale))
    worst = np.abs(np.roll(moved, shift, (0, 1)).astype(int) - up.image(tile)).max()
    print(f"{model} {options}: {worst} levels")
    assert worst <= 1


@pytest.mark.parametrize(
    ("seamless", "size"), [("xy", {}), ("x", {"scale": 1.5}), ("y", {"size": (70, 50)})]
)
def test_by_rows_and_by_tiles_it_is_the_same(
    seamless: str, size: dict[str, object], tiny: str
) -> None:
    image = Image(texture(60, 40, 4))
    up = load(tiny, device="cpu", tile=16, seamless=seamless, **size)
    whole = up.enlarge(image)[0].pixels
    for tall in (1, 7):
        stream = up.stream(file_of(image, tall))
        strips = list(stream)
        assert np.array_equal(np.concatenate(strips), whole)
        assert (stream.result.width, stream.result.height) == (40, 60)


@pytest.mark.parametrize(("side", "final"), [(101, 152), (97, 331), (64, 100), (1001, 1502)])
def test_an_odd_ratio_needs_no_wider_margin(side: int, final: int, tiny: str) -> None:
    """Within a few hundredths of a pixel the result is that of the picture thrice side by side."""
    up = load(tiny, device="cpu")
    networks = [stage.network for stage in up.chain()]
    settings = up.changed({"seamless": True})
    down, across = margins(settings, networks, (side, side), (final, final))
    off = abs(across * final / side - round(across * final / side))
    print(f"{side} to {final}: margin {across}, off by {off:.3f}")
    assert down == across <= 80
    assert off <= 0.05
    if side < 102:
        picture = texture(40, side)
        big = up.image(picture, seamless="x", size=(final, 80))
        thrice = up.image(np.concatenate([picture] * 3, 1), size=(3 * final, 80))
        worst = np.abs(big.astype(int) - thrice[:, final : 2 * final]).max()
        print(f"{worst} levels")
        assert worst <= 3


@pytest.mark.parametrize(("down", "across"), [(0, 3), (4, 0), (2, 5), (19, 23), (7, 7)])
def test_margins_are_the_other_side(down: int, across: int) -> None:
    image = Image(texture(7, 9))
    reader = wrapped(file_of(image, 2), down, across)
    want = np.pad(image.pixels, ((down, down), (across, across), (0, 0)), mode="wrap")
    for _ in range(2):
        assert np.array_equal(reader.read().pixels, want)


def test_a_map_of_uncertainty_has_the_size_of_the_picture(tiny_vae: Path) -> None:
    up = load(tiny_vae, device="cpu", seamless=True, tile=16)
    std = up.uncertainty(texture(40, 24), n=2).std
    assert std.shape == (80, 48)
    across, inside = steps(std[:, :, None], 1)
    assert across <= inside.max()


def test_the_command_line(cli: Cli, tiny: str, tmp_path: Path) -> None:
    path, up = tmp_path / "x.png", load(tiny, device="cpu")
    path.write_bytes(encode(Image(texture(20, 30)), "png"))
    for at, (given, axes) in enumerate(
        [
            (("--seamless", path), "xy"),
            ((path, "--seamless"), "xy"),
            ((path, "--seamless", "x"), "x"),
            ((path, "--seamless=y", "--json"), "y"),
        ]
    ):
        out = tmp_path / f"out{at}.png"
        done = cli(*given, "-m", tiny, "-o", out)
        assert done.code == 0, done.err
        want = up.image(texture(20, 30), seamless=axes)
        assert np.array_equal(decode(out.read_bytes()).pixels, want)
    assert json.loads(done.text)["width"] == 30
    done = cli(path, "--seamless=z", "-m", tiny, "-o", tmp_path / "z.png")
    assert (done.code, "give x, y" in done.err) == (2, True)


def test_it_is_among_the_settings_of_an_output(cli: Cli, tiny: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encode(Image(texture(20, 30)), "png"))
    states = []
    for more in ((), (), ("--seamless",), ("--seamless",)):
        done = cli(tmp_path / "in", "-o", f"{tmp_path / 'out'}/", "-m", tiny, "--json", *more)
        states.append(json.loads(done.text)["status"])
    assert states == ["ok", "skipped", "ok", "skipped"]
    forecast = cli(tmp_path / "in", "-o", tmp_path / "new", "-m", tiny, "--seamless", "--dry-run")
    assert forecast.code == 0, forecast.err
