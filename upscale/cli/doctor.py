"""``upscale doctor``: versions, devices, memory, weights, codecs: what works here, what not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import typer

from upscale.cli.commands import quick_imports
from upscale.cli.console import Column, show_json, show_table

PACKAGES = ("torch", "numpy", "cv2", "PIL", "pyvips", "safetensors", "fsspec", "rich", "typer")
EXTRAS = {
    "s3fs": "s3",
    "aiohttp": "http",
    "ray": "ray",
    "scipy": "convert",
    "matplotlib": "train",
    "pillow_jxl": "jxl",
    "onnx": "onnx",
    "spandrel": "spandrel",
}

# ok; missing (it is optional); failed (something will not work)
State = Literal["ok", "missing", "failed"]
Check = tuple[str, State, str]  # what, and the version, the amount, or the reason and the remedy
app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> int:
    """Look at versions, devices, memory, weights, and codecs; exit status 1 if one fails."""
    failed = False
    for part in (_versions, _devices, _memory, _weights, _codecs):
        title, checks = part.__name__.strip("_"), []
        for name, state, detail in _guarded(part):
            failed |= state == "failed"
            if json:
                show_json([{"part": title, "name": name, "state": state, "detail": detail}])
            checks.append((state, name, detail))
        if not json:
            show_table((Column(title), Column("what"), Column("", wrap=True)), checks)
            print()
    return 1 if failed else 0


def _guarded(part: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield the checks of a part; what breaks it is a failed check, not the end."""
    try:
        yield from part()
    except Exception as error:  # noqa: BLE001 - a diagnosis goes on past what is broken
        yield type(error).__name__, "failed", " ".join(str(error).split())


def _versions() -> Iterator[Check]:
    from upscale import __version__

    yield "upscale", "ok", __version__
    yield "python", "ok", f"{platform.python_version()} ({sys.executable})"
    yield "system", "ok", platform.platform()
    for name in PACKAGES:
        try:
            with quick_imports():
                module = importlib.import_module(name)
        except ImportError as error:
            yield name, "failed", f"{error}; pip install upscale again"
        else:
            yield name, "ok", str(getattr(module, "__version__", ""))
    for name, extra in EXTRAS.items():
        if importlib.util.find_spec(name) is None:
            yield name, "missing", f"optional: pip install 'upscale[{extra}]'"
        else:
            yield name, "ok", f"extra {extra}"


def _devices() -> Iterator[Check]:
    import torch

    from upscale.device import choose_device, unused_gpu

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    yield "cpu", "ok", f"{threads}, {torch.backends.cpu.get_cpu_capability()}"
    yield _kernels()
    if not torch.cuda.is_available():
        trouble = unused_gpu()
        nothing = "no GPU that this PyTorch can use"
        yield "cuda", "failed" if trouble else "missing", trouble or nothing
    for index in range(torch.cuda.device_count()):
        yield _cuda(index)
    if torch.backends.mps.is_available():
        yield "mps", "ok", "Apple GPU"
    yield "auto", "ok", f"--device auto takes {choose_device('auto')}"


def _kernels() -> Check:
    from upscale.fast.native import load, trouble

    kernels = load()
    if kernels is None:
        reason = trouble() or "switched off by UPSCALE_KERNELS"
        return "kernels", "missing", f"{reason}; CPUs run PyTorch, slower"
    return "kernels", "ok", f"compiled, running {kernels.name}"


def _cuda(index: int) -> Check:
    import torch

    from upscale.memory import free_memory

    name = f"cuda:{index}"
    try:
        total = float(torch.ones(64, 64, device=name).matmul(torch.ones(64, 64, device=name)).sum())
    except RuntimeError as error:
        return name, "failed", " ".join(str(error).split())
    free = free_memory(torch.device(name)) / 2**30
    detail = f"{torch.cuda.get_device_name(index)}, {free:.1f} GiB free"
    return name, "ok" if total == 64.0**3 else "failed", detail


def _memory() -> Iterator[Check]:
    import tempfile

    import torch

    from upscale.memory import free_memory

    free = free_memory(torch.device("cpu")) / 2**30
    yield "memory", "ok" if free > 1 else "failed", f"{free:.1f} GiB free"
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 4096)
        file.flush()
    yield "temporary files", "ok", tempfile.gettempdir()


def _weights() -> Iterator[Check]:
    from upscale.checkpoints import entries
    from upscale.errors import UpscaleError

    found = entries()
    if not found:
        yield "embedded", "failed", "none found; install upscale again"
    for entry in found:
        try:
            sha256 = entry.verify()
        except UpscaleError as error:
            yield entry.name, "failed", str(error)
        else:
            yield entry.name, "ok", f"SHA-256 {sha256[:12]}... as recorded"


def _codecs() -> Iterator[Check]:
    import numpy as np

    from upscale.errors import UpscaleError
    from upscale.image import FORMATS, Image, decode, encode

    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    for kind in FORMATS.values():
        label, names = kind.name, " ".join(f".{extension}" for extension in kind.extensions)
        needs = getattr(kind, "needs", "")
        if not kind.writable:
            yield label, "ok", f"read only: {names}"
            continue
        if needs and importlib.util.find_spec(needs) is None:
            yield label, "missing", "optional: pip install 'upscale[jxl]'"
            continue
        try:
            back = decode(encode(Image(pixels), kind.name))
        except UpscaleError as error:
            yield label, "failed", str(error)
        else:
            if back.pixels.shape == pixels.shape:
                yield label, "ok", f"read and write: {names}"
            else:
                yield label, "failed", "comes back changed"
