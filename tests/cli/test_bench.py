"""``upscale bench``: rows, their keys, and what they say of each other."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toys import Toy
from upscale import checkpoints
from upscale import device as devices
from upscale.errors import UpscaleError, UsageError
from upscale.inference import Prepared, backends, run
from upscale.inference.backends import PAPER, Job, Worker, check_backends, load
from upscale.inference.benchmark import Row, benchmark, flop_per_pixel

KEYS = [
    *("model", "backend", "device", "dtype", "threads", "lr_height", "lr_width", "tile"),
    *("seconds_median", "seconds_min", "seconds_max", "rounds", "gflops", "share_of_ceiling"),
    *("ratio_to_reference", "max_abs_diff", "peak_rss_mib"),
    *("form", "max_rel_diff", "seconds_per_megapixel"),
]
CPU = torch.device("cpu")


def needs(peer: str) -> pytest.MarkDecorator:
    missing = [name for name in ("onnx", peer) if find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)}, of the extra bench, is not installed"
    )


PEERS = [pytest.param(peer, marks=needs(peer)) for peer in backends.PEERS]


def rows_of(
    model: str, *names: str, size: int = 20, dtypes: Sequence[str] = ("fp32",)
) -> list[Row]:
    return list(
        benchmark(model, [(size, size)], device=CPU, dtypes=dtypes, backends=names, rounds=1)
    )


def job(backend: str, model: str, dtype: torch.dtype = torch.float32, **more: object) -> Job:
    return Job(backend, model, (20, 24), CPU, dtype, 1, **more)  # type: ignore[arg-type]


def test_json_rows_have_the_agreed_keys(cli: Callable[..., object], tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--size", "24x20,32", "--rounds", "2", "--json",
               "--device", "cpu", "--dtype", "fp32,bf16", "--tile", "16",
               "--backend", "upscale", "--threads", "1,2")  # fmt: skip
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.text.splitlines()]
    assert [list(row) for row in rows] == [KEYS] * 12
    groups = [rows[k : k + 3] for k in range(0, 12, 3)]
    for group in groups:
        kinds = [(row["backend"], row["dtype"]) for row in group]
        assert kinds == [("plain", "fp32"), ("upscale", "fp32"), ("upscale", "bf16")]
    where = [{(row["threads"], row["lr_width"], row["lr_height"]) for row in g} for g in groups]
    assert where == [{(1, 24, 20)}, {(1, 32, 32)}, {(2, 24, 20)}, {(2, 32, 32)}]
    for row in rows:
        assert 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert row["peak_rss_mib"] > 10
        assert row["rounds"] == 2
        if row["backend"] == "plain":
            assert (row["ratio_to_reference"], row["max_abs_diff"], row["tile"]) == (1, 0, None)
            assert row["form"] == "eager"
        else:
            assert row["max_rel_diff"] < (1e-5 if row["dtype"] == "fp32" else 0.1)
    assert rows[4]["tile"] == 16


def test_figures_of_a_row_follow_from_each_other(tiny: str) -> None:
    rows = rows_of(tiny, "upscale", dtypes=("fp32", "bf16"))
    network = checkpoints.build(load(tiny))
    flop = flop_per_pixel(network) * 20 * 20
    with torch.no_grad():
        largest = float(network(backends.picture(network, (20, 20))).abs().max())
    for row in rows:
        assert row.gflops == pytest.approx(flop / row.seconds_median / 1e9)
        assert row.ratio_to_reference == pytest.approx(rows[0].seconds_median / row.seconds_median)
        assert row.seconds_per_megapixel == pytest.approx(row.seconds_median / 400e-6)
        assert row.max_rel_diff == pytest.approx(row.max_abs_diff / largest, rel=1e-5)
    ceilings = [row.gflops / row.share_of_ceiling for row in rows]
    assert ceilings[0] == pytest.approx(ceilings[1])
    if not devices.computes_in(torch.bfloat16, CPU):  # measured in what it is emulated by
        assert ceilings[2] == pytest.approx(ceilings[0])


def test_the_difference_is_that_of_an_independent_run(duo: str) -> None:
    row = rows_of(duo, "upscale", dtypes=("bf16",))[-1]
    network = checkpoints.build(load(duo))
    lr = backends.picture(network, (20, 20))
    with torch.no_grad():
        plain = network(lr)
    strips = [rows for _, _, rows in run(network, lr, dtype=torch.bfloat16)]
    wanted = float((torch.cat(strips, -2) - plain).abs().max())
    assert wanted > 1e-4
    assert row.max_abs_diff == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_computes_what_its_file_holds(peer: str, duo: str, tmp_path: Path) -> None:
    held = load("srcnn-9-5-5-x4")  # another network than the job names: the file counts
    path = checkpoints.export_onnx(held, tmp_path / "other.onnx").path
    network = checkpoints.build(held)
    gray = checkpoints.save(tmp_path / "gray.safetensors", network).path
    with Worker(job(peer, str(gray), exported=path)) as worker:
        first = worker.first()
        assert worker.seconds() > 0
    with torch.no_grad():
        wanted = network(backends.picture(network, (20, 24))).numpy()
    assert first.result.shape == wanted.shape
    assert np.abs(first.result - wanted).max() < 1e-5
    assert first.form[0].isdigit()


@pytest.mark.parametrize("peer", PEERS)
def test_peers_are_rows_beside_ours_with_the_same_result(peer: str, tiny: str) -> None:
    for model in (tiny, "vae-light-x4"):  # the second reads noise, and all read the same
        rows = rows_of(model, "upscale", peer)
        assert [row.backend for row in rows] == ["plain", "upscale", peer]
        assert all(row.max_rel_diff < 1e-5 for row in rows), rows


@needs("openvino")
def test_bf16_of_a_peer_is_measured_only_where_the_cpu_has_it(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for has in (True, False):
        monkeypatch.setattr(
            backends, "computes_in", lambda dtype, _, h=has: h or dtype.itemsize > 2
        )
        kinds = [
            name
            for name in check_backends((), CPU, (torch.bfloat16,))
            if backends.runs(name, CPU, torch.bfloat16)
        ]
        assert kinds == (["plain", "upscale", "openvino"] if has else ["upscale"])
    with pytest.raises(UsageError, match=r"'openvino' does not run in bf16 on cpu: use .*fp32"):
        check_backends(("openvino",), CPU, (torch.bfloat16,))
    with pytest.raises(UsageError, match=r"on cuda.*--device cpu"):
        check_backends(("openvino",), torch.device("cuda"), (torch.float32,))


def test_what_is_not_installed_is_left_out_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    assert check_backends((), CPU, (torch.float32,)) == ("plain", "upscale")
    with pytest.raises(UsageError, match=r"not installed: pip install 'upscale\[bench\]'"):
        check_backends(("onnxruntime",), CPU, (torch.float32,))


@needs("onnxruntime")
def test_a_peer_that_fails_is_said_in_a_line_and_left_out(
    cli: Callable[..., object], tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: object, path: Path) -> checkpoints.Saved:
        path.write_bytes(b"no network")
        return checkpoints.Saved(path, "", 10)

    def untraceable(_: object, path: Path) -> checkpoints.Saved:
        raise RuntimeError("the tracer\ngave up")

    for export, said in ((damaged, "it is left out"), (untraceable, "the tracer gave up")):
        monkeypatch.setattr(checkpoints, "export_onnx", export, raising=False)
        done = cli("bench", "-m", tiny, "--size", "16", "--rounds", "1", "--device", "cpu",
                   "--backend", "onnxruntime", "--backend", "upscale", "--json")  # fmt: skip
        assert done.code == 0
        assert [json.loads(line)["backend"] for line in done.text.splitlines()] == [
            "plain",
            "upscale",
        ]
        assert len(done.lines) == 1
        assert said in done.lines[0]


def test_a_back_end_that_dies_is_an_error(tiny: str) -> None:
    with Worker(job("plain", tiny)) as worker:
        worker.first()
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        with pytest.raises(UpscaleError, match=r"plain in fp32 on 24x20: its process ended"):
            worker.seconds()


def test_an_error_of_our_own_network_is_not_left_out(tiny_vae: Path) -> None:
    with pytest.raises(UpscaleError, match=r"upscale in fp32 on 20x20: .*tile"):
        list(benchmark(str(tiny_vae), [(20, 20)], device=CPU, tile=3, backends=("upscale",)))
    assert multiprocessing.active_children() == []


def test_memory_is_that_of_the_back_end_alone(tiny: str) -> None:
    ballast = np.ones(2**26)  # 512 MiB of this process
    small, large = (rows_of(tiny, "plain", size=size)[0] for size in (16, 1500))
    assert small.peak_rss_mib < ballast.nbytes / 2**20
    assert large.peak_rss_mib - small.peak_rss_mib > (2 * 1500) ** 2 * 4 / 2**20  # the result


def test_the_form_that_runs_is_named(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(network: torch.nn.Module, *_: object) -> Prepared:
        network.backend = "native avx2"  # type: ignore[assignment]
        return Prepared(network, network, CPU, torch.float32)  # type: ignore[arg-type]

    monkeypatch.setattr(backends, "prepare", prepared)
    assert backends.BACKENDS["upscale"](job("upscale", tiny)).form == "native avx2"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here")
def test_a_gpu_has_the_plain_form_in_each_precision_and_no_peers(duo: str) -> None:
    cuda = torch.device("cuda", 0)
    rows = list(benchmark(duo, [(32, 32)], device=cuda, dtypes=("fp32", "fp16"), rounds=1))
    kinds = [(row.backend, row.dtype) for row in rows]
    assert kinds == [(name, d) for d in ("fp32", "fp16") for name in ("plain", "upscale")]
    assert all(row.max_rel_diff < 0.05 for row in rows)


def test_the_table_is_for_people(cli: Callable[..., object], tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--size", "16", "--rounds", "1", "--device", "cpu",
               "--backend", "upscale")  # fmt: skip
    assert done.code == 0
    heading, *lines = done.text.splitlines()
    assert "ratio" in heading
    assert [line.split()[1] for line in lines] == ["plain", "upscale"]
    assert "16x16" in lines[0]


def test_emulated_precision_is_said_once(
    cli: Callable[..., object],
    tiny: str,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = ("bench", "-m", tiny, "--size", "16,20", "--rounds", "1", "--backend", "upscale")
    main_job = (picture, "-m", tiny, "-o", tmp_path / "out.png", "--overwrite")
    for command in (bench, main_job):
        for has in (False, True):
            monkeypatch.setattr(devices, "computes_in", lambda *_, h=has: h)
            devices._say_once.cache_clear()
            done = cli(*command, "--device", "cpu", "--dtype", "bf16")
            assert done.code == 0, done.err
            said = [line for line in done.lines if "only emulates bf16" in line]
            assert len(said) == (0 if has else 1), done.err


@pytest.mark.parametrize(
    "options",
    [
        *(("--size", "0"), ("--size", "axb"), ("--tile", "3"), ("--dtype", "fp8")),
        *(("--device", "tpu"), ("--threads", "0"), ("--threads", "1,x"), ("--backend", "tvm")),
    ],
)
def test_wrong_usage_is_one_line(
    cli: Callable[..., object], tiny: str, options: tuple[str, str]
) -> None:
    done = cli("bench", "-m", tiny, "--device", "cpu", *options)
    assert done.code == 2
    assert len([line for line in done.lines if line.startswith("upscale: error: ")]) == 1
    assert done.text == ""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system has no /proc")
def test_an_interrupt_leaves_no_process(command: Callable[..., subprocess.Popen[bytes]]) -> None:
    mark = f"BENCH_TEST={os.getpid()}-{time.monotonic_ns()}".encode()
    name, value = mark.decode().split("=")
    process = command("bench", "-m", "tiny", "--size", "16", "--rounds", "1000000",
                      "--device", "cpu", "--backend", "upscale",
                      env={name: value})  # fmt: skip
    wait_until(lambda: len(marked(mark)) >= 4)  # it, the server of forks, and two back ends
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    wait_until(lambda: not marked(mark))


def marked(mark: bytes) -> list[Path]:
    """Processes with a variable in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                found.append(path)
        except OSError:  # ended, or another user's
            continue
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_operations_are_counted_as_twice_the_multiplications() -> None:
    toy = Toy()
    first, last = toy.conv_first.weight.numel(), toy.conv_last.weight.numel()
    assert flop_per_pixel(toy) == 2 * (first + last * toy.scale**2)


def test_the_networks_of_the_papers_have_their_sizes_and_always_the_same_weights() -> None:
    assert {name: load(name).parameters for name in PAPER} == {
        "srcnn-9-5-5-x4": 57281,
        "rrdb-23-x4": 16697987,
        "swinir-s-x4": 929628,
        "swinir-m-x4": 11900199,
    }
    one, two = (load("srcnn-9-5-5-x4").state for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
