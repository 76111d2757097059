"""``upscale bench``: rows, their keys, and what they say of each other."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from tests.toys import Toy
from upscale.inference.benchmark import PAPER, benchmark, flop_per_pixel, paper_network

KEYS = [
    *("model", "backend", "device", "dtype", "threads", "lr_height", "lr_width", "tile"),
    *("seconds_median", "seconds_min", "seconds_max", "rounds", "gflops", "share_of_ceiling"),
    *("ratio_to_reference", "max_abs_diff", "peak_rss_mib"),
]


def test_json_rows_have_the_agreed_keys(cli: Callable[..., object], tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--size", "24x20,32", "--rounds", "2", "--json",
               "--device", "cpu", "--dtype", "fp32,bf16", "--tile", "16")  # fmt: skip
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.text.splitlines()]
    assert [list(row) for row in rows] == [KEYS] * 6
    assert [(r["backend"], r["dtype"]) for r in rows[:3]] == [
        ("reference", "fp32"),
        ("upscale", "fp32"),
        ("upscale", "bf16"),
    ]
    assert {(r["lr_width"], r["lr_height"]) for r in rows} == {(24, 20), (32, 32)}
    for row in rows:
        assert 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert row["peak_rss_mib"] > 10
        assert row["rounds"] == 2
        if row["backend"] == "reference":
            assert (row["ratio_to_reference"], row["max_abs_diff"], row["tile"]) == (1, 0, None)
        else:
            assert row["max_abs_diff"] < (1e-5 if row["dtype"] == "fp32" else 0.1)
    assert rows[4]["tile"] == 16


def test_the_table_is_for_people(cli: Callable[..., object], tiny: str) -> None:
    done = cli("bench", "-m", tiny, "--size", "16", "--rounds", "1", "--device", "cpu")
    assert done.code == 0
    assert "ratio" in done.text
    assert "16x16" in done.text


@pytest.mark.parametrize(
    "options",
    [("--size", "0"), ("--size", "axb"), ("--tile", "3"), ("--dtype", "fp8"), ("--device", "tpu")],
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
    counts = {name: sum(p.numel() for p in paper_network(name).parameters()) for name in PAPER}
    assert counts == {
        "srcnn-9-5-5-x4": 57281,
        "rrdb-23-x4": 16697987,
        "swinir-s-x4": 929628,
        "swinir-m-x4": 11900199,
    }
    one, two = (paper_network("srcnn-9-5-5-x4").state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_network_is_left_as_it_was() -> None:
    toy = Toy().train()
    rows = list(benchmark("toy", toy, (20, 20), device=torch.device("cpu"), rounds=1))
    assert len(rows) == 2
    assert toy.training
