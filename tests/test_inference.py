"""The engine on toy networks: tiled equals whole, memory, precision, noise, threads."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut
from torch import Tensor

from tests.tally import peak_bytes
from tests.toys import Greedy, Overflowing, Toy, ToyConfig
from upscale import memory
from upscale.checkpoints import build, load
from upscale.checkpoints.index import embedded_folder, read_index
from upscale.errors import ImageError, OutOfMemoryError, UpscaleError, UsageError
from upscale.inference import (
    Noise,
    Prepared,
    RunReport,
    prepare,
    run,
    run_together,
)
from upscale.inference.engine import Engine
from upscale.models import ESRGAN, SRCNN, ESRGANConfig, Network, SRCNNConfig, SwinIR, SwinIRConfig
from upscale.settings import TileOption
from upscale.strips import Window

CPU_OOM = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 8388608 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 MiB")


def picture(height: int, width: int, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed))


def whole(network: Network, lr: Tensor) -> Tensor:
    with torch.no_grad():
        return network(lr)


def joined(strips: Iterator[tuple[int, int, Tensor]]) -> Tensor:
    taken = list(strips)
    assert taken[0][0] == 0
    assert all(before[1] == after[0] for before, after in pairwise(taken)), "gap between strips"
    assert all(rows.shape[-2] == y1 - y0 for y0, y1, rows in taken)
    return torch.cat([rows for _, _, rows in taken], -2)


def assert_close(got: Tensor, want: Tensor, tolerance: float) -> None:
    assert got.shape == want.shape
    difference = (got - want).abs()
    y, x = divmod(int(difference.amax((0, 1)).argmax()), difference.shape[-1])
    assert difference.max() <= tolerance, f"{difference.max():.2e} at row {y}, column {x}"


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    tile=st.integers(32, 128),
    scale=st.integers(1, 4),
    window=st.sampled_from([1, 4, 7, 8]),
    overlap=st.one_of(st.none(), st.integers(24, 40)),
)
def test_tiled_equals_whole_where_the_halo_is_exact(
    height: int, width: int, tile: int, scale: int, window: int, overlap: int | None
) -> None:
    network = Toy(ToyConfig(scale=scale, window=window))
    lr = picture(height, width)
    want = joined(run(network, lr, tile="off"))
    got = joined(run(network, lr, tile=tile, overlap=overlap))
    assert_close(got, want, 1e-6)


@pytest.mark.parametrize("tile", [32, 47, 64, 128])
@pytest.mark.parametrize("scale", [2, 3])
def test_srcnn_tiled_equals_whole(scale: int, tile: int) -> None:
    torch.manual_seed(0)
    network = SRCNN(SRCNNConfig(scale=scale, filters=(8, 4)))
    lr = picture(101, 67, 1)
    assert_close(joined(run(network, lr, tile=tile)), whole(network, lr), 1e-6)


@pytest.mark.parametrize("tile", [32, 50])
@pytest.mark.parametrize(
    "network",
    [
        lambda: ESRGAN(ESRGANConfig(num_feat=16, num_block=1, num_grow=8)),
        lambda: ESRGAN(ESRGANConfig(scale=2, num_feat=16, num_block=1, num_grow=8, unshuffle=2)),
        lambda: SwinIR(SwinIRConfig(scale=2, embed_dim=24, depths=(2,), num_heads=(2,))),
    ],
)
def test_inexact_halos_stay_within_a_level(network: object, tile: int) -> None:
    torch.manual_seed(0)
    net: Network = network()  # type: ignore[operator]
    lr = picture(101, 93)
    difference = (joined(run(net, lr, tile=tile)) - whole(net, lr)).abs().max()
    print(f"{type(net).__name__}, tile {tile}: worst {difference * 255:.4f} levels")
    assert difference < 1 / 255


EMBEDDED = read_index(embedded_folder(), "embedded")


@pytest.mark.parametrize("tile", [32, pytest.param(128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_weights_leave_no_seam(name: str, tile: int) -> None:
    network = build(load(EMBEDDED[name]))
    photo = torch.from_numpy(astronaut()).permute(2, 0, 1)[None] / 255
    more = max(0, 2 * (network.halo - 16))  # else one tile sees all
    across = slice(150 - more, 201 + tile)
    lr = photo[:, : network.channels, 40 : 83 + tile + more, across].contiguous()
    difference = (joined(run(network, lr, tile=tile)) - joined(run(network, lr, tile="off"))).abs()
    worst = float(difference.max()) * 255
    print(f"{name}, tile {tile}: worst {worst:.4f} levels")
    bound = 1e-6 * 255 if network.halo_is_exact else 1
    assert worst < bound, f"{worst:.4f} levels"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (8, 8), (9, 17)])
def test_tiny_pictures_work(size: tuple[int, int]) -> None:
    network = SwinIR(SwinIRConfig(scale=2, embed_dim=24, depths=(2,), num_heads=(2,)))
    lr = picture(*size)
    got = joined(run(network, lr))
    assert_close(got, whole(network, lr), 1e-5)


def test_strips_leave_as_rows_finish_and_are_ordinary_tensors() -> None:
    report = RunReport()
    seen: list[tuple[int, int]] = []
    strips = run(
        Toy(), picture(200, 60), tile=40, report=report, progress=lambda *at: seen.append(at)
    )
    y0, y1, rows = next(strips)
    assert y0 == 0
    assert 60 <= y1 <= 100, "the first strip is one row of tiles"
    assert len(seen) == seen[0][1] / 5, "and no other tile has run"
    assert rows.dtype == torch.float32
    rows.clamp_(0, 1)  # inference tensors would refuse
    list(strips)
    assert seen[-1] == (seen[0][1], seen[0][1])
    assert report.tiles == seen[0][1]
    assert report.tile == 40


def test_the_report_says_whole_and_retries_nothing() -> None:
    report = RunReport()
    list(run(Toy(), picture(30, 30), report=report))
    assert report == RunReport(tile=None, overlap=6, tiles=1)
    assert report.retries == 0


@pytest.mark.parametrize("error", [CPU_OOM, CUDA_OOM, MemoryError()])
@pytest.mark.parametrize("tile", ["off", "auto", 128])
def test_out_of_memory_halves_the_tile_and_goes_on(error: BaseException, tile: TileOption) -> None:
    lr = picture(150, 130)
    network = Greedy(50 * 50, error)
    report = RunReport()
    got = joined(run(network, lr, tile=tile, report=report))
    assert_close(got, whole(Toy(), lr), 1e-6)
    assert report.out_of_memory >= 1
    assert report.tile is not None
    assert report.tile + report.overlap <= 50
    tried = [shape for shape in network.seen if shape[2] * shape[3] > 50 * 50]
    assert len(tried) == report.out_of_memory, "no size is tried again once it has failed"


def test_finished_rows_and_tiles_are_kept_when_memory_runs_out_midway() -> None:
    lr = picture(300, 128)
    network = Greedy(10**9, CUDA_OOM)
    want = whole(Toy(), lr)
    report = RunReport()
    strips = run(network, lr, tile=64, overlap=6, report=report)
    first = next(strips)
    assert network.seen == [(1, 3, 65, 67)] * 2
    network.limit = 40 * 40  # from here on less memory is free
    rest = list(strips)
    assert first[0] == 0
    assert rest[0][0] == first[1]
    assert_close(torch.cat([first[2], *(rows for _, _, rows in rest)], -2), want, 1e-6)
    assert network.seen.count((1, 3, 65, 67)) == 3, "two done before, one refused, none repeated"
    assert report.out_of_memory == 1
    assert report.tile == 32


def test_a_batch_is_halved_before_a_tile() -> None:
    lr = picture(40, 300)
    network = Greedy(3 * 46 * 46, CUDA_OOM)
    prepared = prepare(network)
    job = Engine(prepared, 6, tta=False, report=RunReport(), tile=40, batch=8)
    got = torch.cat([rows for _, _, rows in job.strips(Window([lr], tuple(lr.shape)))], -2)
    assert_close(got, whole(Toy(), lr), 1e-6)
    assert job.tile == 40
    assert [shape[0] for shape in network.seen] == [8, 4, 2, 2, 2, 2]


def test_the_floor_is_an_error_with_a_remedy() -> None:
    strips = run(Greedy(10 * 10, CUDA_OOM), picture(60, 60), tile=32)
    with pytest.raises(OutOfMemoryError, match=r"20 x 20 pixels does not fit .* use a smaller"):
        list(strips)


def test_other_errors_of_the_network_are_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(run(Greedy(0, RuntimeError("mat1 and mat2 differ")), picture(20, 20)))


def test_the_automatic_tile_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    lr = picture(250, 250)
    prepared = prepare(Toy())
    found = []
    for mib in (4096, 1024, 512, 256, 16):
        monkeypatch.setattr(memory, "free_memory", lambda _, mib=mib: mib << 20)
        report = RunReport()
        strips = run(prepared, lr, report=report)
        next(strips)
        found.append(report.tile or 250)
        assert report.retries == 0, "choosing is no retry"
    assert found == sorted(found, reverse=True)
    assert found[0] == 250
    assert found[-1] < 100
    assert set(found[1:]) <= {*memory.SIDES, 250}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts RLIMIT_AS")
@pytest.mark.parametrize(
    "network",
    [
        "SRCNN(SRCNNConfig())",
        pytest.param("ESRGAN(ESRGANConfig(num_block=1))", marks=pytest.mark.slow),
    ],
)
def test_a_picture_is_done_under_a_limit_of_memory(network: str) -> None:
    """Whatever the network: the tile is bounded by what is free, and halved where that is wrong."""
    code = f"""
import resource, torch
from upscale.inference import RunReport, prepare, run
from upscale.models import ESRGAN, SRCNN, ESRGANConfig, SRCNNConfig
prepared = prepare({network})
lr, report = torch.rand(1, prepared.network.channels, 200, 200), RunReport()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), resource.RLIM_INFINITY))
rows = sum(rows.shape[2] for _, _, rows in run(prepared, lr, report=report))
print(rows, report.tile)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows, tile = done.stdout.split()
    assert rows == "800"
    assert int(tile) < 200


class Recorded(Window):
    """A window that remembers what was asked for."""

    def __init__(self, lr: Tensor) -> None:
        super().__init__((), tuple(lr.shape))
        self._lr = lr
        self.asked: list[tuple[int, int]] = []

    def rows(self, first: int, last: int) -> Tensor:
        assert 0 <= first < last <= self._lr.shape[2]
        self.asked.append((first, last))
        return self._lr[..., first:last, :]


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 90),
    tile=st.sampled_from(["auto", "off", 16, 33]),
    window=st.sampled_from([1, 4, 7, 16]),
    noise_channels=st.sampled_from([0, 1]),
)
def test_rows_on_demand_give_what_the_whole_picture_gives(
    height: int, width: int, tile: TileOption, window: int, noise_channels: int
) -> None:
    network = Toy(ToyConfig(scale=2, window=window, noise_channels=noise_channels))
    lr = picture(height, width)
    source = Recorded(lr)
    got = joined(run(network, source, tile=tile))
    assert torch.equal(got, joined(run(network, lr, tile=tile)))
    firsts = [first for first, _ in source.asked]
    assert firsts == sorted(firsts), "a file is read from top to bottom"


def test_rows_are_read_when_they_are_due() -> None:
    source = Recorded(picture(400, 40))
    strips = run(Toy(), source, tile=32)
    next(strips)
    assert max(last for _, last in source.asked) < 64


def test_rows_with_nan_are_refused() -> None:
    lr = picture(100, 30)
    lr[..., 80, 3] = float("nan")
    strips = run(Toy(), Recorded(lr), tile=32)
    next(strips)
    with pytest.raises(ImageError, match="NaN"):
        list(strips)


def test_a_wide_picture_has_low_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    row = 4 * 3 * 4 * 4 * 600
    monkeypatch.setattr(memory, "BAND_BYTES", 100 * row)
    monkeypatch.setattr(memory, "MOST_BAND_BYTES", 100 * row)
    network = Toy(ToyConfig(scale=4))
    lr = picture(300, 600)
    strips = list(run(network, lr))
    assert 32 * 4 <= strips[0][2].shape[2] <= 100 * 4
    assert_close(torch.cat([rows for _, _, rows in strips], -2), whole(network, lr), 1e-6)


def test_a_row_of_tiles_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Recorded(picture(20, 5000))
    monkeypatch.setattr(memory, "free_memory", lambda _: 2 << 20)
    with pytest.raises(OutOfMemoryError, match="10000 x 40 pixels"):
        next(run(Toy(), source))
    assert not source.asked, "before anything is read"


@pytest.mark.parametrize("size", [(30, 30), (9, 41)])
@pytest.mark.parametrize("overlap", [None, 0, 3])
def test_pictures_run_together_whatever_the_overlap(
    size: tuple[int, int], overlap: int | None
) -> None:
    prepared = prepare(Toy(ToyConfig(window=8)))
    pictures = [picture(*size, seed=k) for k in range(3)]
    sources = [Window([lr], tuple(lr.shape)) for lr in pictures]
    for lr, got in zip(pictures, run_together(prepared, sources, overlap=overlap), strict=True):
        assert_close(got, joined(run(prepared, lr, tile="off")), 1e-6)


def test_a_tile_beyond_the_memory_of_the_cpu_is_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 256 << 20)
    report = RunReport()
    list(run(Toy(), picture(200, 200), tile="off", report=report))
    assert report.tile in memory.SIDES
    assert report.out_of_memory == 1


@pytest.mark.parametrize("tta", [False, True])
def test_tiles_that_are_not_finite_are_redone_in_fp32(tta: bool) -> None:
    lr = picture(100, 100) * 0.5
    lr[..., 10, 10] = 1.0
    network = Overflowing()
    report = RunReport()
    half = copy.deepcopy(network).to(torch.bfloat16)
    prepared = Prepared(half, network, torch.device("cpu"), torch.bfloat16)
    strips = run(prepared, lr, tile=40, tta=tta, report=report)
    got = joined(strips)
    assert report.not_finite == report.retries == 1
    assert bool(got.isfinite().all())
    exact = joined(run(Toy(), lr, tile=40, tta=tta))
    assert torch.equal(got[..., :60, :60], exact[..., :60, :60]), "fp32 where it was redone"
    assert_close(got, exact, 0.02)


def test_a_network_that_is_never_finite_is_an_error() -> None:
    network = Overflowing()
    network.broken = True
    with pytest.raises(UpscaleError, match="not finite in fp32"):
        list(run(network, picture(20, 20)))


@pytest.mark.parametrize(
    "lr",
    [
        torch.rand(1, 1, 8, 8),
        torch.rand(2, 3, 8, 8),
        torch.rand(3, 8, 8),
        torch.rand(1, 3, 0, 8),
        torch.full((1, 3, 8, 8), float("nan")),
        torch.full((1, 3, 8, 8), float("inf")),
    ],
)
def test_what_is_no_picture_is_refused_at_once(lr: Tensor) -> None:
    with pytest.raises(ImageError):
        run(Toy(), lr)


@pytest.mark.parametrize(("tile", "overlap"), [(3, None), (0, None), ("huge", None), (64, -2)])
def test_bad_options_are_refused_at_once(tile: TileOption, overlap: int | None) -> None:
    with pytest.raises(UsageError):
        run(Toy(), picture(20, 20), tile=tile, overlap=overlap)


def test_views_and_doubles_are_pictures_too() -> None:
    lr = picture(30, 40)
    want = joined(run(Toy(), lr))
    assert torch.equal(joined(run(Toy(), lr.double())), want)
    assert torch.equal(joined(run(Toy(), lr.transpose(2, 3).contiguous().transpose(2, 3))), want)


def test_the_network_given_stays_as_it_was() -> None:
    network = Toy().train()
    list(run(network, picture(20, 20), dtype=torch.bfloat16))
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())


def test_tta_is_the_mean_over_flips_and_turns() -> None:
    network, lr = Toy(), picture(40, 52)
    parts = []
    for turns in range(4):
        for flip in (False, True):
            x = lr.rot90(turns, (-2, -1))
            x = x.flip(-1) if flip else x
            y = whole(network, x)
            y = y.flip(-1) if flip else y
            parts.append(y.rot90(-turns, (-2, -1)))
    assert_close(joined(run(network, lr, tta=True)), torch.stack(parts).mean(0), 1e-6)
    assert_close(
        joined(run(network, lr, tta=True, tile=32)), joined(run(network, lr, tta=True)), 1e-6
    )
    turned = joined(run(network, lr.rot90(1, (-2, -1)), tta=True)).rot90(-1, (-2, -1))
    assert_close(turned, joined(run(network, lr, tta=True)), 1e-6)


def test_noise_does_not_depend_on_tiles_or_size() -> None:
    network = Toy(ToyConfig(noise_channels=2))
    lr, noise = picture(100, 90), Noise(seed=7, temperature=1.0)
    want = joined(run(network, lr, tile="off", noise=noise))
    assert_close(joined(run(network, lr, tile=32, noise=noise)), want, 1e-6)
    assert_close(joined(run(network, lr[..., :50, :40], noise=noise))[..., :90, :70],
                 want[..., :90, :70], 1e-6)  # fmt: skip
    other = joined(run(network, lr, noise=Noise(seed=8, temperature=1.0)))
    assert (other - want).abs().max() > 0.01
    still = [joined(run(network, lr, noise=Noise(seed, 0.0))) for seed in (1, 2)]
    assert torch.equal(*still)


def test_noise_is_standard_normal_times_temperature() -> None:
    noise = Noise(seed=3, temperature=0.5).draw(2, 200, 100)
    assert noise.shape == (1, 2, 200, 100)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 0.5) < 0.01
    rows = noise[0].flatten(0, 1)
    correlation = torch.corrcoef(rows[:100]).fill_diagonal_(0).abs().max()
    assert correlation < 0.5, "rows and channels differ"
    assert torch.equal(Noise(3, 0.5).draw(1, 20, 30), noise[:, :1, :20, :30])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_run_gives_the_same_bytes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = SwinIR(SwinIRConfig(scale=2, embed_dim=24, depths=(2,), num_heads=(2,)))
    prepared = prepare(network, dtype=dtype)
    lr = picture(90, 70)
    first, second = (joined(run(prepared, lr, tile=32)) for _ in range(2))
    assert torch.equal(first, second)


def test_several_threads_share_a_prepared_network() -> None:
    prepared = prepare(Toy())
    pictures = [picture(70 + 5 * k, 60, seed=k) for k in range(8)]
    alone = [joined(run(prepared, lr, tile=32)) for lr in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda lr: joined(run(prepared, lr, tile=32)), pictures))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_caller_keeps_its_grad_mode_between_strips() -> None:
    strips = run(Toy(), picture(100, 40), tile=32)
    next(strips)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_the_float_result_never_exists_whole() -> None:
    lr = picture(2000, 64)
    prepared = prepare(Toy())

    def drain() -> None:
        for _ in run(prepared, lr, tile=64):
            pass

    result = 4 * 3 * (2 * 2000) * (2 * 64)
    assert peak_bytes(drain) < result / 3, "two bands and a tile, of 32 bands"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here")
@pytest.mark.parametrize(
    "network",
    [
        lambda: SRCNN(SRCNNConfig()),
        lambda: ESRGAN(ESRGANConfig(num_feat=32, num_block=2, num_grow=16)),
        lambda: SwinIR(SwinIRConfig(depths=(2, 2), num_heads=(6, 6))),
    ],
)
def test_half_precision_on_cuda_agrees_to_50_db(network: object) -> None:
    torch.manual_seed(0)
    net: Network = network()  # type: ignore[operator]
    lr = picture(150, 130, net.channels)
    half = next((d for d in net.precisions if d != torch.float32), torch.float32)
    device = torch.device("cuda")
    want = joined(run(net, lr, tile=64))
    got = joined(run(net, lr, tile=64, device=device, dtype=half))
    span = float(want.max() - want.min())
    psnr = 20 * torch.log10(span / (got - want).square().mean().sqrt())
    assert psnr >= 50, f"{psnr:.1f} dB in {half}"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here")
def test_cuda_batches_equal_the_cpu() -> None:
    lr = picture(150, 300)
    got = joined(run(Toy(), lr, tile=32, device=torch.device("cuda")))
    assert_close(got, whole(Toy(), lr), 1e-2)
