"""Where networks run and in which precision; memory figures; the allocator's settings."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
from collections.abc import Iterator
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

_MIB = 2**20
_UNKNOWN_MEMORY = 4 * 2**30  # bytes assumed free where the system does not say
_SIGNS = (  # of exhausted memory in the RuntimeErrors of PyTorch, cuDNN, cuBLAS and Metal
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "could not create a memory",
)
_UNLIMITED = 2**60  # cgroup v1 writes "no limit" as a number near 2**63


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
        _say_once(f"the CUDA GPU cannot be used ({trouble}); running on the CPU")
        return torch.device("cpu")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    trouble = unused_gpu()
    if trouble:
        _say_once(f"{trouble}; running on the CPU")
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
def _say_once(message: str) -> None:
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
    if device.type == "cpu" and not computes_in(dtype, device):
        _say_once(
            f"this CPU only emulates {name}: it is slower than fp32, which --dtype fp32 takes"
        )
    if dtype not in (*precisions, torch.float32):
        _say_once(f"{name} is not trusted with this network; tiles that fail are redone in fp32")
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


def free_memory(device: torch.device) -> int:
    """Bytes that new tensors on ``device`` can take now.

    On CUDA this counts what PyTorch holds in reserve; on the CPU it respects cgroup and address
    space limits, so that it is right inside a container.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserve
    if device.type == "mps":
        used = torch.mps.driver_allocated_memory()
        return max(0, torch.mps.recommended_max_memory() - used)
    return min(_system_free(), *_limits(), _UNLIMITED)


def total_memory(device: torch.device) -> int:
    """Bytes of memory that ``device`` has (the CPU: that this process may use)."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    limits = (_read_int(folder / name) for folder, name, _ in _cgroups())
    return min(_physical(), *(limit for limit in limits if limit is not None), _UNLIMITED)


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_MEMORY


def _system_free() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _physical() // 2


def _limits() -> Iterator[int]:
    """Bytes left under each limit that binds this process."""
    for folder, maximum, current in _cgroups():
        limit, used = _read_int(folder / maximum), _read_int(folder / current)
        if limit is not None and used is not None:
            yield max(0, limit - used + _reclaimable(folder))
    if sys.platform != "win32":
        import resource  # not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        statm = Path("/proc/self/statm")
        if soft != resource.RLIM_INFINITY and statm.exists():
            used = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            yield max(0, soft - used)


def _cgroups() -> Iterator[tuple[Path, str, str]]:
    """Folders of the memory cgroups around this process, with their limit and usage file names."""
    own = Path("/proc/self/cgroup")
    if not own.exists():
        return
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = root / path.lstrip("/")
        for candidate in (folder, *folder.parents):
            if candidate.is_relative_to(root):
                yield candidate, *names


def _reclaimable(folder: Path) -> int:
    """Bytes of file cache that the kernel gives back before it refuses memory to a cgroup."""
    stat = folder / "memory.stat"
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _read_int(path: Path) -> int | None:
    """The number in a cgroup file; None where there is no file or no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and int(text) < _UNLIMITED else None


@functools.cache
def keep_large_blocks() -> bool:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel.

    A network's feature maps are freed and allocated again hundreds of times per tile; with the
    default settings each one is mapped anew and its pages fault in one by one. Nothing is changed
    where the user has set ``MALLOC_MMAP_THRESHOLD_`` or ``MALLOC_TRIM_THRESHOLD_`` or the C library
    is another one. Returns whether the settings are in force.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # of malloc.h
    kept = mallopt(mmap_threshold, 1024 * _MIB) and mallopt(trim_threshold, 2048 * _MIB - 1)
    # the arena of a second thread holds no block above 64 MiB: what a network asks for outside of
    # the main thread would be fresh pages each time
    return bool(kept and mallopt(arena_max, 1))


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU; from CUDA through pinned memory, which spares a copy."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release(device: torch.device) -> None:
    """Give memory that PyTorch keeps in reserve back to ``device``, after an out-of-memory."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
