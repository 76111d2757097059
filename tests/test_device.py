"""Devices, precisions, memory figures, the allocator."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from upscale import device as devices
from upscale import memory
from upscale.device import (
    DTYPES,
    choose_device,
    choose_dtype,
    dtype_name,
    to_host,
)
from upscale.errors import DeviceError
from upscale.memory import free_memory, is_out_of_memory

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")
HALVES = (torch.float32, torch.float16, torch.bfloat16)
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here"
)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices.say_once.cache_clear()


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_is_no_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "none")
    with caplog.at_level(logging.INFO, "upscale"):
        assert choose_device("auto") == CPU
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "no GPU that PyTorch can use; running on the CPU")
    ]


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_pytorch_cannot_use_is_a_warning_once_unless_it_is_hidden(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    with caplog.at_level(logging.WARNING, "upscale"):
        assert choose_device("auto") == choose_device("auto") == CPU
    assert len(caplog.records) == 1
    assert "NVIDIA GPU that PyTorch" in caplog.text
    devices.say_once.cache_clear()
    caplog.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto") == CPU
    assert not caplog.records


def test_a_gpu_that_fails_its_first_sum_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "_cuda_trouble", lambda _: "no kernel image is available")
    devices.say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "upscale"):
        assert choose_device("auto") == CPU
    assert "no kernel image is available" in caplog.text


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "tpu", "cuda:x", "cuda:-1", "CPU", ""])
def test_a_missing_or_unknown_device_is_an_error_with_a_remedy(name: str) -> None:
    with pytest.raises(DeviceError, match=r"use .*(cpu|auto)") as caught:
        choose_device(name)
    assert repr(name) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_gpu_number_beyond_the_last_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match=r"'cuda:2'.*cuda:0 to cuda:1"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "device", "precisions", "dtype"),
    [
        ("auto", CPU, HALVES, torch.float32),
        ("auto", MPS, HALVES, torch.float32),
        ("auto", CUDA, HALVES, torch.float16),
        ("auto", CUDA, (torch.float32, torch.bfloat16), torch.bfloat16),
        ("auto", CUDA, (torch.float32,), torch.float32),
        ("fp32", CUDA, HALVES, torch.float32),
        ("bf16", CPU, HALVES, torch.bfloat16),
        ("fp16", MPS, HALVES, torch.float16),
    ],
)
def test_precisions(
    name: str,
    device: torch.device,
    precisions: tuple[torch.dtype, ...],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_dtype(name, device, precisions) == dtype


def test_an_old_gpu_runs_fp32_where_bf16_was_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_dtype("auto", CUDA, (torch.float32, torch.bfloat16)) == torch.float32


@pytest.mark.parametrize(("name", "device"), [("fp16", CPU), ("bf16", MPS), ("int8", CPU)])
def test_precisions_that_cannot_run_are_errors(name: str, device: torch.device) -> None:
    with pytest.raises(DeviceError, match=f"'{name}'.* use"):
        choose_dtype(name, device, HALVES)


def test_an_untrusted_precision_runs_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    devices.say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "upscale"):
        assert choose_dtype("bf16", CPU, (torch.float32,)) == torch.bfloat16
    assert "not trusted" in caplog.text


def test_names_of_precisions() -> None:
    assert {dtype_name(dtype) for dtype in DTYPES.values()} == {"fp32", "fp16", "bf16"}


def test_memory_figures_are_plausible() -> None:
    assert 2**20 < free_memory(CPU) < 2**50


def test_a_cgroup_limit_counts_and_its_file_cache_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("104857600\n")
    (tmp_path / "memory.current").write_text("94371840\n")
    (tmp_path / "memory.stat").write_text("active_file 7\ninactive_file 41943040\n")
    monkeypatch.setattr(memory, "_cgroups", lambda: [(tmp_path, "memory.max", "memory.current")])
    assert free_memory(CPU) == 104857600 - 94371840 + 41943040
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 104857600


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts RLIMIT_AS")
def test_a_limit_of_the_address_space_counts() -> None:
    code = (
        "import resource, torch; from upscale.memory import free_memory;"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096;"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY));"
        "print(free_memory(torch.device('cpu')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**26 < int(done.stdout) <= 2**28


def test_real_exhaustion_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape '[2]' is invalid"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has mallopt")
def test_the_allocator_is_left_alone_where_the_user_has_set_it() -> None:
    code = "from upscale.memory import keep_large_blocks as k; print(k(), k())"
    for variable, expected in (("UNRELATED", None), ("MALLOC_TRIM_THRESHOLD_", "False False")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONSAFEPATH": "1", variable: "1000000"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == (expected or done.stdout.strip())
        assert done.stdout.split()[0] in ("True", "False")


@pytest.mark.cuda
@needs_cuda
def test_cuda_is_chosen_and_has_memory() -> None:
    device = choose_device("auto")
    assert device.type == "cuda"
    assert 2**20 < free_memory(device) <= torch.cuda.get_device_properties(device).total_memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_to_the_host(dtype: torch.dtype) -> None:
    tensor = torch.rand(2, 3, 5, 7).to(dtype)
    assert torch.equal(to_host(tensor), tensor)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU here")
def test_from_a_gpu_to_the_host() -> None:
    tensor = torch.rand(2, 3, 500, 700)
    for scale in (1, 2, 3):  # work on the stream that the copy must wait for
        moved = to_host(tensor.cuda().mul(scale)[:, :, ::2].transpose(-2, -1))
        assert moved.device.type == "cpu"
        assert torch.equal(moved, (tensor * scale)[:, :, ::2].transpose(-2, -1))
