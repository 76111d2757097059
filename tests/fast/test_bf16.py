"""Products of bfloat16 on CPUs that have them: near to float32 and finite; elsewhere fp32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.fast.test_native import NETWORKS, network, picture
from upscale import device
from upscale.checkpoints import build, entries, load
from upscale.fast import native, optimized
from upscale.inference import prepare, run
from upscale.models import Network

CPU = torch.device("cpu")
KERNELS = native.load()
HALF = KERNELS.in_bf16() if KERNELS else None
needs_bf16 = pytest.mark.skipif(HALF is None, reason="this CPU has no products of bfloat16")
PICTURES = Path(__file__).parents[2] / "docs" / "images"
NEAR = 50.0  # dB, of released weights


def both(plain: Network) -> tuple[Network, Network]:
    """The compiled form in float32 and that in bfloat16."""
    return optimized(plain, CPU), optimized(plain, CPU, bf16=True)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a.double() - b.double()).square().mean()))


@needs_bf16
@torch.inference_mode()
@pytest.mark.parametrize("name", NETWORKS)
def test_every_architecture(name: str) -> None:
    plain = network(name)
    exact, half = both(plain)
    assert half.backend == exact.backend
    for size in ((1, 1), (17, 31), (40, 24)):
        x = picture(plain, *(-(-side // plain.multiple_of) * plain.multiple_of for side in size))
        expected, result = exact(x), half(x)
        assert result.dtype == torch.float32
        assert bool(result.isfinite().all())
        gap = float((result - expected).abs().max() / expected.abs().max())
        assert 1e-6 < gap < 0.05, "it was rounded, and little"


@needs_bf16
@torch.inference_mode()
@pytest.mark.parametrize("name", [entry.name for entry in entries() if entry.architecture != "vae"])
def test_released_weights_stay_near(name: str) -> None:
    plain = build(load(name)).eval().requires_grad_(False)
    exact, half = both(plain)
    for file in sorted(PICTURES.glob("*.png"))[:4]:
        pixels = cv2.imread(str(file))[:96, :96, ::-1]
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        x = x[:, : plain.channels]
        if plain.channels > x.shape[1]:  # how strong the noise is
            x = torch.cat([x, torch.full_like(x[:, :1], 25 / 255)], 1)
        assert psnr(half(x).clamp(0, 1), exact(x).clamp(0, 1)) >= NEAR


@needs_bf16
def test_a_convolution_multiplies_rounded_values_and_adds_in_float32() -> None:
    """The direct one: what float64 makes of the rounded values, to float32's error."""
    assert HALF is not None
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 32, 7, 7), torch.randn(24), torch.randn(1, 32, 20, 205)
    program = native.Program(HALF, 32, tight=False)
    program.convolution(program.input, program.buffer(24), weight, bias)
    rounded = [value.bfloat16().double() for value in (x, weight)]
    expected = F.conv2d(*rounded, bias.double(), padding=3)
    assert float((program(x) - expected).abs().max() / expected.abs().max()) < 1e-6


@needs_bf16
@pytest.mark.parametrize("side", [3, 5])
def test_a_convolution_by_minimal_filtering(side: int) -> None:
    assert HALF is not None
    torch.manual_seed(0)
    weight, x = torch.randn(48, 64, side, side), torch.randn(1, 64, 30, 41)
    program = native.Program(HALF, 64, tight=False)
    program.convolution(program.input, program.buffer(48), weight, None)
    expected = F.conv2d(x.double(), weight.double(), padding=side // 2)
    error = (program(x) - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-3 < float(error) < 2**-6


@needs_bf16
@torch.inference_mode()
@pytest.mark.parametrize("name", ["esrgan light", "swinir pixelshuffle x4", "srcnn 9-5-5"])
def test_threads_and_companions_do_not_change_a_bit(name: str) -> None:
    plain = network(name)
    half = optimized(plain, CPU, bf16=True)
    x = picture(plain, 48, 40, count=2)
    alone = [half(part) for part in x.split(1)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(half(x), torch.cat(alone))
    finally:
        torch.set_num_threads(before)


@needs_bf16
@torch.inference_mode()
def test_the_engine_gives_pixels_in_float32() -> None:
    plain = network("esrgan light")
    prepared = prepare(copy.deepcopy(plain), dtype=torch.bfloat16)
    assert (prepared.dtype, prepared.stored) == (torch.bfloat16, torch.float32)
    x = picture(plain, 30, 41)
    rows = torch.cat([strip for _, _, strip in run(prepared, x)], 2)
    assert torch.equal(rows, optimized(plain, CPU, bf16=True)(x))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels without products of bfloat16, as on most CPUs."""
    native.load.cache_clear()
    monkeypatch.setenv("UPSCALE_KERNELS", "off" if KERNELS is None else "baseline")
    device.say_once.cache_clear()
    yield
    monkeypatch.undo()
    native.load.cache_clear()


@pytest.mark.usefixtures("without")
def test_a_cpu_without_them_runs_float32_and_says_so(
    cli: Callable[..., object], tiny: str, picture: Path, tmp_path: Path
) -> None:
    for dtype, lines in (("fp32", 0), ("bf16", 1)):
        done = cli(picture, "-m", tiny, "-o", tmp_path / f"{dtype}.png", "--dtype", dtype, "--json")
        assert done.code == 0, done.err
        assert sum("fp32 runs" in line for line in done.lines) == lines, done.err
        assert '"dtype":"fp32"' in done.text.replace(" ", "")
    first, second = ((tmp_path / f"{name}.png").read_bytes() for name in ("fp32", "bf16"))
    assert cv2.imdecode(np.frombuffer(first, np.uint8), 1).tolist() == (
        cv2.imdecode(np.frombuffer(second, np.uint8), 1).tolist()
    )
