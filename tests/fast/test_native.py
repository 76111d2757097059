"""The compiled forms give what the networks of the papers give, in double precision."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from upscale.checkpoints import build, entries, load
from upscale.errors import UsageError
from upscale.fast import native
from upscale.fast import optimized as optimized_for
from upscale.inference import prepare, run
from upscale.models import ESRGAN, SRCNN, VAE, Network, SwinIR
from upscale.models.esrgan import ESRGANConfig
from upscale.models.srcnn import SRCNNConfig
from upscale.models.swinir import SwinIRConfig
from upscale.models.vae import VAEConfig

KERNELS = native.load()
needs_kernels = pytest.mark.skipif(
    KERNELS is None, reason="the kernels were not built: no C++ compiler when the package was"
)
ROOT = Path(__file__).parents[2]
CLOSE = 2e-6  # of the largest value of the result

NETWORKS = {
    "srcnn 9-5-5": lambda: SRCNN(SRCNNConfig()),
    "srcnn 9-1-5": lambda: SRCNN(SRCNNConfig(scale=3, kernels=(9, 1, 5))),
    "srcnn 9-3-5 rgb": lambda: SRCNN(
        SRCNNConfig(scale=2, channels=3, kernels=(9, 3, 5), filters=(20, 10))
    ),
    "esrgan": lambda: ESRGAN(ESRGANConfig(num_block=1)),
    "esrgan light": lambda: ESRGAN(ESRGANConfig(num_block=2, num_feat=32, num_grow=16)),
    "esrgan odd, plus": lambda: ESRGAN(
        ESRGANConfig(scale=2, num_block=2, num_feat=20, num_grow=10, plus=True)
    ),
    "esrgan unshuffle": lambda: ESRGAN(
        ESRGANConfig(scale=2, num_block=1, num_feat=16, num_grow=8, unshuffle=2)
    ),
    "esrgan tiny": lambda: ESRGAN(ESRGANConfig(num_block=1, num_feat=4, num_grow=2)),
    "esrgan x3": lambda: ESRGAN(ESRGANConfig(scale=3, num_block=1, num_feat=16, num_grow=8)),
    "esrgan six colours": lambda: ESRGAN(
        ESRGANConfig(num_block=1, num_feat=16, num_grow=8, in_channels=6, out_channels=6)
    ),
    **{
        f"swinir {upsampler or 'restore'} x{scale}": lambda upsampler=upsampler, scale=scale: (
            SwinIR(SwinIRConfig(scale=scale, upsampler=upsampler, depths=(2, 2), num_heads=(6, 6)))
        )
        for upsampler, scale in (
            *(("pixelshuffle", 4), ("pixelshuffle", 3), ("pixelshuffledirect", 2)),
            *(("nearest+conv", 4), ("", 1)),
        )
    },
    "swinir jpeg, gray": lambda: SwinIR(
        SwinIRConfig(
            scale=1,
            upsampler="",
            window_size=7,
            channels=1,
            depths=(2,),
            num_heads=(6,),
            embed_dim=180,
            img_range=255.0,
        )
    ),
    "swinir six colours": lambda: SwinIR(
        SwinIRConfig(scale=1, upsampler="", channels=6, depths=(2,), num_heads=(6,), mlp_ratio=1.7)
    ),
    "swinir 3conv": lambda: SwinIR(
        SwinIRConfig(
            scale=4,
            upsampler="nearest+conv",
            resi_connection="3conv",
            depths=(2,),
            num_heads=(8,),
            embed_dim=240,
        )
    ),
    "vae": lambda: VAE(VAEConfig()),
}


def optimized(network: Network) -> Network:
    return optimized_for(network, torch.device("cpu"))


def network(name: str, seed: int = 0) -> Network:
    """Seeded weights, with biases and norms that are not their defaults."""
    torch.manual_seed(seed)
    made = NETWORKS[name]().eval().requires_grad_(False)
    for key, value in made.named_parameters():
        if value.ndim == 1:
            value.add_(0.1 * torch.randn_like(value))
        if key.endswith("relative_position_bias_table"):
            value.normal_()
    return made


def picture(of: Network, height: int, width: int, count: int = 1, seed: int = 1) -> Tensor:
    shape = (count, of.channels + of.noise_channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def difference(plain: Network, fast: Network, x: Tensor) -> float:
    """Largest difference from the plain network in float64, of its largest value."""
    expected = copy.deepcopy(plain).double()(x.double())
    found = fast(x)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_every_architecture(name: str) -> None:
    plain = network(name)
    fast = optimized(plain)
    assert fast is not plain
    assert KERNELS is not None
    assert fast.backend == f"native {KERNELS.name}"
    for height, width, count in ((1, 1, 1), (5, 7, 2), (33, 20, 1)):
        found = difference(plain, fast, picture(plain, height, width, count))
        assert found <= CLOSE, (height, width, found)


@needs_kernels
@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_released_weights(name: str) -> None:
    plain = build(load(name)).eval().requires_grad_(False)
    x = picture(plain, 18, 26)
    # Trained adversarially from another's net, it amplifies rounding on this white noise; 2e-6 is
    # missed (docs/models.md), which keeps this from growing.
    bound = 4e-6 if name == "esrgan-medium-real-x4" else CLOSE
    assert difference(plain, optimized(plain), x) <= bound


@needs_kernels
@given(
    name=st.sampled_from(["esrgan odd, plus", "srcnn 9-5-5", "swinir pixelshuffle x4"]),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
)
@settings(max_examples=25, deadline=None)
def test_any_size(name: str, height: int, width: int) -> None:
    plain, fast = both(name)
    assert difference(plain, fast, picture(plain, height, width)) <= CLOSE


@cache
def both(name: str) -> tuple[Network, Network]:
    plain = network(name)
    return plain, optimized(plain)


@needs_kernels
@given(
    side=st.sampled_from([1, 3, 5, 9]),
    channels=st.integers(1, 40),
    outputs=st.integers(1, 40),
    nearest=st.sampled_from([1, 2, 3]),
    replicate=st.booleans(),
    slope=st.sampled_from([0.0, 0.2, 1.0]),
    residual=st.booleans(),
    size=st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        st.tuples(st.integers(1, 2), st.integers(180, 230)),  # a row in several runs
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_convolution(
    side: int,
    channels: int,
    outputs: int,
    nearest: int,
    replicate: bool,
    slope: float,
    residual: bool,
    size: tuple[int, int],
) -> None:
    made = torch.Generator().manual_seed(side * 1000 + channels * 40 + outputs)
    x = torch.randn(1, channels, *size, generator=made)
    weight = torch.randn(outputs, channels, side, side, generator=made) / (side * channels**0.5)
    bias = torch.randn(outputs, generator=made)

    assert KERNELS is not None
    program = native.Program(KERNELS, channels, tight=False)
    out = program.buffer(outputs, rate=nearest)
    options = {"slope": slope, "nearest": nearest, "replicate": replicate}
    program.convolution(program.input, out, weight, bias, **options)
    if residual:  # once more on top of itself: base + beta * (add + convolution)
        program.convolution(
            program.input, out, weight, bias, add=out, base=out, beta=0.5, **options
        )
    found = program.run(x)

    large = F.interpolate(x.double(), scale_factor=nearest, mode="nearest")
    mode = "replicate" if replicate else "constant"
    large = F.pad(large, (side // 2,) * 4, mode=mode)
    expected = F.leaky_relu(F.conv2d(large, weight.double(), bias.double()), slope)
    if residual:
        expected = expected + 0.5 * (expected + expected)
    largest = max(1.0, float(expected.abs().max()))
    terms = weight[0].numel()  # a sum of random terms rounds like a random walk
    assert float((found - expected).abs().max()) <= 2e-7 * max(10.0, terms**0.5) * largest


@needs_kernels
@pytest.mark.parametrize("name", ["esrgan light", "swinir pixelshuffledirect x2", "srcnn 9-5-5"])
def test_threads_do_not_change_a_bit(name: str) -> None:
    fast = optimized(network(name))
    x = picture(fast, 37, 53)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(fast(x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


@needs_kernels
def test_pictures_at_once_from_several_threads() -> None:
    fast = optimized(network("esrgan light"))
    pictures = [picture(fast, 20 + k, 31 - k, seed=k) for k in range(8)]
    alone = [fast(x) for x in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fast, pictures))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def _sum_of(fast: Network, x: Tensor, results: multiprocessing.Queue[float]) -> None:
    results.put(float(fast(x).double().sum()))


@needs_kernels
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_after_a_fork() -> None:
    fast = optimized(network("srcnn 9-5-5"))
    x = picture(fast, 20, 20)
    here = float(fast(x).double().sum())
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[float] = context.Queue()
    child = context.Process(target=_sum_of, args=(fast, x, results))
    child.start()
    assert results.get(timeout=60) == here
    child.join()


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_read_before_it_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = optimized(network(name))
    x = picture(fast, 16, 23)
    expected = fast(x)
    monkeypatch.setattr(native, "floats", lambda *size: torch.full(size, float("nan")))
    assert torch.equal(fast(x), expected)


@needs_kernels
@pytest.mark.parametrize("name", ["esrgan light", "swinir pixelshuffle x4", "srcnn 9-5-5"])
def test_what_is_not_finite_stays_so(name: str) -> None:
    fast = optimized(network(name))
    x = picture(fast, 16, 16)
    x[0, 0, 8, 8] = float("nan")
    assert fast(x).isnan().any()


@needs_kernels
def test_a_logit_that_is_not_a_number_is_seen() -> None:
    plain = network("swinir pixelshuffle x4")
    query = dict(plain.named_parameters())["layers.0.residual_group.blocks.0.attn.qkv.weight"]
    query[0, 0] = float("nan")
    assert optimized(plain)(picture(plain, 16, 16)).isnan().any()


@needs_kernels
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_the_default_dtype_does_not_matter(kind: torch.dtype) -> None:
    plain = network("swinir pixelshuffle x4")
    x = picture(plain, 16, 20)
    expected = optimized(plain)(x)
    torch.set_default_dtype(kind)
    try:
        assert torch.equal(optimized(plain)(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@needs_kernels
def test_a_compiled_form_is_shared_by_copies_and_not_sent() -> None:
    fast = optimized(network("esrgan light"))
    x = picture(fast, 16, 16)
    assert torch.equal(copy.deepcopy(fast)(x), fast(x))
    with pytest.raises(TypeError, match="send the network"):
        pickle.dumps(fast)


@needs_kernels
def test_input_of_another_shape_or_order() -> None:
    fast = optimized(network("esrgan light"))
    x = picture(fast, 16, 18)
    turned = x.transpose(-2, -1).contiguous().transpose(-2, -1)
    assert torch.equal(fast(turned), fast(x))
    with pytest.raises(ValueError, match=r"\(1, 3, H, W\)"):
        fast(x[:, :2])


@needs_kernels
def test_threads_that_cannot_be_had_leave_the_work_to_the_others() -> None:
    script = """
import resource, torch
from tests.fast.test_native import network, optimized, picture
fast = optimized(network("esrgan light"))
x = picture(fast, 64, 64)
torch.set_num_threads(1)
expected = fast(x)
torch.get_num_threads = lambda: 64
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
import os
if os.getuid() == 0:  # the limit does not hold for root
    os.setuid(65534)
assert torch.equal(fast(x), expected)
print("same")
"""
    if sys.platform != "linux":
        pytest.skip("the limit of threads is Linux's")
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r})\n" + script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "same\n", found.stderr


@needs_kernels
def test_a_library_of_other_sources_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "INTERFACE", 99)
    assert "install upscale again" in native.trouble()


def has(name: str) -> bool:
    """Whether the build and this CPU have an instruction set."""
    if KERNELS is None:
        return False
    found = KERNELS.library.upscale_select(name.encode())
    KERNELS.library.upscale_select(KERNELS.name.encode())
    return bool(found)


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Kernels are looked for anew, before the test and after it."""
    native.load.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    native.load.cache_clear()
    native.load()


@pytest.mark.parametrize("wanted", ["off", "baseline", "avx2", "avx512"])
def test_instruction_sets(wanted: str, choosing: pytest.MonkeyPatch) -> None:
    if wanted != "off" and not has(wanted):
        pytest.skip(f"this machine's kernels or CPU have no {wanted}")
    choosing.setenv("UPSCALE_KERNELS", wanted)
    for name in ("esrgan light", "swinir pixelshuffle x4", "srcnn 9-5-5"):
        plain = network(name)
        fast = optimized(plain)
        assert fast.backend == ("torch" if wanted == "off" else f"native {wanted}")
        assert difference(plain, fast, picture(plain, 19, 22)) <= CLOSE


@needs_kernels
def test_an_unknown_instruction_set_is_refused(choosing: pytest.MonkeyPatch) -> None:
    choosing.setenv("UPSCALE_KERNELS", "mmx")
    with pytest.raises(UsageError, match=r"UPSCALE_KERNELS=mmx.*off"):
        native.load()


@pytest.mark.parametrize("content", [None, b"", b"not a library"])
def test_without_a_library_the_networks_run_in_torch(
    content: bytes | None, tmp_path: Path, choosing: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "upscale_kernels.so"
    if content is not None:
        library.write_bytes(content)
    choosing.setattr(native, "LIBRARY", library)
    choosing.delenv("UPSCALE_KERNELS", raising=False)
    plain = network("esrgan light")
    assert optimized(plain) is plain
    assert prepare(plain).network.backend == "torch"


@needs_kernels
def test_the_engine_runs_them() -> None:
    plain = network("esrgan light")
    x = picture(plain, 50, 41)
    prepared = prepare(copy.deepcopy(plain))
    assert prepared.network.backend.startswith("native")
    rows = torch.cat([strip for _, _, strip in run(prepared, x, tile=16)], 2)
    assert float((rows - plain(x)).abs().max() / rows.abs().max()) < 1e-3
