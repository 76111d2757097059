"""Where networks run and in which precision."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path

import torch

from upscale.errors import DeviceError

logger = logging.getLogger(__name__)

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

DRIVER = Path("/proc/driver/nvidia/gpus")  # one folder for each GPU that NVIDIA's driver knows


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` takes CUDA, else MPS, else the CPU. It logs when it falls back to the CPU: a warning
    where there is a GPU that it cannot use, else for those who ask for details.

    Raises:
        DeviceError: The name is unknown, or this machine has no such device.
    """
    if name == "auto":
        return _best_device()
    kind, _, index = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps' is not available here: use --device cpu or auto")
        return torch.device("mps")
    if kind == "cuda" and (index.isdecimal() or name == "cuda"):
        return _cuda(name, int(index or 0))
    raise DeviceError(f"device {name!r} is unknown: use auto, cpu, cuda, cuda:N, or mps")


def _cuda(name: str, index: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceError(
            f"device {name!r} is not available: this PyTorch finds no CUDA GPU; use --device cpu"
        )
    if index >= count:
        raise DeviceError(f"device {name!r} does not exist: use cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        device = torch.device("cuda", 0)
        trouble = _cuda_trouble(device)
        if not trouble:
            return device
        say_once(f"the CUDA GPU cannot be used ({trouble}); running on the CPU")
        return torch.device("cpu")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    trouble = unused_gpu()
    if trouble:
        say_once(f"{trouble}; running on the CPU")
    else:
        logger.info("no GPU that PyTorch can use; running on the CPU")
    return torch.device("cpu")


def unused_gpu() -> str:
    """Say that the driver knows a GPU which this PyTorch cannot use; empty where all is well.

    A GPU that ``CUDA_VISIBLE_DEVICES`` hides is not missed.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or torch.cuda.is_available() or not any(DRIVER.glob("*")):
        return ""
    return f"there is an NVIDIA GPU that PyTorch {torch.__version__} cannot use"


@functools.cache
def _cuda_trouble(device: torch.device) -> str:
    """Why a first small computation on ``device`` fails, in one line; empty where it works."""
    try:
        torch.ones(8, device=device).add_(1).sum().item()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


@functools.cache
def say_once(message: str) -> None:
    """Warn, the first time that it is said in this process."""
    logger.warning(message)


def choose_dtype(
    name: str, device: torch.device, precisions: tuple[torch.dtype, ...] = (torch.float32,)
) -> torch.dtype:
    """The precision called ``name`` (``auto``, ``fp32``, ``fp16``, ``bf16``) on ``device``.

    Args:
        name: ``auto`` takes the best half precision of ``precisions`` on CUDA, fp32 elsewhere.
        device: The device that runs.
        precisions: What the network is trusted in, best first after float32.

    Raises:
        DeviceError: The name is unknown, or the device cannot compute in it.
    """
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        halves = (d for d in precisions if d != torch.float32 and _supports(device, d))
        return next(halves, torch.float32)
    if name not in DTYPES:
        raise DeviceError(f"dtype {name!r} is unknown: use auto, {', '.join(DTYPES)}")
    dtype = DTYPES[name]
    if not _supports(device, dtype):
        raise DeviceError(f"dtype {name!r} cannot run on {device}: use --dtype fp32")
    if dtype not in (*precisions, torch.float32):
        say_once(f"{name} is not trusted with this network; tiles that fail are redone in fp32")
    return dtype


def _supports(device: torch.device, dtype: torch.dtype) -> bool:
    if dtype == torch.float32:
        return True
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return dtype == torch.bfloat16
    return dtype == torch.float16


def computes_in(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether ``device`` has instructions for ``dtype``; a CPU may only emulate bfloat16."""
    if device.type == "cpu" and dtype == torch.bfloat16:
        # torch has had this list since 2.9; without it bfloat16 is not chosen
        flags: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(flags.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return _supports(device, dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """The short name of a precision: the inverse of :data:`DTYPES`."""
    return {value: key for key, value in DTYPES.items()}[dtype]


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU; from CUDA through pinned memory, which spares a copy."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host
