"""``upscale doctor``: versions, devices, memory, weights, codecs: what works here, what not."""

from __future__ import annotations

import importlib
import json as json_module
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import typer

from upscale.cli.console import printable
from upscale.cli.startup import quick_imports

PACKAGES = ("torch", "numpy", "cv2", "PIL", "pyvips", "safetensors", "fsspec", "rich", "typer")
EXTRAS = {
    "s3fs": "s3",
    "aiohttp": "http",
    "ray": "ray",
    "scipy": "convert",
    "matplotlib": "train",
    "pillow_jxl": "jxl",
    "onnxruntime": "bench",
    "openvino": "bench",
}

State = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        part: What it belongs to.
        name: What it is.
        state: ``ok``; ``missing`` (it is optional); ``failed`` (something will not work).
        detail: The version, the amount, or the reason and the remedy.
    """

    part: str
    name: str
    state: State
    detail: str


app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> int:
    """Look at versions, devices, memory, weights, and codecs; exit status 1 if one fails."""
    failed = False
    part = ""
    for check in checks():
        failed |= check.state == "failed"
        if json:
            print(json_module.dumps(asdict(check)))
            continue
        if check.part != part:
            part = check.part
            print(part)
        print(f"  {check.state:<8}{check.name:<24}{printable(check.detail)}".rstrip())
    return 1 if failed else 0


def checks() -> Iterator[Check]:
    """Yield every check, the costly ones last."""
    from upscale import __version__

    yield Check("versions", "upscale", "ok", __version__)
    yield Check("versions", "python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield Check("versions", "system", "ok", platform.platform())
    yield from _packages()
    for part in (_devices, _memory, _weights, _codecs):
        yield from _guarded(part)


def _guarded(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield the checks of a part; what breaks it is a failed check, not the end."""
    try:
        yield from part()
    except Exception as error:  # noqa: BLE001 - a diagnosis goes on past what is broken
        message = " ".join(str(error).split())
        yield Check(part.__name__.strip("_"), type(error).__name__, "failed", message)


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            with quick_imports():
                module = importlib.import_module(name)
        except ImportError as error:
            yield Check("versions", name, "failed", f"{error}; pip install upscale again")
        else:
            yield Check("versions", name, "ok", str(getattr(module, "__version__", "")))
    for name, extra in EXTRAS.items():
        if importlib.util.find_spec(name) is None:
            yield Check("versions", name, "missing", f"optional: pip install 'upscale[{extra}]'")
        else:
            yield Check("versions", name, "ok", f"extra {extra}")


def _devices() -> Iterator[Check]:
    import torch

    from upscale.device import choose_device, unused_gpu

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    yield Check("devices", "cpu", "ok", f"{threads}, {torch.backends.cpu.get_cpu_capability()}")
    yield _kernels()
    if not torch.cuda.is_available():
        trouble = unused_gpu()
        state: State = "failed" if trouble else "missing"
        reason = trouble or "no GPU that this PyTorch can use"
        yield Check("devices", "cuda", state, reason)
    for index in range(torch.cuda.device_count()):
        yield _cuda(index)
    if torch.backends.mps.is_available():
        yield Check("devices", "mps", "ok", "Apple GPU")
    yield Check("devices", "auto", "ok", f"--device auto takes {choose_device('auto')}")


def _kernels() -> Check:
    from upscale.fast.native import load, trouble

    kernels = load()
    if kernels is None:
        reason = trouble() or "switched off by UPSCALE_KERNELS"
        return Check("devices", "kernels", "missing", f"{reason}; CPUs run PyTorch, slower")
    return Check("devices", "kernels", "ok", f"compiled, running {kernels.name}")


def _cuda(index: int) -> Check:
    import torch

    from upscale.memory import free_memory

    name = f"cuda:{index}"
    try:
        total = float(torch.ones(64, 64, device=name).matmul(torch.ones(64, 64, device=name)).sum())
    except RuntimeError as error:
        return Check("devices", name, "failed", " ".join(str(error).split()))
    free = free_memory(torch.device(name)) / 2**30
    state: State = "ok" if total == 64.0**3 else "failed"
    return Check(
        "devices", name, state, f"{torch.cuda.get_device_name(index)}, {free:.1f} GiB free"
    )


def _memory() -> Iterator[Check]:
    import tempfile

    import torch

    from upscale.memory import free_memory

    free = free_memory(torch.device("cpu")) / 2**30
    yield Check("memory", "memory", "ok" if free > 1 else "failed", f"{free:.1f} GiB free")
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 4096)
        file.flush()
    yield Check("memory", "temporary files", "ok", tempfile.gettempdir())


def _weights() -> Iterator[Check]:
    from upscale.checkpoints import entries
    from upscale.errors import UpscaleError

    found = entries()
    if not found:
        yield Check("weights", "embedded", "failed", "none found; install upscale again")
    for entry in found:
        try:
            sha256 = entry.verify()
        except UpscaleError as error:
            yield Check("weights", entry.name, "failed", str(error))
        else:
            yield Check("weights", entry.name, "ok", f"SHA-256 {sha256[:12]}... as recorded")


def _codecs() -> Iterator[Check]:
    import numpy as np

    from upscale.errors import UpscaleError
    from upscale.image import FORMATS, Image, decode, encode

    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    for kind in FORMATS.values():
        label, names = kind.name, " ".join(f".{extension}" for extension in kind.extensions)
        needs = getattr(kind, "needs", "")
        if not kind.writable:
            yield Check("codecs", label, "ok", f"read only: {names}")
            continue
        if needs and importlib.util.find_spec(needs) is None:
            yield Check("codecs", label, "missing", "optional: pip install 'upscale[jxl]'")
            continue
        try:
            back = decode(encode(Image(pixels), kind.name))
        except UpscaleError as error:
            yield Check("codecs", label, "failed", str(error))
        else:
            same = back.pixels.shape == pixels.shape
            state: State = "ok" if same else "failed"
            detail = f"read and write: {names}" if same else "comes back changed"
            yield Check("codecs", label, state, detail)
