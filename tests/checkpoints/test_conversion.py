"""Foreign files: what is read, what is refused, and that no pickle is ever run."""

from __future__ import annotations

import io
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.io import savemat
from torch import Tensor

from tests.checkpoints.nets import assert_same, esrgan, srcnn
from tests.checkpoints.test_layouts import to_new, to_old
from upscale import checkpoints
from upscale.checkpoints import CheckpointInfo, Hints, convert
from upscale.checkpoints.conversion import WRAPPERS, read_foreign, unwrap
from upscale.checkpoints.files import read_header
from upscale.checkpoints.index import digest
from upscale.errors import ArchitectureError, CheckpointError, OutputError, UsageError
from upscale.models import SRCNNConfig

STATE = dict(esrgan().state_dict())


def written(path: Path, value: Any, **more: Any) -> Path:
    torch.save(value, path, **more)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ".dat"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files(suffix: str, zipped: bool, tmp_path: Path) -> None:
    source = written(
        tmp_path / f"net{suffix}", to_old(STATE), _use_new_zipfile_serialization=zipped
    )
    done = convert(source, tmp_path / "net.safetensors")
    assert done.checkpoint.layout == "esrgan-old"
    loaded = checkpoints.load(tmp_path / "net.safetensors")
    assert loaded.sha256 == done.saved.sha256
    assert loaded.layout == "native"
    assert_same(loaded.state, STATE)
    assert loaded.metadata.layout == "esrgan-old"
    assert loaded.metadata.source == source.name
    assert loaded.metadata.source_sha256 == digest(source)


def test_metadata_given_is_kept(tmp_path: Path) -> None:
    source = written(tmp_path / "a.pth", STATE)
    given = CheckpointInfo(title="T", license="MIT", source="https://example.org/a.pth")
    convert(source, tmp_path / "a.safetensors", metadata=given)
    found = checkpoints.load(tmp_path / "a.safetensors").metadata
    assert (found.title, found.license, found.source) == ("T", "MIT", given.source)


@pytest.mark.parametrize("wrapper", [*WRAPPERS, "anything", "my.own"])
def test_wrappers(wrapper: str) -> None:
    assert_same(unwrap({wrapper: to_new(STATE)}), to_new(STATE))
    assert_same(unwrap({wrapper: {"state_dict": STATE}, "epoch": 3}), STATE)


def test_the_average_is_preferred() -> None:
    other = {k: v + 1 for k, v in STATE.items()}
    assert_same(unwrap({"params": other, "params_ema": STATE}), STATE)
    assert_same(unwrap(OrderedDict(params_ema=STATE, params=other)), STATE)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    assert_same(unwrap({"state_dict": STATE, "optimizer": optimizer, "best": 3.5}), STATE)


@pytest.mark.parametrize("value", [3, [torch.zeros(2)], {}, {"a": 1}, {"a": {}, "b": {}}, None])
def test_no_state_dict(value: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no state dict"):
        read_foreign(written(tmp_path / "a.pth", value))


def test_numpy_scalars_of_trainers_are_read(tmp_path: Path) -> None:
    extras = {"best": np.float64(31.5), "epoch": np.int64(7), "lr": np.float32(1e-4)}
    found = read_foreign(written(tmp_path / "a.pth.tar", {"state_dict": STATE, **extras}))
    assert_same(found.state, STATE)


def test_numpy_scalars_of_older_numpy_are_read(tmp_path: Path) -> None:
    value = {"state_dict": STATE, "best": np.float64(31.5)}
    source = written(tmp_path / "a.pth.tar", value, _use_new_zipfile_serialization=False)
    data = source.read_bytes()
    names = (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert names[0] in data
    source.write_bytes(data.replace(*names))
    assert_same(read_foreign(source).state, STATE)


class Evil:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def evil(target: Path) -> list[Evil]:
    import os

    code = f"open({str(target)!r}, 'w').close()"
    return [
        Evil(exec, code),
        Evil(eval, f"__import__('pathlib').Path({str(target)!r}).touch()"),
        Evil(os.system, f'"{sys.executable}" -c "{code}"'),
        Evil(Path.touch, target),
        Evil(np.save, str(target), 1),
    ]


def test_a_pth_is_loaded(tmp_path: Path) -> None:
    source = written(tmp_path / "net.pth", {"params": to_old(STATE)})
    first = checkpoints.resolve(source)
    assert_same(first.state, STATE)
    assert [(s.name, s.sha256) for s in first.sources] == [("net", digest(source))]
    assert (first.name, first.path) == ("net", source)
    other = {key: value + 1 for key, value in STATE.items()}
    written(source, {"params": to_old(other)})  # another file of that name is another network
    assert_same(checkpoints.load(source).state, other)


def test_the_name_of_a_pth_tells_the_scale_each_time(tmp_path: Path) -> None:
    state = dict(srcnn().state_dict())
    for scale in (2, 3):
        source = written(tmp_path / f"best_x{scale}.pth", state)
        assert checkpoints.load(source).scale == scale
    assert checkpoints.load(tmp_path / "best_x2.pth", Hints(scale=4)).scale == 4


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("form", ["zip", "legacy", "plain", "tensors beside it"])
def test_a_malicious_pickle_runs_nothing(which: int, form: str, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    bad = evil(target)[which]
    source = tmp_path / "evil.pth"
    if form == "plain":
        source.write_bytes(pickle.dumps(bad))
    else:
        value = {"params": STATE, "extra": bad} if form == "tensors beside it" else bad
        torch.save(value, source, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "out.safetensors")
    assert not target.exists()
    assert not (tmp_path / "out.safetensors").exists()
    assert "\n" not in str(caught.value)
    if form != "plain":
        assert re.search(
            r"asks to run [\w.]*(exec|eval|system|touch|save|Path|getattr)", str(caught.value)
        )
    with pytest.raises(CheckpointError):  # nor by the name of a safe file
        checkpoints.load(source.rename(tmp_path / "evil.safetensors"))
    assert not target.exists()


def test_the_malicious_pickle_would_run(tmp_path: Path) -> None:
    """The test above tests something: an ordinary load does what the pickle says."""
    pickle.loads(pickle.dumps(evil(tmp_path / "owned")[0]))
    assert (tmp_path / "owned").exists()


def zip_of(path: Path) -> bytes:
    return path.read_bytes()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = zip_of(written(tmp_path / "net.pth", STATE))
    legacy = zip_of(written(tmp_path / "old.pth", STATE, _use_new_zipfile_serialization=False))
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as packed:
        packed.writestr("readme.txt", "no network")
    cases = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "cut at the end": whole[:-30],
        "legacy cut": legacy[: len(legacy) // 2],
        "legacy cut early": legacy[:40],
        "another zip": other.getvalue(),
        "page": b"<!DOCTYPE html><title>404</title>",
        "page after space": b"\n\n  <html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "text": b"hello world, this is no checkpoint",
        "zeros": bytes(100),
    }
    for name, data in cases.items():
        source = tmp_path / f"{name}.pth"
        source.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            convert(source, tmp_path / "out.safetensors")
        assert str(source) in str(caught.value), name
        assert "\n" not in str(caught.value), name
        assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        convert(tmp_path / "none.pth", tmp_path / "out.safetensors")


def test_tensors_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    """A stride of 0 makes terabytes of four bytes; nothing of that size is made here."""
    huge = torch.zeros(1).expand(1 << 20, 1 << 20)
    with pytest.raises(CheckpointError, match="no plain array"):
        read_foreign(written(tmp_path / "a.pth", {**STATE, "conv_hr.bias": huge}))
    sparse = torch.eye(3).to_sparse()
    with pytest.raises(CheckpointError):
        read_foreign(written(tmp_path / "b.pth", {**STATE, "conv_hr.bias": sparse}))


def test_outputs_are_guarded(tmp_path: Path) -> None:
    source = written(tmp_path / "a.pth", STATE)
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="--overwrite"):
        convert(source, target)
    assert target.read_bytes() == b"old"
    convert(source, target, overwrite=True)
    with pytest.raises(UsageError, match="is the input itself"):
        convert(target, target, overwrite=True)
    with pytest.raises(UsageError, match="change the suffix"):
        convert(source, tmp_path / "b.pt")


def test_safetensors_in_foreign_layouts(tmp_path: Path) -> None:
    save_file({f"params_ema.{k}": v for k, v in to_new(STATE).items()}, tmp_path / "a.safetensors")
    done = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", half=True)
    assert done.checkpoint.layout == "esrgan-new"
    assert read_header(tmp_path / "b.safetensors")["upscale.dtype"] == "float16"


@pytest.mark.parametrize(
    ("name", "scale"),
    [("srcnn_x3.pth", 3), ("SRCNN-X2-T91.pth", 2), ("x4.pth", 4), ("best.pth", None)],
)
def test_srcnn_scale_from_the_name(name: str, scale: int | None, tmp_path: Path) -> None:
    source = written(tmp_path / name, dict(srcnn().state_dict()))
    if scale is None:
        with pytest.raises(ArchitectureError, match="--scale"):
            read_foreign(source)
        scale = 5
        found = read_foreign(source, Hints(scale=5))
    else:
        found = read_foreign(source)
        assert read_foreign(source, Hints(scale=6)).scale == 6
    assert found.scale == scale
    bare = tmp_path / f"{name.removesuffix('.pth')}.safetensors"
    save_file({**srcnn().state_dict(), "n_averaged": torch.zeros(1)}, bare)
    hints = Hints(scale=5) if scale == 5 else None
    assert checkpoints.load(bare, hints).scale == scale


def matlab_srcnn(kernels: tuple[int, int, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Variables as the authors store them: patches flattened column by column."""
    random = np.random.default_rng(seed)
    (f1, f2, f3), (n1, n2) = kernels, (6, 4)
    shapes = {"weights_conv1": (f1 * f1, n1), "weights_conv2": (n1, f2 * f2, n2)}
    shapes |= {"weights_conv3": (n2, f3 * f3), "biases_conv1": (n1, 1)}
    shapes |= {"biases_conv2": (n2, 1), "biases_conv3": (1, 1)}
    return {key: random.normal(0, 0.1, shape).astype(np.float32) for key, shape in shapes.items()}


def imfilter(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """MATLAB's imfilter(…, 'same', 'replicate'): correlation, written out."""
    side = kernel.shape[0]
    padded = np.pad(picture, side // 2, mode="edge")
    out = np.zeros_like(picture, dtype=np.float64)
    for y in range(side):
        for x in range(side):
            out += kernel[y, x] * padded[y : y + picture.shape[0], x : x + picture.shape[1]]
    return out


def matlab_forward(variables: dict[str, np.ndarray], picture: np.ndarray) -> np.ndarray:
    """The authors' SRCNN.m in numpy: MATLAB's reshape fills columns first."""

    def side(count: int) -> int:
        return round(count**0.5)

    w1, w2, w3 = (variables[f"weights_conv{k}"] for k in (1, 2, 3))
    b1, b2, b3 = (variables[f"biases_conv{k}"].ravel() for k in (1, 2, 3))
    f1, f2, f3 = side(w1.shape[0]), side(w2.shape[1]), side(w3.shape[1])
    first = []
    for i in range(w1.shape[1]):
        kernel = w1[:, i].reshape(f1, f1, order="F")
        first.append(np.maximum(imfilter(picture, kernel) + b1[i], 0))
    second = []
    for i in range(w2.shape[2]):
        total = sum(
            imfilter(first[j], w2[j, :, i].reshape(f2, f2, order="F")) for j in range(w2.shape[0])
        )
        second.append(np.maximum(total + b2[i], 0))
    total = sum(imfilter(second[i], w3[i].reshape(f3, f3, order="F")) for i in range(w3.shape[0]))
    return np.asarray(total + b3[0])


@pytest.mark.parametrize("kernels", [(9, 1, 5), (9, 3, 5), (9, 5, 5)])
def test_matlab_srcnn_gives_the_authors_numbers(
    kernels: tuple[int, int, int], tmp_path: Path
) -> None:
    variables = matlab_srcnn(kernels)
    savemat(tmp_path / "x3.mat", variables)
    done = convert(tmp_path / "x3.mat", tmp_path / "out.safetensors")
    assert done.checkpoint.config == SRCNNConfig(3, 1, kernels, (6, 4))
    network = checkpoints.build(done.checkpoint)
    enlarged = np.random.default_rng(1).uniform(0, 1, (13, 17))
    with torch.no_grad():
        sr = network.refine(torch.from_numpy(enlarged).float()[None, None])  # type: ignore[operator]
    wanted = matlab_forward(variables, enlarged)
    assert np.abs(sr[0, 0].numpy() - wanted).max() < 1e-6


def test_other_matlab_files_are_refused(tmp_path: Path) -> None:
    variables = matlab_srcnn((9, 1, 5))
    savemat(tmp_path / "a.mat", {"w": np.zeros(3), "x": np.zeros(2)})
    with pytest.raises(ArchitectureError, match="holds w, x"):
        read_foreign(tmp_path / "a.mat")
    savemat(tmp_path / "b.mat", variables | {"weights_conv2": np.zeros((5, 2, 3), np.float32)})
    with pytest.raises(ArchitectureError, match="no SRCNN's"):
        read_foreign(tmp_path / "b.mat", Hints(scale=2))
    savemat(tmp_path / "c.mat", variables)
    data = (tmp_path / "c.mat").read_bytes()
    for cut in (200, len(data) // 2):
        (tmp_path / "c.mat").write_bytes(data[:cut])
        with pytest.raises(CheckpointError):
            read_foreign(tmp_path / "c.mat", Hints(scale=2))


def test_matlab_needs_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat(tmp_path / "x2.mat", matlab_srcnn((9, 1, 5)))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(CheckpointError, match=r"pip install 'upscale\[convert\]'"):
        read_foreign(tmp_path / "x2.mat")


def test_zero_padding_is_not_used() -> None:
    """Replication at the edge, as the authors test; zero padding gives other numbers there."""
    network = srcnn().eval()
    picture: Tensor = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    state = network.state_dict()
    x = picture
    for k, side in ((1, 9), (2, 1), (3, 5)):
        x = F.pad(x, (side // 2,) * 4, mode="replicate")
        x = F.conv2d(x, state[f"conv{k}.weight"], state[f"conv{k}.bias"])
        x = F.relu(x) if k < 3 else x
    with torch.no_grad():
        assert torch.allclose(network.refine(picture), x, atol=1e-6)  # type: ignore[operator]
