"""How fast networks run here: the engine against the plain network, round by round in turn.

Ratios come from interleaved rounds (A B A B …) in one process and are medians: the speed of a
machine drifts by more than what is to be measured.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from upscale.device import dtype_name
from upscale.inference.engine import RunReport, run
from upscale.inference.prepared import prepare
from upscale.models import MODELS, Network, config_from_dict
from upscale.settings import TileOption

REFERENCE = "reference"  # the network's own forward: eager, float32, channels first, whole picture
ENGINE = "upscale"
PAPER: dict[str, tuple[str, dict[str, Any]]] = {
    "srcnn-9-5-5-x4": ("srcnn", {"scale": 4}),
    "rrdb-23-x4": ("esrgan", {"scale": 4}),
    "swinir-s-x4": ("swinir", {"scale": 4}),
    "swinir-m-x4": (
        "swinir",
        {
            "scale": 4,
            "embed_dim": 180,
            "depths": (6,) * 6,
            "num_heads": (6,) * 6,
            "upsampler": "pixelshuffle",
        },
    ),
}  # full-size networks of the papers, with seeded random weights: speed does not ask for values
_COUNTED = 64  # side of the picture on which operations are counted


@dataclass(frozen=True)
class Row:
    """One backend on one picture size.

    Attributes:
        model: Name of the model.
        backend: ``reference`` or ``upscale``.
        device: Where it ran.
        dtype: In which precision.
        threads: CPU threads of PyTorch.
        lr_height: Rows of the input.
        lr_width: Columns of the input.
        tile: Useful side of the tiles; None: whole.
        seconds_median: Of the rounds.
        seconds_min: Of the rounds.
        seconds_max: Of the rounds.
        rounds: How many.
        gflops: Billions of multiplications and additions a second that the picture needs.
        share_of_ceiling: ``gflops`` over those of a large matrix product in the same precision, the
            fastest of one a round.
        ratio_to_reference: Median over rounds of the reference's time over this one's.
        max_abs_diff: Largest difference to the reference's result; full scale is 1.
        peak_rss_mib: Most memory that the process held while it ran once.
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

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)


def paper_network(name: str) -> Network:
    """A network of :data:`PAPER`, with the same random weights every time."""
    architecture, values = PAPER[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind = MODELS[architecture]
        return kind(config_from_dict(kind.config_type, values))


def benchmark(
    model: str,
    network: Network,
    size: tuple[int, int],
    *,
    device: torch.device,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
    tile: TileOption = "auto",
    rounds: int = 5,
) -> Iterator[Row]:
    """Time a network on a random picture of ``size`` (height, width).

    The first row is the reference, then comes the engine in each of ``dtypes``.

    Every round runs each of them once, after one round that does not count.
    """
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(1, network.channels + network.noise_channels, *size, generator=generator)
    reference = copy.deepcopy(network).eval().requires_grad_(False).to(device)
    reports = [RunReport() for _ in dtypes]
    works: list[Callable[[], Tensor]] = [lambda: _plain(reference, lr, device)]
    for dtype, report in zip(dtypes, reports, strict=True):
        works.append(_engine(network, lr, device, dtype, tile, report))
    results, peaks = zip(*(_with_peak(work) for work in works), strict=True)
    products = [matrix_product(device, dtype) for dtype in (torch.float32, *dtypes)]
    seconds: list[list[float]] = [[] for _ in works]
    ceilings = [0.0 for _ in works]
    for _ in range(rounds):
        for k, (work, (flop, product)) in enumerate(zip(works, products, strict=True)):
            seconds[k].append(_seconds(work))
            ceilings[k] = max(ceilings[k], flop / _seconds(product))
    flop = flop_per_pixel(network) * size[0] * size[1]
    for k, dtype in enumerate((torch.float32, *dtypes)):
        median = statistics.median(seconds[k])
        pairs = zip(seconds[0], seconds[k], strict=True)
        yield Row(
            model=model,
            backend=ENGINE if k else REFERENCE,
            device=str(device),
            dtype=dtype_name(dtype),
            threads=torch.get_num_threads(),
            lr_height=size[0],
            lr_width=size[1],
            tile=reports[k - 1].tile if k else None,
            seconds_median=median,
            seconds_min=min(seconds[k]),
            seconds_max=max(seconds[k]),
            rounds=rounds,
            gflops=flop / median / 1e9,
            share_of_ceiling=flop / median / ceilings[k],
            ratio_to_reference=statistics.median(a / b for a, b in pairs),
            max_abs_diff=float((results[k] - results[0]).abs().max()),
            peak_rss_mib=peaks[k],
        )


def _plain(network: Network, lr: Tensor, device: torch.device) -> Tensor:
    with torch.no_grad():
        return network(lr.to(device)).cpu()


def _engine(
    network: Network,
    lr: Tensor,
    device: torch.device,
    dtype: torch.dtype,
    tile: TileOption,
    report: RunReport,
) -> Callable[[], Tensor]:
    prepared = prepare(copy.deepcopy(network), device, dtype)
    shown = lr[:, : network.channels]  # the engine draws its noise itself

    def work() -> Tensor:
        strips = run(prepared, shown, tile=tile, report=report)
        return torch.cat([rows for _, _, rows in strips], -2)

    return work


def _with_peak(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result of ``work`` and the peak of the process's memory meanwhile, in MiB."""
    marks, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if status.exists():
        try:
            marks.write_text("5")  # forget the peak so far
        except OSError:
            return work(), _lifetime_peak()
        result = work()
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM:"))
        return result, int(line.split()[1]) / 1024
    return work(), _lifetime_peak()


def _lifetime_peak() -> float:
    if sys.platform == "win32":
        return 0.0  # not told without further packages
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def flop_per_pixel(network: Network) -> float:
    """Multiplications and additions that one LR pixel costs, by PyTorch's count of operations."""
    multiple = network.multiple_of
    side = -(-_COUNTED // multiple) * multiple
    device = next(network.parameters()).device
    lr = torch.zeros(1, network.channels + network.noise_channels, side, side, device=device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(lr)
    return float(counter.get_total_flops()) / side**2


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[float, Callable[[], object]]:
    """A large matrix product and how many multiplications and additions it takes."""
    side = 8192 if device.type == "cuda" else 1536
    a = torch.rand(side, side, device=device, dtype=dtype)

    def product() -> float:
        return float((a @ a)[0, 0])  # waits for the device

    return 2.0 * side**3, product


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
