"""How fast a network runs here: as it was trained, and in the forms that the main job runs.

A model, sizes, tiles, precisions and numbers of threads come in; a :class:`Timing` for each form of
the network on each size goes out. Rounds are interleaved (A B C A B C …) and figures are medians:
the speed of a machine drifts by more than what is to be measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from upscale.checkpoints import Checkpoint, build, resolve
from upscale.device import choose_dtype, computes_in, dtype_name
from upscale.errors import UsageError
from upscale.inference import Noise, RunReport, prepare, run
from upscale.memory import keep_large_blocks
from upscale.models import Network, config_from_dict, network_class
from upscale.settings import TileOption

PLAIN = "plain"  # the network as trained: eager, channels first, the picture whole
ENGINE = "upscale"  # what the main job runs
COUNTED = 64  # side of the picture on which operations are counted

MEDIUM = {"embed_dim": 180, "depths": (6,) * 6, "num_heads": (6,) * 6, "upsampler": "pixelshuffle"}
PAPER: dict[str, tuple[str, dict[str, Any]]] = {
    "srcnn-9-5-5-x4": ("srcnn", {}),
    "rrdb-23-x4": ("esrgan", {}),
    "swinir-s-x4": ("swinir", {}),
    "swinir-m-x4": ("swinir", MEDIUM),
}  # full-size networks of the papers, with seeded random weights: speed does not ask for values


@dataclass(frozen=True)
class Timing:
    """One form of a network on one size of picture; ready for JSON by :func:`dataclasses.asdict`.

    ``backend`` is ``plain`` or ``upscale`` and ``form`` the form of the network that ran; ``tile``
    the useful side of the tiles, None for a picture that ran whole. ``gflops`` are the billions of
    multiplications and additions that the picture needs, a second, and ``share_of_ceiling`` is
    theirs of a large matrix product's in the same precision (float32 where the device only emulates
    it), the fastest of one a round. ``ratio_to_reference`` is the median of the plain form in
    float32 over this median. ``max_abs_diff`` is the largest difference to the plain form's result
    (full scale is 1) and ``max_rel_diff`` the same over that result's largest absolute value;
    ``peak_rss_mib`` what the process held at most during the form's first run, and
    ``seconds_per_megapixel`` the median over the million pixels of the input.
    """

    model: str
    backend: str
    device: str
    dtype: str
    threads: int
    lr_height: int
    lr_width: int
    tile: int | None
    seconds_median: float
    seconds_min: float
    seconds_max: float
    rounds: int
    gflops: float
    share_of_ceiling: float
    ratio_to_reference: float
    max_abs_diff: float
    peak_rss_mib: float
    form: str
    max_rel_diff: float
    seconds_per_megapixel: float


@dataclass
class Form:
    """A form of a network that can run."""

    backend: str
    dtype: torch.dtype
    work: Callable[[Tensor], Tensor]  # to (1, channels, scale·H, scale·W) float32 on the CPU
    form: str
    report: RunReport = field(default_factory=RunReport)  # the engine's of its last run


def benchmark(
    model: str,
    sizes: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtypes: Sequence[str] = ("fp32",),
    backends: Sequence[str] = (),
    threads: Sequence[int] = (),
    tiles: Sequence[TileOption] = ("auto",),
    rounds: int = 5,
) -> Iterator[Timing]:
    """Time a network on random pictures.

    For each number of threads and each size (width, height) comes a group of rows: the plain form
    in float32, which the others are compared with, then in each precision the plain form, and the
    engine by tiles, or only what ``backends`` names. The plain form is not measured in a precision
    that the device merely emulates. ``model`` is of :data:`PAPER`, or what ``resolve`` takes. Each
    round runs every form once; one before does not count.

    Raises:
        CheckpointError: There is no such model.
        DeviceError: The device cannot compute in a precision.
        UsageError: There is no such form, or a tile is too small.
    """
    backends = backends or (PLAIN, ENGINE)
    for name in backends:
        if name not in (PLAIN, ENGINE):
            raise UsageError(f"back end {name!r} is unknown: use {PLAIN} or {ENGINE}")
    keep_large_blocks()
    checkpoint = load(model)
    network = build(checkpoint)
    chosen = dict.fromkeys(choose_dtype(name, device, network.precisions) for name in dtypes)
    forms = [_plain(checkpoint, device, torch.float32)]
    for dtype in chosen:
        if PLAIN in backends and dtype != torch.float32 and computes_in(dtype, device):
            forms.append(_plain(checkpoint, device, dtype))
        if ENGINE in backends:
            ours = [_engine(checkpoint, device, dtype, tile) for tile in tiles]
            forms += [form for form in ours if form.dtype == dtype]  # a CPU without bf16 has none
    before = torch.get_num_threads()
    try:
        for count in threads or (before,):
            torch.set_num_threads(count)
            for size in sizes:
                lr = random_picture(network, size)
                yield from _timings(model, forms, lr, device, rounds, flop_per_pixel(network))
    finally:
        torch.set_num_threads(before)


def load(model: str) -> Checkpoint:
    """A network of :data:`PAPER`, with the same random weights every time, or of ``resolve``."""
    if model not in PAPER:
        return resolve(model)
    architecture, values = PAPER[model]
    network_type = network_class(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = network_type(config_from_dict(network_type.config_type, {"scale": 4} | values))
    return Checkpoint(architecture, network.config, network.state_dict(), name=model)


def random_picture(network: Network, size: tuple[int, int]) -> Tensor:
    """What the network reads: uniform random values (seed 0), then the noise of the first draw."""
    width, height = size
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(1, network.channels, height, width, generator=generator)
    if not network.noise_channels:
        return lr
    return torch.cat((lr, Noise().draw(network.noise_channels, height, width)), 1)


def _plain(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Form:
    network = build(checkpoint).to(device, dtype)

    @torch.no_grad()
    def work(lr: Tensor) -> Tensor:
        return network(lr.to(device, dtype)).float().cpu()

    return Form(PLAIN, dtype, work, "eager")


def _engine(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, tile: TileOption
) -> Form:
    prepared = prepare(build(checkpoint), device, dtype)
    network = prepared.network

    def work(lr: Tensor) -> Tensor:
        form.report = RunReport()
        strips = run(prepared, lr[:, : network.channels], tile=tile, report=form.report)
        return torch.cat([rows for _, _, rows in strips], -2)  # it draws its noise itself

    form = Form(ENGINE, prepared.dtype, work, str(getattr(network, "backend", "torch")))
    return form


def _timings(
    model: str, forms: Sequence[Form], lr: Tensor, device: torch.device, rounds: int, flop: float
) -> Iterator[Timing]:
    """The rows of one size on one number of threads; the first form is the reference."""
    # 1. Every form once, for its result and its memory; the plain one last, which takes the most.
    first = [with_peak(partial(form.work, lr)) for form in reversed(forms)][::-1]
    # 2. Rounds in turn, a large matrix product in each precision among them.
    products = {dtype: _product(device, dtype) for dtype in {_computed(f, device) for f in forms}}
    fastest = dict.fromkeys(products, float("inf"))
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(rounds):
        for form, seconds in zip(forms, times, strict=True):
            seconds.append(_seconds(partial(form.work, lr)))
        for dtype, product in products.items():
            fastest[dtype] = min(fastest[dtype], _seconds(product))
    # 3. What follows from them.
    (reference, _), (height, width) = first[0], lr.shape[-2:]
    for form, (result, peak), seconds in zip(forms, first, times, strict=True):
        median = statistics.median(seconds)
        gap = float((result - reference).abs().max())
        ceiling = 2.0 * _side(device) ** 3 / fastest[_computed(form, device)]
        yield Timing(
            model=model,
            backend=form.backend,
            device=str(device),
            dtype=dtype_name(form.dtype),
            threads=torch.get_num_threads(),
            lr_height=height,
            lr_width=width,
            tile=form.report.tile,
            seconds_median=median,
            seconds_min=min(seconds),
            seconds_max=max(seconds),
            rounds=rounds,
            gflops=flop * height * width / median / 1e9,
            share_of_ceiling=flop * height * width / median / ceiling,
            ratio_to_reference=statistics.median(times[0]) / median,
            max_abs_diff=gap,
            peak_rss_mib=peak,
            form=form.form,
            max_rel_diff=gap / float(reference.abs().max()),
            seconds_per_megapixel=median / (height * width / 1e6),
        )


def _seconds(work: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _computed(form: Form, device: torch.device) -> torch.dtype:
    """The precision in which the device computes what it is given in the form's."""
    return form.dtype if computes_in(form.dtype, device) else torch.float32


def _product(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    side = _side(device)
    matrix = torch.rand(side, side, device=device, dtype=dtype)
    return lambda: (matrix @ matrix)[:1, :1].float().cpu()  # waits for the device


def _side(device: torch.device) -> int:
    """Rows and columns of the matrices whose product is the ceiling."""
    return 8192 if device.type == "cuda" else 1536


def flop_per_pixel(network: Network) -> float:
    """Multiplications and additions that one LR pixel costs, by PyTorch's count of operations."""
    side = -(-COUNTED // network.multiple_of) * network.multiple_of
    device = next(network.parameters()).device
    lr = torch.zeros(1, network.channels + network.noise_channels, side, side, device=device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(lr)
    return float(counter.get_total_flops()) / side**2


def with_peak(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result of ``work`` and the peak of the process's memory meanwhile, in MiB."""
    marks, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc: blocks that earlier runs left
    try:
        marks.write_text("5")  # forget the peak so far
    except OSError:  # no Linux, or no leave
        return work(), _lifetime_peak()
    result = work()
    line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM:"))
    return result, int(line.split()[1]) / 1024


def _lifetime_peak() -> float:
    if sys.platform == "win32":
        return 0.0  # not told without further packages
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
