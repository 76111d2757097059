"""How fast a network runs here in the engine, as trained, and in other runtimes, turn by turn.

Rounds are interleaved (A B C A B C …), each back end in a process of its own that sleeps meanwhile,
and figures are medians: the speed of a machine drifts by more than what is to be measured.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from upscale.checkpoints import Checkpoint, build
from upscale.device import choose_dtype, computes_in, dtype_name
from upscale.errors import UpscaleError
from upscale.inference.backends import (
    CEILING,
    ENGINE,
    PAPER,
    PEERS,
    PLAIN,
    First,
    Job,
    Worker,
    ceiling_side,
    check_backends,
    load,
    runs,
)
from upscale.models import Network
from upscale.settings import TileOption

__all__ = ["ENGINE", "PAPER", "PEERS", "PLAIN", "Row", "benchmark", "flop_per_pixel"]

logger = logging.getLogger(__name__)

_COUNTED = 64  # side of the picture on which operations are counted


@dataclass(frozen=True)
class Row:
    """One back end on one picture size.

    Attributes:
        model: Name of the model.
        backend: ``plain``, ``upscale``, ``onnxruntime``, or ``openvino``.
        device: Where it ran.
        dtype: In which precision.
        threads: CPU threads.
        lr_height: Rows of the input.
        lr_width: Columns of the input.
        tile: Useful side of the tiles; None: whole.
        seconds_median: Of the rounds.
        seconds_min: Of the rounds.
        seconds_max: Of the rounds.
        rounds: How many.
        gflops: Billions of multiplications and additions a second that the picture needs.
        share_of_ceiling: ``gflops`` over those of a large matrix product in the same precision
            (float32 where the device only emulates it), the fastest of one a round.
        ratio_to_reference: Median of the plain form in float32 over this median.
        max_abs_diff: Largest difference to the plain form's result; full scale is 1.
        peak_rss_mib: Most memory that the back end's own process held during its first run.
        form: Which form of the network ran, or the version of the peer.
        max_rel_diff: ``max_abs_diff`` over the largest absolute value of the plain form's result.
        seconds_per_megapixel: ``seconds_median`` over the million pixels of the input.
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

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)


def benchmark(
    model: str,
    sizes: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtypes: Sequence[str] = ("fp32",),
    backends: tuple[str, ...] = (),
    threads: Sequence[int] = (),
    tile: TileOption = "auto",
    rounds: int = 5,
) -> Iterator[Row]:
    """Time a network on random pictures.

    For each number of threads and each size comes a group of rows: the plain form in float32, which
    the others are compared with, then in each precision the back ends that run in it. A script that
    calls this needs ``if __name__ == "__main__":``, as always with :mod:`multiprocessing`.

    Args:
        model: Of :data:`PAPER`, or what ``resolve`` takes.
        sizes: (height, width) each.
        device: Where; peers run on a CPU alone.
        dtypes: Names for ``choose_dtype``.
        backends: Which besides the plain form; none: all that are installed.
        threads: CPU threads; none: PyTorch's number.
        tile: Of the engine.
        rounds: Timed rounds; each runs every back end once. One before does not count.

    Raises:
        CheckpointError: There is no such model.
        DeviceError: The device cannot compute in a precision.
        UpscaleError: The network fails, plain or in the engine; a peer that fails is left out, and
            a line is logged.
        UsageError: A back end cannot be used.
    """
    checkpoint = load(model)
    network = build(checkpoint)
    chosen = tuple(dict.fromkeys(choose_dtype(n, device, network.precisions) for n in dtypes))
    names = check_backends(backends, device, chosen)
    pairs = [(PLAIN, torch.float32)]
    pairs += [(name, dtype) for dtype in chosen for name in names if runs(name, device, dtype)]
    flop = flop_per_pixel(network)
    del network
    with tempfile.TemporaryDirectory() as folder:
        first = Job(PLAIN, model, sizes[0], device, torch.float32, 1, tile)
        if any(name in PEERS for name, _ in pairs):
            first = replace(first, exported=_export(checkpoint, Path(folder)))
        if first.exported is None:
            pairs = [pair for pair in pairs if pair[0] not in PEERS]
        for count in threads or (torch.get_num_threads(),):
            for size in sizes:
                here = replace(first, threads=count, size=size)
                group = [replace(here, backend=n, dtype=d) for n, d in dict.fromkeys(pairs)]
                yield from _rows(group, rounds, flop * size[0] * size[1])


def _export(checkpoint: Checkpoint, folder: Path) -> Path | None:
    """The network as ONNX; None, and a line in the log, where that cannot be."""
    from upscale.checkpoints import export_onnx

    try:
        return export_onnx(checkpoint, folder / "network.onnx").path
    except Exception as error:  # noqa: BLE001 - whatever the exporter dies of, the others run
        reason = " ".join(str(error).split())[:300]
        logger.warning("%s: no ONNX, its peers are left out: %s", checkpoint.name, reason)
        return None


@dataclass(frozen=True)
class _Timed:
    """A back end with its first run and the seconds of its rounds."""

    job: Job
    worker: Worker
    first: First
    seconds: list[float]


def _rows(jobs: list[Job], rounds: int, flop: float) -> Iterator[Row]:
    """The rows of one size on one number of threads; the first job is the reference."""
    products = [
        replace(jobs[0], backend=CEILING, dtype=dtype)
        for dtype in dict.fromkeys(_computed(job) for job in jobs)
    ]
    with ExitStack() as stack:
        timed = list(_started([*jobs, *products], stack))
        for _ in range(rounds):
            for one in timed:
                one.seconds.append(one.worker.seconds())
    operations = 2.0 * ceiling_side(jobs[0].device) ** 3
    ceilings = {t.job.dtype: operations / min(t.seconds) for t in timed if t.job.backend == CEILING}
    for one in timed:
        if one.job.backend != CEILING:
            yield _row(one, timed[0], flop, ceilings[_computed(one.job)])


def _started(jobs: list[Job], stack: ExitStack) -> Iterator[_Timed]:
    """Each back end after its first run; a peer that fails is left out, with a line in the log."""
    for job in jobs:
        worker = stack.enter_context(Worker(job))
        try:
            yield _Timed(job, worker, worker.first(), [])
        except UpscaleError as error:
            if job.backend not in PEERS:
                raise
            logger.warning("%s; it is left out", error)


def _row(one: _Timed, reference: _Timed, flop: float, ceiling: float) -> Row:
    job, first, median = one.job, one.first, statistics.median(one.seconds)
    gap = float(np.abs(first.result - reference.first.result).max())
    return Row(
        model=job.model,
        backend=job.backend,
        device=str(job.device),
        dtype=dtype_name(job.dtype),
        threads=job.threads,
        lr_height=job.size[0],
        lr_width=job.size[1],
        tile=first.tile,
        seconds_median=median,
        seconds_min=min(one.seconds),
        seconds_max=max(one.seconds),
        rounds=len(one.seconds),
        gflops=flop / median / 1e9,
        share_of_ceiling=flop / median / ceiling,
        ratio_to_reference=statistics.median(reference.seconds) / median,
        max_abs_diff=gap,
        peak_rss_mib=first.peak_mib,
        form=first.form,
        max_rel_diff=gap / float(np.abs(reference.first.result).max()),
        seconds_per_megapixel=median / (job.size[0] * job.size[1] / 1e6),
    )


def _computed(job: Job) -> torch.dtype:
    """The precision in which the device computes what it is given in the job's."""
    return job.dtype if computes_in(job.dtype, job.device) else torch.float32


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
