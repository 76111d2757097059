"""The model in use: pictures, arrays, bytes and files in, the same out."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import upscale
from tests.whole import alpha_of, merge_image, split_image
from upscale import checkpoints, color
from upscale.checkpoints.index import WeightsFile
from upscale.errors import (
    CheckpointError,
    DeviceError,
    ImageError,
    OutOfMemoryError,
    OutputError,
    UsageError,
)
from upscale.image import Image, decode, encode, provenance
from upscale.models import ESRGAN, SRCNN, ESRGANConfig, Network, SRCNNConfig
from upscale.resample import resize
from upscale.upscaler import Upscaler, enlargement, load

TINY = {"num_feat": 8, "num_block": 1, "num_grow": 4}


def _store(folder: Path, name: str, network: Network, **row: str) -> None:
    saved = checkpoints.save(folder / f"{name}.safetensors", network)
    entry = WeightsFile(
        name,
        saved.path.name,
        saved.sha256,
        saved.bytes,
        network.architecture,
        network.scale,
        path=saved.path,
        **row,  # type: ignore[arg-type]
    )
    checkpoints.update_index(folder, entry)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of small networks: the family "tiny" of SRCNNs, and the pair "duo" of ESRGANs."""
    root = tmp_path_factory.mktemp("cache")
    folder = root / "weights"
    folder.mkdir()
    torch.manual_seed(0)
    for scale in (2, 3):
        network = SRCNN(SRCNNConfig(scale=scale, filters=(8, 4)))
        _store(folder, f"tiny-x{scale}", network, family="tiny")
    for role in ("psnr", "gan"):
        network = ESRGAN(ESRGANConfig(scale=2, **TINY))
        _store(folder, f"duo-{role}-x2", network, family="duo", role=role)
    return root


@pytest.fixture(autouse=True)
def _use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(cache))


@pytest.fixture
def tiny() -> Upscaler:
    return load("tiny", device="cpu")


@pytest.fixture
def duo() -> Upscaler:
    return load("duo", device="cpu")


def pixels(height: int, width: int, channels: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(5).random((height, width, channels))
    if dtype == "float32":
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("model", ["tiny-x2", "duo"])
def test_type_depth_and_channels_stay(model: str, channels: int, dtype: str) -> None:
    image = Image(pixels(13, 21, channels, dtype))
    big = load(model, device="cpu").image(image)
    assert isinstance(big, Image)
    assert big.pixels.shape == (26, 42, channels)
    assert big.pixels.dtype == image.pixels.dtype


def test_arrays_come_back_as_arrays(tiny: Upscaler) -> None:
    assert tiny.image(pixels(10, 12, 3)).shape == (30, 36, 3)
    flat = tiny.image(pixels(10, 12, 1)[:, :, 0])
    assert flat.shape == (30, 36)
    assert np.array_equal(flat, tiny.image(pixels(10, 12, 1))[:, :, 0])


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.int32), np.zeros((4, 4, 5), np.uint8)])
def test_arrays_that_are_no_pictures_are_errors(tiny: Upscaler, array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        tiny.image(array)


def test_a_float_picture_with_nan_is_an_error(tiny: Upscaler) -> None:
    array = pixels(8, 8, 3, "float32")
    array[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        tiny.image(array)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("scale", "size"), [(None, None), (1.4, None), (None, (90, 31))])
def test_strips_give_what_the_whole_picture_gives(
    channels: int, scale: float | None, size: tuple[int, int] | None
) -> None:
    """The path of the design done at once, by its parts, against the path in strips."""
    up = load("tiny-x2", device="cpu", tile=32)
    image = Image(pixels(83, 70, channels))
    big, _ = up.enlarge(image, scale=scale, size=size)
    network = up.native().network
    lr, rest = split_image(image, 1)
    final = up.final_size(70, 83, scale=scale, size=size)[::-1]
    with torch.no_grad():
        planes = [network(x) for x in (lr, alpha_of(rest)) if x is not None]
    planes = [resize(x.clamp(0, 1), final) for x in planes]
    want = merge_image(*planes[:1], rest, *planes[1:]).pixels
    difference = np.abs(big.pixels.astype(int) - want.astype(int))
    assert big.pixels.shape == want.shape
    assert difference.max() <= 1, f"{difference.max()} levels"
    assert (difference > 0).mean() < 0.01, "rounding may fall the other way, seldom"


def test_the_nearest_native_scale_at_or_above_runs(tiny: Upscaler) -> None:
    array = pixels(20, 30, 3)
    assert tiny.scale == tiny.native_scale == 3
    for scale, native in ((1.5, 2), (2, 2), (2.5, 3), (3, 3), (4, 3)):
        assert tiny.native(scale).scale == native
        big, result = tiny.enlarge(Image(array), scale=scale)
        assert big.pixels.shape[:2] == (int(20 * scale), int(30 * scale))
        assert set(result.weights) == {f"tiny-x{native}"}
        assert result.scale == pytest.approx(scale)
    _, result = tiny.enlarge(Image(array), size=(60, 21))
    assert set(result.weights) == {"tiny-x2"}
    assert (result.out_height, result.out_width) == (21, 60)
    assert load("tiny", scale=1.5, device="cpu").image(array).shape == (30, 45, 3)
    assert load("tiny-x3", scale=1.5, device="cpu").native(1.5).scale == 3


def test_sizes_are_rounded_half_up(tiny: Upscaler) -> None:
    assert tiny.final_size(99, 101, scale=1.5) == (149, 152)
    assert tiny.final_size(1, 1, scale=0.2) == (1, 1)
    assert tiny.final_size(10, 100, scale=1.1) == (11, 110)


@pytest.mark.parametrize("scale", [0, -1, 65, float("nan"), float("inf")])
def test_impossible_scales_are_usage_errors(tiny: Upscaler, scale: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        tiny.image(pixels(4, 4, 3), scale=scale)
    with pytest.raises(UsageError, match="out of range"):
        load("tiny", scale=scale, device="cpu")


@pytest.mark.parametrize("more", [{"size": (0, 4)}, {"size": (4, 4), "scale": 2}])
def test_impossible_sizes_are_usage_errors(tiny: Upscaler, more: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        tiny.image(pixels(4, 4, 3), **more)  # type: ignore[arg-type]


def test_alpha_zero_and_one_are_the_two_nets() -> None:
    array = pixels(16, 16, 3)
    for alpha, name in ((0, "duo-psnr-x2"), (1, "duo-gan-x2")):
        blended, single = load("duo", alpha=alpha, device="cpu"), load(name, device="cpu")
        assert np.array_equal(blended.image(array), single.image(array))
        _, result = blended.enlarge(Image(array))
        assert (result.alpha, set(result.weights)) == (alpha, {name})
    assert not np.array_equal(load("duo", alpha=0.5, device="cpu").image(array),
                              load("duo", alpha=0.6, device="cpu").image(array))  # fmt: skip


def test_the_result_says_how_it_was_made(duo: Upscaler) -> None:
    big, result = duo.enlarge(Image(pixels(20, 10, 3)))
    assert result.alpha == 0.8
    assert set(result.weights) == {"duo-psnr-x2", "duo-gan-x2"}
    assert all(len(sha256) == 64 for sha256 in result.weights.values())
    values = result.to_dict()
    assert values["seconds"] >= values["network_seconds"] > 0
    del values["seconds"], values["network_seconds"], values["weights"]
    assert values == {
        "status": "ok",
        "error": None,
        "model": "duo",
        "alpha": 0.8,
        "denoise": None,
        "hint": "",
        "scale": 2.0,
        "device": "cpu",
        "dtype": "fp32",
        "tile": None,
        "retries": 0,
        "width": 10,
        "height": 20,
        "out_width": big.width,
        "out_height": big.height,
        "input": None,
        "output": None,
        "losses": (),
        "samples": None,
        "seed": None,
        "temperature": None,
    }


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("tiny", {"alpha": 0.5}, UsageError),
        ("duo", {"alpha": 1.5}, UsageError),
        ("duo", {"tile": 3}, UsageError),
        ("duo", {"tile": "large"}, UsageError),
        ("duo", {"overlap": -1}, UsageError),
        ("duo", {"alpha_mode": "nearest"}, UsageError),
        ("duo", {"icc": "adobe"}, UsageError),
        ("duo", {"device": "tpu"}, DeviceError),
        ("duo", {"dtype": "fp16"}, DeviceError),
        ("duo", {"dtype": "fp8"}, DeviceError),
        ("no-such-model", {}, CheckpointError),
        ("./missing.safetensors", {}, CheckpointError),
    ],
)
def test_bad_options_are_refused_when_loading(
    name: str, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        load(name, **{"device": "cpu", **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_tta_changes_the_result_and_commutes_with_turns() -> None:
    up = load("duo", device="cpu", tta=True)
    array = pixels(16, 24, 3)
    big = up.image(array)
    assert not np.array_equal(big, load("duo", device="cpu").image(array))
    turned = np.rot90(up.image(np.ascontiguousarray(np.rot90(array))), -1)
    assert np.abs(turned.astype(int) - big.astype(int)).max() <= 1


def test_threads_share_one_upscaler_and_its_native_scales() -> None:
    arrays = [pixels(20 + k, 30, 3) for k in range(6)]
    scales = [2, 3, 1.5, 2, 3, 2.5]
    alone = [
        load("tiny", device="cpu").image(a, scale=s) for a, s in zip(arrays, scales, strict=True)
    ]
    shared = load("tiny", device="cpu")
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda a, s: shared.image(a, scale=s), arrays, scales))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_same_input_gives_the_same_bytes(duo: Upscaler) -> None:
    data = encode(Image(pixels(40, 30, 3)), "png")
    assert duo.bytes(data) == load("duo", device="cpu").bytes(data)


def test_the_tensor_is_the_network_alone(tiny: Upscaler) -> None:
    lr = torch.rand(1, 1, 20, 15)
    with torch.no_grad():
        want = tiny.native(2).network(lr)
    assert torch.allclose(tiny.tensor(lr, scale=2), want, atol=1e-6)


def test_bytes_keep_their_format_unless_asked(tiny: Upscaler) -> None:
    image = Image(pixels(9, 11, 3))
    for format_ in ("png", "bmp", "webp"):
        out = tiny.bytes(encode(image, format_))
        assert decode(out).metadata.format == format_
        assert decode(out).pixels.shape == (27, 33, 3)
    assert decode(tiny.bytes(encode(image, "bmp"), format="tif")).metadata.format == "tiff"
    with pytest.raises(ImageError):
        tiny.bytes(b"no picture")
    with pytest.raises(ImageError, match="max-pixels"):
        tiny.bytes(encode(image, "png"), max_pixels=50)


def test_a_result_beyond_memory_is_refused_before_it_is_made(
    tiny: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale.memory.free_memory", lambda _: 1 << 20)
    with pytest.raises(OutOfMemoryError, match=r"takes 2 MiB and 1 MiB are free"):
        tiny.image(pixels(300, 300, 3))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "bild é 像.png"
    path.write_bytes(encode(Image(pixels(12, 9, 3)), "png"))
    return path


def test_files_in_files_out(tiny: Upscaler, source: Path) -> None:
    target = source.with_name("out.webp")
    progress: list[tuple[int, int]] = []
    result = tiny.file(source, target, lossless=True, progress=lambda *at: progress.append(at))
    assert decode(target.read_bytes()).pixels.shape == (36, 27, 3)
    assert (result.input, result.output) == (str(source), str(target))
    assert (result.out_width, result.out_height) == (27, 36)
    assert progress[-1] == (1, 1)
    assert set(progress[:-1]) <= {(0, 1)}, "while it is gone through"
    assert sorted(p.name for p in source.parent.iterdir()) == sorted([source.name, "out.webp"])
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_outputs_carry_the_record_of_their_making(duo: Upscaler, source: Path) -> None:
    result = duo.file(source, source.with_name("out.png"))
    record = provenance(decode(source.with_name("out.png").read_bytes()).metadata)
    assert record is not None
    assert record["software"] == f"upscale {upscale.__version__}"
    assert record["weights"] == result.weights
    assert record["alpha"] == 0.8
    assert provenance(decode(duo.bytes(source.read_bytes())).metadata) == record


def test_what_the_format_cannot_hold_is_refused_before_any_work(
    tiny: Upscaler, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(Image(pixels(12, 9, 4)), "png")
    (half := source.with_name("half.png")).write_bytes(data)
    out = source.with_name("out.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(enlargement, "run", lambda *_, **__: pytest.fail("work was done"))
        with pytest.raises(ImageError, match="transparent"):
            tiny.file(half, out)
        with pytest.raises(ImageError, match="too large"):
            tiny.file(source, out, size=(1, 70000))
        with pytest.raises(UsageError, match="quality 101"):
            tiny.bytes(data, format="webp", quality=101)
    tiny.file(half, out, background="white")
    assert not decode(out.read_bytes()).has_alpha


def test_an_existing_output_is_kept_unless_told(tiny: Upscaler, source: Path) -> None:
    target = source.with_name("out.png")
    target.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        tiny.file(source, target)
    assert target.read_bytes() == b"precious"
    tiny.file(source, target, overwrite=True)
    assert decode(target.read_bytes()).width == 27


def test_the_input_is_never_overwritten(tiny: Upscaler, source: Path) -> None:
    before = source.read_bytes()
    link = source.with_name("link.png")
    link.symlink_to(source)
    for target in (source, link, source.parent / "." / source.name):
        with pytest.raises(OutputError, match="input itself"):
            tiny.file(source, target, overwrite=True)
    assert source.read_bytes() == before


def test_outputs_that_cannot_be_written_are_refused_before_any_work(
    tiny: Upscaler, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enlargement, "run", lambda *_, **__: pytest.fail("work was done"))
    with pytest.raises(OutputError, match="does not exist"):
        tiny.file(source, source.parent / "missing" / "out.png")
    folder = source.with_name("folder.png")
    folder.mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        tiny.file(source, folder)
    with pytest.raises(ImageError, match="no picture format"):
        tiny.file(source, source.parent / "out.xyz")
    with pytest.raises(ImageError, match="no such file"):
        tiny.file(source.parent / "none.png", source.parent / "out.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="read-only"):
        tiny.file(source, source.parent / "out.png")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_leaves_nothing_behind(
    tiny: Upscaler, source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError) as caught:
        tiny.file(source, source.with_name("out.png"))
    assert "out.png" in str(caught.value)
    assert [p.name for p in source.parent.iterdir()] == [source.name]


def test_an_output_that_appears_meanwhile_is_not_replaced(
    tiny: Upscaler, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("out.png")
    merge = color.merge

    def slow(*args: Any) -> Any:
        yield from merge(*args)
        target.write_bytes(b"another's")

    monkeypatch.setattr(color, "merge", slow)
    with pytest.raises(OutputError, match="exists"):
        tiny.file(source, target)
    assert target.read_bytes() == b"another's"
