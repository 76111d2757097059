"""Fixtures shared by all tests: tiny models, pictures, the command line in process and outside."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny pictures; other processes may want cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # else threads spin where cores are shared

# The installed package is tested, with the kernels built for it; only ``tests`` comes from here.
# Programs that tests start would find ``upscale`` in the folder where pytest was started.
os.environ["PYTHONSAFEPATH"] = "1"
_ROOT = Path(__file__).parents[1]
sys.path[:] = [*(entry for entry in sys.path if Path(entry).resolve() != _ROOT), str(_ROOT)]

if "UPSCALE_TEST_KERNELS" in os.environ:  # a library built in another way: with a sanitizer
    from upscale.fast import native

    native.LIBRARY = Path(os.environ["UPSCALE_TEST_KERNELS"])


@dataclass(frozen=True)
class Finished:
    """What a run of the command line left behind."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines on stderr."""
        return self.err.splitlines()

    @property
    def text(self) -> str:
        """Stdout as text."""
        return self.out.decode()


class _Stream(io.TextIOWrapper):
    """A text stream over bytes in memory, no terminal."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", newline="")

    def bytes(self) -> bytes:
        self.flush()
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue()


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny seeded weights: ``tiny`` (SRCNN x2), ``duo`` (ESRGAN x2, a pair), ``quad`` (two)."""
    import torch

    from upscale.checkpoints import WeightsFile, save, update_index
    from upscale.models.esrgan import ESRGAN, ESRGANConfig
    from upscale.models.srcnn import SRCNN, SRCNNConfig

    folder = tmp_path_factory.mktemp("cache")
    weights = folder / "weights"
    weights.mkdir()
    rows = [("tiny-x2", "tiny", "", 1), ("duo-psnr-x2", "duo", "psnr", 2)]
    rows.append(("duo-gan-x2", "duo", "gan", 3))
    roles = ("psnr", "gan", "real-psnr", "real-gan")
    rows += [(f"quad-{role}-x2", "quad", role, 4 + k) for k, role in enumerate(roles)]
    for name, family, role, seed in rows:
        torch.manual_seed(seed)
        if family == "tiny":
            network = SRCNN(SRCNNConfig(scale=2, kernels=(3, 1, 3), filters=(4, 2)))
        else:
            network = ESRGAN(ESRGANConfig(scale=2, num_feat=4, num_block=1, num_grow=2))
        last = network.conv3 if isinstance(network, SRCNN) else network.conv_last
        torch.nn.init.constant_(last.bias, 0.5)  # so that results are not clipped
        path = weights / f"{name}.safetensors"
        save(path, network)
        entry = WeightsFile(
            name=name,
            file=path.name,
            sha256=_sha256(path),
            bytes=path.stat().st_size,
            architecture=network.architecture,
            scale=2,
            family=family,
            role=role,  # type: ignore[arg-type]
            default=True,
            origin="cached",
        )
        update_index(weights, entry)
    return folder


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a tiny SRCNN x2 that can be loaded in this test."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tiny_cache))
    return "tiny"


@pytest.fixture
def duo(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a tiny pair of ESRGANs x2."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tiny_cache))
    return "duo"


@pytest.fixture
def quad(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of two tiny pairs of ESRGANs x2, one for clean and one for real pictures."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tiny_cache))
    return "quad"


@pytest.fixture(scope="session")
def tiny_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a tiny VAE x2 whose draws differ by some levels."""
    import torch

    from upscale.checkpoints import save
    from upscale.models import VAE, VAEConfig

    torch.manual_seed(9)
    config = VAEConfig(scale=2, latent=2, num_feat=4, num_block=1, num_grow=2, num_hidden=6)
    network = VAE(config)
    torch.nn.init.constant_(network.base.conv_last.bias, 0.5)
    torch.nn.init.normal_(network.conv_detail.weight, std=2.0)
    path = tmp_path_factory.mktemp("vae") / "vae-tiny-x2.safetensors"
    save(path, network)
    return path


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """Run the command line in this process: ``cli("a.png", "-o", "b.png", stdin=b"...")``."""

    def call(*arguments: str | os.PathLike[str], stdin: bytes = b"") -> Finished:
        from upscale.cli import status

        source, out, err = _Stream(stdin), _Stream(), _Stream()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = status([os.fspath(argument) for argument in arguments])
        return Finished(code, out.bytes(), err.bytes().decode())

    return call


@pytest.fixture
def command(tiny_cache: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command line as a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []
    environment = dict(os.environ, UPSCALE_CACHE=str(tiny_cache), OMP_NUM_THREADS="1")

    def start(*arguments: str | bytes | Path, **more: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "upscale", *arguments],
            stdin=more.get("stdin", subprocess.DEVNULL),  # type: ignore[call-overload]
            stdout=more.get("stdout", subprocess.PIPE),
            stderr=more.get("stderr", subprocess.PIPE),
            cwd=more.get("cwd"),
            env=environment | more.get("env", {}),  # type: ignore[operator]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        if process.stdin is not None and process.stdin.closed:
            process.stdin = None
        process.wait()


def draw(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A seeded picture of smooth shapes and noise, (H, W, C) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None]
    phase = random.uniform(0, 6, channels)
    waves = np.sin(x / 7 + phase) + np.cos(y / 5 - phase)
    waves = waves + random.normal(0, 0.2, (height, width, channels))
    return np.clip(waves * 50 + 128, 0, 255).astype(np.uint8)


def png(height: int = 8, width: int = 10, channels: int = 3, seed: int = 0) -> bytes:
    """The bytes of a small seeded PNG."""
    from upscale.image import Image, encode

    return encode(Image(draw(height, width, channels, seed)), "png")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small PNG in a folder of its own."""
    path = tmp_path / "picture.png"
    path.write_bytes(png(12, 9))
    return path


def only_pictures(folder: Path) -> list[str]:
    """Relative paths of all files in a folder but the journal's, sorted."""
    found = (path for path in folder.rglob("*") if path.is_file())
    relative = (path.relative_to(folder) for path in found)
    return sorted(str(path) for path in relative if path.parts[0] != ".upscale")
