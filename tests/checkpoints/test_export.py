"""Networks as ONNX: in another runtime they give what they give here, at every size."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.test_contract import CONFIGS, build
from upscale import checkpoints
from upscale.checkpoints import Checkpoint, CheckpointInfo, SourceFile
from upscale.errors import OutputError, UsageError

onnx = pytest.importorskip("onnx", reason="onnx, of the extra onnx, is not installed")
runtime = pytest.importorskip(
    "onnxruntime", reason="onnxruntime, of the extra test, is not installed"
)

SIZES = [(2, 19, 22), (1, 16, 24), (1, 13, 18), (3, 31, 7), (1, 3, 50), (1, 50, 3), (1, 1, 1)]
TOLERANCE = 1e-5


def held(name: str) -> Checkpoint:
    network = build(CONFIGS[name])
    state = {key: value.detach().clone() for key, value in network.state_dict().items()}
    metadata = CheckpointInfo(title=f"The {name}", license="CC0-1.0")
    source = SourceFile(name, "ab" * 32)
    return Checkpoint(network.architecture, network.config, state, metadata, name, (source,))


def session(path: Path) -> runtime.InferenceSession:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(path: Path, checkpoint: Checkpoint, sizes: Iterable[tuple[int, int, int]]) -> None:
    """ONNX Runtime and the network give the same, on values in [0, 1] of every size."""
    network, runner = checkpoints.build(checkpoint), session(path)
    channels = network.channels + network.noise_channels
    for n, height, width in sizes:
        generator = torch.Generator().manual_seed(n + height + width)
        lr = torch.rand(n, channels, height, width, generator=generator)
        with torch.inference_mode():
            wanted = network(lr).numpy()
        (found,) = runner.run(["sr"], {"lr": lr.numpy()})
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_numbers_at_every_size(name: str, tmp_path: Path) -> None:
    checkpoint = held(name)
    path = checkpoints.export_onnx(checkpoint, tmp_path / "net.onnx").path
    check(path, checkpoint, SIZES)


@pytest.mark.parametrize("name", ["srcnn-x3", "esrgan", "swinir-light-x2"])
def test_embedded_weights(name: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(name)
    path = checkpoints.export_onnx(checkpoint, tmp_path / "net.onnx").path
    check(path, checkpoint, ((1, 21, 30), (1, 16, 16)))


def test_what_it_is_stands_in_the_file(quad: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(quad, alpha=0.5, denoise=0.25)
    saved = checkpoints.export_onnx(checkpoint, tmp_path / "net.onnx")
    model = onnx.load(saved.path)
    props = {prop.key: prop.value for prop in model.metadata_props}
    assert (props["scale"], props["channels"], props["architecture"]) == ("2", "3", "esrgan")
    assert json.loads(props["weights"]) == {s.name: s.sha256 for s in checkpoint.sources}
    assert (props["alpha"], props["denoise"]) == ("0.5", "0.25")
    assert [row["weight"] for row in json.loads(props["blend"])] == [0.375, 0.375, 0.125, 0.125]
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["N", 3, "H", "W"]
    single = checkpoints.export_onnx(held("srcnn-x2"), tmp_path / "single.onnx").path
    props = {prop.key: prop.value for prop in onnx.load(single).metadata_props}
    assert (props["title"], props["license"]) == ("The srcnn-x2", "CC0-1.0")
    assert props["sha256"] == "ab" * 32
    assert "alpha" not in props


def test_export_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = held("srcnn-x2")
    with pytest.raises(UsageError, match="change the suffix"):
        checkpoints.export_onnx(checkpoint, tmp_path / "net.pt")
    path = checkpoints.export_onnx(checkpoint, tmp_path / "net.onnx").path
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        checkpoints.export_onnx(checkpoint, path)
    assert checkpoints.export_onnx(checkpoint, path, overwrite=True).bytes == len(before)
    assert path.read_bytes() == before  # the same network, the same bytes
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'upscale\[onnx\]'"):
        checkpoints.export_onnx(checkpoint, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()
