"""Networks of the package spandrel, with random weights: recognised, run, tiled, refused."""

from __future__ import annotations

import importlib
import json
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.checkpoints.nets import assert_same, esrgan
from tests.checkpoints.test_layouts import to_old
from tests.conftest import Finished
from upscale import checkpoints
from upscale.checkpoints.index import digest
from upscale.errors import ArchitectureError, CheckpointError, UsageError
from upscale.inference import prepare, run

Cli = Callable[..., Finished]


TORCHVISION = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]


def _imported() -> types.ModuleType:
    """Spandrel, or the tests are skipped.

    Two of its networks, none of them here, take three names from torchvision when it is imported.
    Where torchvision is missing, or is of another torch, they are stood in for while it is.
    """
    stands_in = False
    try:
        importlib.import_module(TORCHVISION[-1])
    except (ImportError, RuntimeError, OSError):
        stands_in = True
        sys.modules.update({name: types.ModuleType(name) for name in TORCHVISION})
        for name in ("InterpolationMode", "rotate", "normalize"):
            setattr(sys.modules[TORCHVISION[-1]], name, object)
    try:
        found: types.ModuleType = pytest.importorskip(
            "spandrel", reason="spandrel, of the extra spandrel, is not installed"
        )
        return found
    finally:
        for name in TORCHVISION if stands_in else []:
            del sys.modules[name]


spandrel = _imported()


def compact() -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=3, num_out_ch=3, num_feat=16, num_conv=8, upscale=4)


def dat() -> nn.Module:
    from spandrel.architectures.DAT import DAT

    sizes = {"embed_dim": 32, "split_size": [8, 16], "depth": [3, 3], "num_heads": [4, 4]}
    return DAT(img_size=64, in_chans=3, expansion_factor=2.0, upscale=2, **sizes)


def hat() -> nn.Module:
    from spandrel.architectures.HAT import HAT

    sizes = {"embed_dim": 24, "depths": (2,), "num_heads": (2,), "window_size": 16}
    return HAT(img_size=64, compress_ratio=3, squeeze_factor=8, upscale=2, **sizes)


NETWORKS = {"Compact": (compact, 4, 1), "DAT": (dat, 2, 16), "HAT": (hat, 2, 16)}


def random(kind: str) -> nn.Module:
    """The network with random weights, attention sharp enough that what is far away matters."""
    torch.manual_seed(0)
    network = NETWORKS[kind][0]().eval()
    for name, value in network.named_parameters():
        if "qkv" in name:
            value.data *= 8
    return network


def smooth(height: int, width: int, channels: int = 3) -> torch.Tensor:
    """A picture with detail and structure, (1, C, H, W) in [0, 1]."""
    torch.manual_seed(1)
    coarse = F.interpolate(torch.rand(1, channels, 9, 8), (height, width), mode="bicubic")
    return (coarse + 0.1 * torch.randn(1, channels, height, width)).clamp(0, 1)


@pytest.fixture(params=NETWORKS)
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    return str(request.param)


def test_what_spandrel_recognises_runs(kind: str, tmp_path: Path) -> None:
    network = random(kind)
    path = tmp_path / "community.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    for _ in range(2):
        before = torch.random.get_rng_state()
        found = checkpoints.load(path)
        assert (found.architecture, found.config.network) == ("spandrel", kind)  # type: ignore[attr-defined]
        assert (found.scale, found.channels, found.sha256) == (NETWORKS[kind][1], 3, digest(path))
        built = checkpoints.build(found)
        assert torch.equal(before, torch.random.get_rng_state())
        assert (built.scale, built.multiple_of) == NETWORKS[kind][1:]
        assert torch.bfloat16 in built.precisions
        lr = torch.cat([smooth(32, 48), smooth(32, 48).flip(-1)])
        with torch.inference_mode():
            wanted = network(lr).clamp(0, 1)
            assert float((built(lr) - wanted).abs().max()) < 1e-5
            assert built(smooth(17, 21)).shape == (1, 3, 17 * built.scale, 21 * built.scale)


def test_torch_does_not_warn_of_it(kind: str) -> None:
    state = random(kind).state_dict()
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else once in a process
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            found = checkpoints.Checkpoint("spandrel", _config(state), state)
            checkpoints.build(found)(smooth(16, 24))
    finally:
        torch.set_warn_always(always)
    assert [str(warning.message) for warning in seen] == []


def test_tiled_is_whole_within_one_level(kind: str) -> None:
    state = random(kind).state_dict()
    found = checkpoints.Checkpoint("spandrel", _config(state), state)
    prepared = prepare(checkpoints.build(found))
    lr = smooth(110, 71)

    def rows(tile: int | str) -> torch.Tensor:
        return torch.cat([strip for _, _, strip in run(prepared, lr, tile=tile)], -2)  # type: ignore[arg-type]

    whole = rows("off")
    for tile in (32, 48):
        levels = float((rows(tile) - whole).abs().max()) * 255
        print(f"{kind}, tile {tile}: {levels:.4f} levels; values {whole.std():.3f}")
        assert levels < 1
    assert float(whole.std()) > 0.05  # not a flat picture


def _config(state: dict[str, torch.Tensor]) -> checkpoints.Checkpoint:
    from upscale.models.spandrel import recognised

    return recognised(state)[0]  # type: ignore[return-value]


def test_the_command_line_runs_it(cli: Cli, picture: Path, tmp_path: Path, kind: str) -> None:
    path, out = tmp_path / "community.pth", tmp_path / "out.png"
    torch.save(random(kind).state_dict(), path)
    done = cli(picture, "-m", path, "-o", out, "--json")
    assert done.code == 0, done.err
    (record,) = map(json.loads, done.text.splitlines())
    scale = NETWORKS[kind][1]
    assert record["weights"] == {"community": digest(path)}
    assert (record["out_width"], record["out_height"]) == (9 * scale, 12 * scale)
    saved = tmp_path / "community.safetensors"
    assert cli("weights", "convert", path, saved).code == 0
    assert_same(checkpoints.load(saved).state, checkpoints.load(path).state)
    with pytest.raises(UsageError, match="run by spandrel, which is not exported"):
        checkpoints.export_onnx(checkpoints.load(saved), tmp_path / "net.onnx")


def test_our_own_networks_stay_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save(to_old(dict(esrgan().state_dict())), tmp_path / "own.pth")
    assert checkpoints.load(tmp_path / "own.pth").architecture == "esrgan"


def test_without_the_extra_the_refusal_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save(random("DAT").state_dict(), tmp_path / "dat.pth")
    with pytest.raises(
        CheckpointError, match=r"it is a DAT; .* install 'upscale\[spandrel\]'"
    ) as e:
        checkpoints.load(tmp_path / "dat.pth")
    assert "\n" not in str(e.value)
    monkeypatch.delitem(sys.modules, "spandrel")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "spandrel.py").write_text("import torchvision.none_of_this_build")
    monkeypatch.setattr(torch, "__version__", "2.9.0+cpu")
    remedy = r"install torchvision --index-url https://download.pytorch.org/whl/cpu \(for torch 2.9"
    with pytest.raises(CheckpointError, match=remedy):
        checkpoints.load(tmp_path / "dat.pth")


def test_what_it_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spandrel.architectures.Compact import Compact

    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.pth"
    four = Compact(num_in_ch=4, num_out_ch=4, num_feat=8, num_conv=2, upscale=2)
    state = random("Compact").state_dict()
    short = {key: value for key, value in state.items() if key != "body.1.weight"}
    infinite = {**state, "body.0.bias": state["body.0.bias"] + float("inf")}
    for tensors, words in (
        (four.state_dict(), "Compact from 4 to 4 channels"),
        ({"lstm.weight": torch.zeros(3, 3)}, "spandrel does not know it either"),
        (short, r"net\.pth"),
        (infinite, "not finite"),
    ):
        torch.save(tensors, path)
        with pytest.raises(CheckpointError, match=words) as caught:
            checkpoints.load(path)
        assert "\n" not in str(caught.value)
    saved = checkpoints.save(tmp_path / "a.safetensors", _held(state)).path
    lying = replace(checkpoints.load(saved), state=random("DAT").state_dict())
    with pytest.raises(ArchitectureError, match="its header says"):
        checkpoints.build(lying)


def _held(state: dict[str, torch.Tensor]) -> checkpoints.Checkpoint:
    return checkpoints.Checkpoint("spandrel", _config(state), dict(state))  # type: ignore[arg-type]
