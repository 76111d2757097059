"""Our networks beside other programs' runtimes on this machine, round by round.

``python -m tests.tools.peers -m MODEL --size 64,128 --threads 1,2 --rounds 3 --peer NAME [--json]``

Each program is a process of its own that sleeps until it is told to run, so neither threads nor
memory nor allocator settings of one reach another; rounds are interleaved (A B C A B C …) and
figures are medians. In its turn a program runs twice and the second run counts: the first wakes its
threads and fills the caches, as pictures of a folder do for each other. The first program,
``plain``, is the network's own eager PyTorch form. The others:

- ``upscale``: what the main job runs with ``--dtype fp32``; ``upscale-bf16``: with bf16;
- ``spandrel``: the authors' own network, as spandrel (chaiNNer's loader) has it, in eager PyTorch;
- ``onnxruntime``, ``openvino``: the file that ``upscale weights export`` writes, its size fixed;
  ``openvino-bf16``: told to compute in bfloat16;
- ``ncnn``: an ncnn model (``-m FILE.param`` with its ``.bin``) on the CPU, as the ncnn tools use.

The ``-bf16`` ones run where they are named. What is not installed, or does not load a model, is
left out with a line on stderr. A model is a name or file of ``upscale``, a network of ``upscale
bench``, or ``NAME=FILE.param`` where ours of that name is to be set beside an ncnn file. stdout has
the tables: milliseconds and the ratio to ``plain``, seconds per megapixel of input, and the largest
difference to ``plain`` over its largest value; ``--json`` has one object a row, with the keys of
``upscale bench --json`` where they apply.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, partialmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from tests.tools.bench_table import table
from upscale.benchmark import flop_per_pixel, load, random_picture, with_peak
from upscale.checkpoints import build, export_onnx
from upscale.inference import prepare, run
from upscale.memory import keep_large_blocks

Work = Callable[[Tensor], Tensor]
TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
PACKAGES = {"spandrel": "spandrel", "onnxruntime": "onnxruntime", "openvino": "openvino"}
PACKAGES |= {"ncnn": "ncnn", "openvino-bf16": "openvino"}


@dataclass(frozen=True)
class Contest:
    """A network, a picture's side and a number of threads, which all programs get alike."""

    model: str
    ncnn: Path | None
    onnx: Path
    side: int
    threads: int


def _plain(contest: Contest) -> tuple[Work, str]:
    network = build(load(contest.model))
    return torch.no_grad()(network), "eager"


def _upscale(contest: Contest, *, dtype: torch.dtype = torch.float32) -> tuple[Work, str]:
    keep_large_blocks()
    prepared = prepare(build(load(contest.model)), dtype=dtype)
    network = prepared.network

    def work(lr: Tensor) -> Tensor:
        strips = run(prepared, lr[:, : network.channels])
        return torch.cat([rows for _, _, rows in strips], -2)

    return work, str(getattr(network, "backend", "torch"))


def _spandrel(contest: Contest) -> tuple[Work, str]:
    missing = {} if find_spec("torchvision") else dict.fromkeys(TORCHVISION, mock.MagicMock())
    with mock.patch.dict(sys.modules, missing):  # networks that are not run here import it
        import spandrel
    state = dict(load(contest.model).state)
    for key in [key for key in state if key.endswith("relative_position_bias_table")]:
        # SwinIR's own files hold the place of each pair of pixels of a window in this table too
        side = (math.isqrt(state[key].shape[0]) + 1) // 2
        at = torch.stack(torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + side - 1
        state[key.replace("bias_table", "index")] = apart[0] * (2 * side - 1) + apart[1]
    lenient = partialmethod(torch.nn.Module.load_state_dict, strict=False)  # it makes its masks
    with mock.patch.object(torch.nn.Module, "load_state_dict", lenient):
        descriptor = spandrel.ModelLoader().load_from_state_dict(state)
    network = descriptor.model.eval().requires_grad_(False)
    return torch.no_grad()(network), spandrel.__version__


def _onnxruntime(contest: Contest) -> tuple[Work, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = contest.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # after each picture
    for axis, side in zip("NHW", (1, contest.side, contest.side), strict=True):
        options.add_free_dimension_override_by_name(axis, side)  # a fixed shape is faster
    session = onnxruntime.InferenceSession(
        contest.onnx, options, providers=["CPUExecutionProvider"]
    )
    return (
        lambda lr: torch.from_numpy(session.run(["sr"], {"lr": lr.numpy()})[0]),
        onnxruntime.__version__,
    )


def _openvino(contest: Contest, *, precision: str = "f32") -> tuple[Work, str]:
    import openvino

    core = openvino.Core()
    model = core.read_model(contest.onnx)
    channels = model.inputs[0].partial_shape[1].get_length()
    model.reshape([1, channels, contest.side, contest.side])  # a fixed shape is faster
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": contest.threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    return (
        lambda lr: torch.from_numpy(request.infer([lr.numpy()], share_inputs=True)[0].copy()),
        openvino.__version__.partition("-")[0],
    )


def _ncnn(contest: Contest) -> tuple[Work, str]:
    import ncnn

    if contest.ncnn is None:
        raise ValueError("it is given no ncnn model: -m NAME=FILE.param")
    lines = [line.split() for line in contest.ncnn.read_text().splitlines()[2:]]
    first, last = next(line[4] for line in lines if line[0] == "Input"), lines[-1]
    result = last[4 + int(last[2])]  # type, name, inputs, outputs, names of the inputs, of outputs
    net = ncnn.Net()
    net.opt.num_threads = contest.threads
    net.opt.use_vulkan_compute = False
    net.load_param(str(contest.ncnn))
    net.load_model(str(contest.ncnn.with_suffix(".bin")))

    def work(lr: Tensor) -> Tensor:
        extractor = net.create_extractor()
        extractor.input(first, ncnn.Mat(np.ascontiguousarray(lr[0].numpy())).clone())
        return torch.from_numpy(np.array(extractor.extract(result)[1]))[None]

    return work, ncnn.__version__


PROGRAMS: dict[str, Callable[[Contest], tuple[Work, str]]] = {
    "plain": _plain,
    "upscale": _upscale,
    "spandrel": _spandrel,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ncnn": _ncnn,
    "upscale-bf16": partial(_upscale, dtype=torch.bfloat16),
    "openvino-bf16": partial(_openvino, precision="bf16"),
}
USUAL = [name for name in PROGRAMS if not name.endswith("-bf16")]


class Worker:
    """The process of a program, which runs the picture when it is told to; a context manager."""

    def __init__(self, program: str, contest: Contest) -> None:
        context: Any = multiprocessing.get_context("spawn")
        self.program, self.seconds = program, list[float]()
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, program, contest), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def answer(self) -> Any:
        """What the process says next: an error is a line, and so is its end."""
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return f"its process ended with {self._process.exitcode}"

    def round(self) -> float:
        """Run once more; the wall time."""
        time.sleep(0.5)  # until threads of the one before, which spin a while, are asleep
        self._connection.send(True)
        seconds = self.answer()
        if isinstance(seconds, str):
            raise SystemExit(f"{self.program}: {seconds}")
        self.seconds.append(seconds)
        return float(seconds)


def _serve(connection: Any, program: str, contest: Contest) -> None:
    """In the process: load, run once, then as often as told; an error is sent as a line."""
    torch.set_num_threads(contest.threads)
    try:
        lr = random_picture(build(load(contest.model)), (contest.side, contest.side))
        work, form = PROGRAMS[program](contest)
        result, peak = with_peak(lambda: work(lr))
        connection.send((result.numpy(), peak, form))
        while connection.recv():
            work(lr)  # wakes threads and caches
            started = time.perf_counter()
            work(lr)
            connection.send(time.perf_counter() - started)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - whatever a program dies of is the parent's to say
        connection.send(" ".join(f"{type(error).__name__}: {error}".split())[:300])


def compete(contest: Contest, programs: list[str], rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each program that runs; the first one is the reference."""
    name = f"{contest.model}, {contest.side}², {contest.threads} threads"
    with ExitStack() as stack:
        running, first = [], {}
        for program in programs:
            worker = stack.enter_context(Worker(program, contest))
            found = worker.answer()
            if isinstance(found, str):
                say(f"{name}: {program} is left out: {found}")
                continue
            running.append(worker)
            first[program] = found
        for number in range(rounds):
            times = [f"{worker.program} {worker.round():.3f}" for worker in running]
            say(f"{name}, round {number + 1}: " + ", ".join(times))
    flop = flop_per_pixel(build(load(contest.model))) * contest.side**2
    reference = running[0]
    for worker in running:
        result, peak, form = first[worker.program]
        gap = float(np.abs(result - first[reference.program][0]).max())
        median = statistics.median(worker.seconds)
        yield {
            "model": Path(contest.model).stem if contest.ncnn else contest.model,
            "backend": worker.program,
            "device": "cpu",
            "dtype": "bf16" if worker.program.endswith("-bf16") else "fp32",
            "threads": contest.threads,
            "lr_height": contest.side,
            "lr_width": contest.side,
            "seconds_median": median,
            "seconds_min": min(worker.seconds),
            "seconds_max": max(worker.seconds),
            "rounds": rounds,
            "gflops": flop / median / 1e9,
            "ratio_to_reference": statistics.median(reference.seconds) / median,
            "max_abs_diff": gap,
            "peak_rss_mib": peak,
            "form": form,
            "max_rel_diff": gap / float(np.abs(first[reference.program][0]).max()),
            "seconds_per_megapixel": median / (contest.side**2 / 1e6),
        }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("-m", "--model", action="append", help="name, file, or NAME=FILE.param")
    options.add_argument("--size", default="128", help="sides of the picture: 64,128")
    options.add_argument("--threads", default=str(torch.get_num_threads()), help="1,2")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument(
        "--peer", action="append", choices=list(PROGRAMS)[1:], help="default: all but bf16"
    )
    options.add_argument("--json", action="store_true", help="one object a row")
    given = options.parse_args()
    programs = ["plain", *dict.fromkeys(given.peer or USUAL[1:])]
    for program in [p for p in programs if p in PACKAGES and find_spec(PACKAGES[p]) is None]:
        say(f"{program} is left out: pip install {PACKAGES[program]}")
        programs.remove(program)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for text in given.model or ["esrgan", "swinir"]:
            name, _, file = text.partition("=")
            onnx = Path(folder) / "network.onnx"
            if {"onnxruntime", "openvino"} & set(programs):
                onnx = export_onnx(load(name), Path(folder) / f"{len(rows)}.onnx").path
            ncnn = Path(file or name) if (file or name).endswith(".param") else None
            for threads in map(int, given.threads.split(",")):
                for side in map(int, given.size.split(",")):
                    contest = Contest(name, ncnn, onnx, side, threads)
                    for row in compete(contest, programs, given.rounds):
                        rows.append(row)
                        if given.json:
                            print(json.dumps(row), flush=True)
    for keys in () if given.json else ((), ("seconds_per_megapixel",), ("max_rel_diff",)):
        print("\n" + (keys[0].replace("_", " ") if keys else "milliseconds, ratio to plain") + "\n")
        for count in dict.fromkeys(row["threads"] for row in rows):
            print(f"{count} threads\n")
            print("\n".join(table([r for r in rows if r["threads"] == count], keys)), end="\n\n")


if __name__ == "__main__":
    main()
