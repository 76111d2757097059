"""``upscale bench``: rows, their keys, and what they say of each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toys import Toy
from upscale import benchmark as bench
from upscale import checkpoints
from upscale.benchmark import PAPER, Timing, benchmark, flop_per_pixel, load
from upscale.fast import native
from upscale.inference import Prepared, run

KEYS = [
    *("model", "backend", "device", "dtype", "threads", "lr_height", "lr_width", "tile"),
    *("seconds_median", "seconds_min", "seconds_max", "rounds", "gflops", "share_of_ceiling"),
    *("ratio_to_reference", "max_abs_diff", "peak_rss_mib"),
    *("form", "max_rel_diff", "seconds_per_megapixel"),
]
CPU = torch.device("cpu")
KERNELS = native.load()
HAS_BF16 = KERNELS is not None and KERNELS.in_bf16() is not None
PRECISIONS = ("fp32", "bf16") if HAS_BF16 else ("fp32",)


@pytest.fixture(autouse=True)
def _low_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_side", lambda device: 64)


def rows_of(
    model: str, *names: str, size: int = 20, dtypes: Sequence[str] = ("fp32",)
) -> list[Timing]:
    return list(
        benchmark(model, [(size, size)], device=CPU, dtypes=dtypes, backends=names, rounds=1)
    )


def test_json_rows_have_the_agreed_keys(cli: Callable[..., object], tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--size", "24x20,32", "--rounds", "2", "--json",
               "--device", "cpu", "--dtype", ",".join(PRECISIONS), "--tile", "off,16",
               "--backend", "upscale", "--threads", "1,2")  # fmt: skip
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.text.splitlines()]
    each = 1 + 2 * len(PRECISIONS)
    assert [list(row) for row in rows] == [KEYS] * 4 * each
    groups = [rows[k : k + each] for k in range(0, 4 * each, each)]
    for group in groups:
        ran = [(row["backend"], row["dtype"], row["tile"]) for row in group]
        tiles = (None, None if group[0]["lr_width"] == 24 else 16)  # 24x20 fits in a tile of 16
        ours = [("upscale", dtype, tile) for dtype in PRECISIONS for tile in tiles]
        assert ran == [("plain", "fp32", None), *ours]
    where = [{(row["threads"], row["lr_width"], row["lr_height"]) for row in g} for g in groups]
    assert where == [{(1, 24, 20)}, {(1, 32, 32)}, {(2, 24, 20)}, {(2, 32, 32)}]
    for row in rows:
        assert 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert row["peak_rss_mib"] > 10
        assert row["rounds"] == 2
        if row["backend"] == "plain":
            assert (row["ratio_to_reference"], row["max_abs_diff"]) == (1, 0)
            assert row["form"] == "eager"
        else:
            assert row["max_rel_diff"] < (1e-5 if row["dtype"] == "fp32" else 0.1)


def test_figures_of_a_row_follow_from_each_other(tiny: str) -> None:
    threads = torch.get_num_threads()
    rows = rows_of(tiny, "upscale", dtypes=PRECISIONS)
    assert torch.get_num_threads() == threads
    network = checkpoints.build(load(tiny))
    flop = flop_per_pixel(network) * 20 * 20
    with torch.no_grad():
        largest = float(network(bench.random_picture(network, (20, 20))).abs().max())
    for row in rows:
        assert row.gflops == pytest.approx(flop / row.seconds_median / 1e9)
        assert row.ratio_to_reference == pytest.approx(rows[0].seconds_median / row.seconds_median)
        assert row.seconds_per_megapixel == pytest.approx(row.seconds_median / 400e-6)
        assert row.max_rel_diff == pytest.approx(row.max_abs_diff / largest, rel=1e-5)
    ceilings = [row.gflops / row.share_of_ceiling for row in rows]
    assert ceilings[0] == pytest.approx(ceilings[1])


def test_the_difference_is_that_of_an_independent_run(duo: str) -> None:
    row = rows_of(duo, "upscale", dtypes=PRECISIONS)[-1]
    network = checkpoints.build(load(duo))
    lr = bench.random_picture(network, (20, 20))
    with torch.no_grad():
        plain = network(lr)
    strips = [rows for _, _, rows in run(network, lr, dtype=torch.bfloat16)]
    wanted = float((torch.cat(strips, -2) - plain).abs().max())
    assert wanted > (1e-4 if HAS_BF16 else 0)
    assert row.max_abs_diff == pytest.approx(wanted, rel=0.05)


def test_a_network_that_reads_noise_reads_the_same_in_every_form() -> None:
    plain, ours = rows_of("vae-light-x4", "upscale")
    assert (plain.backend, ours.backend) == ("plain", "upscale")
    assert ours.max_rel_diff < 1e-5


@pytest.mark.parametrize("has", [True, False])
def test_the_plain_form_runs_only_in_what_the_cpu_has(
    tiny: str, monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    monkeypatch.setattr(bench, "computes_in", lambda dtype, _: has or dtype.itemsize > 2)
    ran = [(row.backend, row.dtype) for row in rows_of(tiny, dtypes=("bf16",))]
    plain = [("plain", "bf16")] if has else []
    assert ran == [("plain", "fp32"), *plain, *([("upscale", "bf16")] if HAS_BF16 else [])]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system has no /proc")
def test_memory_is_the_peak_of_the_first_run(tiny: str) -> None:
    spent = np.ones(2**26)  # 512 MiB, given back before the run
    del spent
    small, large = (rows_of(tiny, "plain", size=size)[0] for size in (16, 800))
    assert large.peak_rss_mib - small.peak_rss_mib > (2 * 800) ** 2 * 4 / 2**20  # the result


def test_the_form_that_runs_is_named(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepared(network: torch.nn.Module, *_: object) -> Prepared:
        network.backend = "native avx2"  # type: ignore[assignment]
        return Prepared(network, network, CPU, torch.float32)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "prepare", prepared)
    assert [row.form for row in rows_of(tiny)] == ["eager", "native avx2"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here")
def test_a_gpu_has_the_plain_form_in_each_precision(duo: str) -> None:
    cuda = torch.device("cuda", 0)
    rows = list(benchmark(duo, [(32, 32)], device=cuda, dtypes=("fp32", "fp16"), rounds=1))
    ran = [(row.backend, row.dtype) for row in rows]
    assert ran == [(name, d) for d in ("fp32", "fp16") for name in ("plain", "upscale")]
    assert all(row.max_rel_diff < 0.05 for row in rows)


def test_the_table_is_for_people(cli: Callable[..., object], tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--size", "16", "--rounds", "1", "--device", "cpu")
    assert done.code == 0
    heading, *lines = done.text.splitlines()
    assert "ratio" in heading
    assert [line.split()[1] for line in lines] == ["plain", "upscale"]
    assert "16x16" in lines[0]


@pytest.mark.parametrize(
    "options",
    [
        *(("--size", "0"), ("--size", "axb"), ("--tile", "off,3"), ("--dtype", "fp8")),
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


@pytest.mark.slow
def test_other_programs_are_set_beside_ours(tiny: str, tiny_cache: Path) -> None:
    arguments = ("-m", tiny, "--size", "16", "--rounds", "1", "--threads", "1", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.peers", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "UPSCALE_CACHE": str(tiny_cache), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = [row["backend"] for row in rows]
    assert names[:2] == ["plain", "upscale"]
    assert ("onnxruntime" in names) == (find_spec("onnxruntime") is not None)
    assert all(row["max_rel_diff"] < 1e-5 and row["seconds_per_megapixel"] > 0 for row in rows)
    assert "ncnn is left out" in done.stderr  # it is given no ncnn model
    assert "round 1: plain" in done.stderr
