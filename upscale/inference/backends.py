"""The back ends that ``upscale bench`` compares, each in a process of its own.

So the allocator's settings, the threads and the memory of one do not reach the others; a back end
that waits for its turn sleeps.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from upscale.checkpoints import Checkpoint, build, resolve
from upscale.device import computes_in, dtype_name
from upscale.errors import UpscaleError, UsageError
from upscale.inference.engine import RunReport
from upscale.inference.network import prepare
from upscale.inference.noise import Noise
from upscale.inference.runner import run
from upscale.memory import keep_large_blocks
from upscale.models import Network, config_from_dict, network_class
from upscale.settings import TileOption

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PLAIN = "plain"  # the network as trained: eager, channels first, whole picture, default allocator
ENGINE = "upscale"  # what the main job runs
PEERS = ("onnxruntime", "openvino")  # the network's own ONNX export, on a CPU
CEILING = "ceiling"  # a large matrix product

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


def load(model: str) -> Checkpoint:
    """A network of :data:`PAPER`, with the same random weights every time, or of ``resolve``."""
    if model not in PAPER:
        return resolve(model)
    architecture, values = PAPER[model]
    kind = network_class(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(config_from_dict(kind.config_type, values))
    return Checkpoint(architecture, network.config, network.state_dict(), name=model)


def picture(network: Network, size: tuple[int, int]) -> Tensor:
    """What the network reads: uniform random values (seed 0), then the noise of the first draw."""
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(1, network.channels, *size, generator=generator)
    if not network.noise_channels:
        return lr
    return torch.cat((lr, Noise().draw(network.noise_channels, *size)), 1)


@dataclass(frozen=True)
class Job:
    """A back end with its work.

    Attributes:
        backend: Key of :data:`BACKENDS`.
        model: For :func:`load`.
        size: Height and width of the picture.
        device: Where it runs.
        dtype: In which precision.
        threads: On the CPU.
        tile: Of the engine; the others run the picture whole.
        exported: The network as ONNX, for peers.
        environment: Variables of the process.
    """

    backend: str
    model: str
    size: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    threads: int
    tile: TileOption = "auto"
    exported: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def __str__(self) -> str:
        """For messages."""
        height, width = self.size
        return f"{self.backend} in {dtype_name(self.dtype)} on {width}x{height}"


@dataclass(frozen=True)
class Ready:
    """A back end that can run.

    Attributes:
        work: Runs the picture once; gives (1, channels, scale*H, scale*W) float32 on the CPU.
        form: Which form of the network runs, or the version of a peer.
        report: Filled by the engine.
    """

    work: Callable[[], Tensor]
    form: str
    report: RunReport = field(default_factory=RunReport)


def check_backends(
    names: tuple[str, ...], device: torch.device, dtypes: tuple[torch.dtype, ...]
) -> tuple[str, ...]:
    """The back ends to compare: those of ``names``, or else all that are installed.

    Raises:
        UsageError: One is unknown, not installed, or runs in none of ``dtypes`` on ``device``.
    """
    for name in names:
        if name not in (PLAIN, ENGINE, *PEERS):
            known = ", ".join((PLAIN, ENGINE, *PEERS))
            raise UsageError(f"back end {name!r} is unknown: use one of {known}")
        if not _is_installed(name):
            raise UsageError(f"back end {name!r} is not installed: pip install 'upscale[bench]'")
        if name in PEERS and not any(runs(name, device, dtype) for dtype in dtypes):
            asked = ", ".join(map(dtype_name, dtypes))
            raise UsageError(
                f"back end {name!r} does not run in {asked} on {device}: "
                f"use --dtype fp32 and --device cpu"
            )
    return names or tuple(name for name in (PLAIN, ENGINE, *PEERS) if _is_installed(name))


def _is_installed(name: str) -> bool:
    return name not in PEERS or all(find_spec(package) for package in ("onnx", name))


def runs(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a back end is measured in ``dtype`` on ``device``.

    Only the engine is where the device merely emulates it.
    """
    if name == ENGINE:
        return True
    if name == "onnxruntime":
        return device.type == "cpu" and dtype == torch.float32
    return computes_in(dtype, device) and (name == PLAIN or device.type == "cpu")


def _plain(job: Job) -> Ready:
    network = build(load(job.model)).to(job.device, job.dtype)
    lr = picture(network, job.size).to(job.dtype)

    def work() -> Tensor:
        with torch.no_grad():
            return network(lr.to(job.device)).float().cpu()

    return Ready(work, "eager")


def _engine(job: Job) -> Ready:
    keep_large_blocks()
    prepared = prepare(build(load(job.model)), job.device, job.dtype)
    network, report = prepared.network, RunReport()
    lr = picture(network, job.size)[:, : network.channels]  # it draws its noise itself

    def work() -> Tensor:
        strips = run(prepared, lr, tile=job.tile, report=report)
        return torch.cat([rows for _, _, rows in strips], -2)

    return Ready(work, str(getattr(network, "backend", "torch")), report)


def _onnxruntime(job: Job) -> Ready:
    import onnxruntime

    lr = picture(build(load(job.model)), job.size).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # after each picture
    for axis, side in zip("NHW", (1, *job.size), strict=True):  # a fixed shape is faster
        options.add_free_dimension_override_by_name(axis, side)
    session = onnxruntime.InferenceSession(
        job.exported, options, providers=["CPUExecutionProvider"]
    )
    return Ready(
        lambda: torch.from_numpy(session.run(["sr"], {"lr": lr})[0]), onnxruntime.__version__
    )


def _openvino(job: Job) -> Ready:
    import openvino

    lr = picture(build(load(job.model)), job.size).numpy()
    core = openvino.Core()
    model = core.read_model(job.exported)
    model.reshape(list(lr.shape))  # a fixed shape is faster
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job.threads,
        "INFERENCE_PRECISION_HINT": "f32" if job.dtype == torch.float32 else "bf16",
    }
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    return Ready(
        lambda: torch.from_numpy(request.infer([lr], share_inputs=True)[0]),
        openvino.__version__.partition("-")[0],
    )


def _ceiling(job: Job) -> Ready:
    side = ceiling_side(job.device)
    a = torch.rand(side, side, device=job.device, dtype=job.dtype)

    def product() -> Tensor:
        return (a @ a)[:1, :1].float().cpu()  # waits for the device

    return Ready(product, "matmul")


def ceiling_side(device: torch.device) -> int:
    """Rows and columns of the matrices whose product is the ceiling."""
    return 8192 if device.type == "cuda" else 1536


BACKENDS: dict[str, Callable[[Job], Ready]] = {
    PLAIN: _plain,
    ENGINE: _engine,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    CEILING: _ceiling,
}


@dataclass(frozen=True)
class First:
    """What the first run of a back end gave.

    Attributes:
        result: (1, channels, scale*H, scale*W), an array of NumPy.
        peak_mib: Most memory that the process held meanwhile.
        form: Of :class:`Ready`.
        tile: Useful side of the engine's tiles; None: whole.
    """

    result: Any
    peak_mib: float
    form: str
    tile: int | None


class Worker:
    """The process of a back end, which runs when it is told to; a context manager.

    On Linux the processes are forks of one that has PyTorch imported and nothing else done.
    """

    def __init__(self, job: Job) -> None:
        method = "forkserver" if sys.platform == "linux" else "spawn"
        context: Any = multiprocessing.get_context(method)
        context.set_forkserver_preload([__name__])
        self._job = job
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def first(self) -> First:
        """Wait for the first run, which does not count.

        Raises:
            UpscaleError: The back end failed.
        """
        found: First = self._answer(asking=False)
        return found

    def seconds(self) -> float:
        """Run once more and return the wall time.

        Raises:
            UpscaleError: The back end failed.
        """
        return float(self._answer(asking=True))

    def _answer(self, *, asking: bool) -> Any:
        try:
            if asking:
                self._connection.send(True)
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            answer = f"its process ended with {self._process.exitcode}: try a smaller --size"
        if isinstance(answer, str):
            raise UpscaleError(f"{self._job}: {answer}")
        return answer


def _serve(connection: Connection, job: Job) -> None:
    """In the process: make ready, run once, then as often as told; an error is sent as a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    os.environ.update(job.environment)
    torch.set_num_threads(job.threads)
    try:
        ready = BACKENDS[job.backend](job)
        result, peak = with_peak(ready.work)
        connection.send(First(result.numpy(), peak, ready.form, ready.report.tile))
        del result
        while connection.recv():
            started = time.perf_counter()
            ready.work()
            connection.send(time.perf_counter() - started)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - whatever a back end dies of is the parent's to say
        connection.send(" ".join(f"{type(error).__name__}: {error}".split())[:300])


def with_peak(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result of ``work`` and the peak of the process's memory meanwhile, in MiB."""
    marks, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
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
