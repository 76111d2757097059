"""``-m FILE``: what runs, what is refused and how, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.checkpoints.nets import esrgan, srcnn
from tests.checkpoints.test_conversion import evil
from tests.checkpoints.test_layouts import to_old
from tests.conftest import Finished
from upscale import checkpoints
from upscale.checkpoints import Hints, build, load, save
from upscale.checkpoints.index import digest
from upscale.resample import resize

Cli = Callable[..., Finished]


@pytest.fixture(autouse=True)
def empty_cache(tiny: str) -> None:
    """A cache with the tiny models alone."""


def run(cli: Cli, *arguments: str | Path) -> tuple[int, bytes, list[str]]:
    """Exit status, stdout, and the lines on stderr that are no note on the device."""
    done = cli(*arguments)
    return done.code, done.out, [line for line in done.lines if "running on the CPU" not in line]


def refused(done: tuple[int, bytes, list[str]], *words: str) -> None:
    code, out, lines = done
    assert (code, out, len(lines)) == (2, b"", 1), done
    assert lines[0].startswith("upscale: error: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_a_flipped_byte_is_refused(cli: Cli, picture: Path) -> None:
    path = checkpoints.save(picture.parent / "flip.safetensors", esrgan()).path
    out = picture.parent / "out.png"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    done = run(cli, picture, "-m", path, "-o", out)
    refused(done, str(path), "damaged", "fetch or save it again")
    assert not out.exists()
    data[-100] ^= 1
    path.write_bytes(data)
    assert run(cli, picture, "-m", path, "-o", out)[0] == 0


def test_a_pth_runs_and_is_named_by_its_hash(cli: Cli, picture: Path) -> None:
    folder = picture.parent
    torch.save({"params_ema": to_old(dict(esrgan().state_dict()))}, folder / "net.pth")
    saved = checkpoints.save(folder / "same.safetensors", esrgan()).path
    records = []
    for k, model in enumerate((folder / "net.pth", folder / "net.pth", saved)):
        done = run(cli, picture, "-m", model, "-o", folder / f"{k}.png", "--json")
        assert done[0] == 0, done
        records.append(json.loads(done[1]))
    assert records[0]["weights"] == {"net": digest(folder / "net.pth")} == records[1]["weights"]
    first, second, third = (cv2.imread(str(folder / f"{k}.png")) for k in range(3))
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)


@pytest.mark.parametrize("which", range(5))
def test_a_malicious_pth_runs_nothing(cli: Cli, picture: Path, which: int) -> None:
    folder = picture.parent
    torch.save({"params": evil(folder / "owned")[which]}, folder / "evil.pth")
    done = run(cli, picture, "-m", folder / "evil.pth")
    refused(done, "evil.pth", "do not trust it")
    assert sorted(path.name for path in folder.iterdir()) == ["evil.pth", "picture.png"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; fetch"),
        (b"PK\x03\x04 and no more", "truncated, damaged, or no PyTorch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
    ],
)
def test_a_bad_checkpoint_is_wrong_usage(
    cli: Cli, picture: Path, content: bytes, words: str
) -> None:
    path = picture.parent / "bad.pth"
    path.write_bytes(content)
    refused(run(cli, picture, "-m", path), str(path), words)


def test_the_scale_of_an_srcnn_is_the_one_asked_for(cli: Cli, picture: Path) -> None:
    folder = picture.parent
    torch.save(dict(srcnn().state_dict()), folder / "srcnn.pth")
    done = cli(picture, "-m", folder / "srcnn.pth")
    assert (done.code, len(done.lines)) == (2, 1)
    assert "(--scale)" in done.err
    for scale in ("2", "3"):
        out = folder / f"{scale}.png"
        done = cli(picture, "-m", folder / "srcnn.pth", "-s", scale, "-o", out)
        assert done.code == 0, done.err
        network = build(load(folder / "srcnn.pth", Hints(scale=int(scale))))
        known = folder / f"known-x{scale}.safetensors"
        save(known, network)
        done = cli(picture, "-m", known, "-o", folder / f"{scale}-known.png")
        assert done.code == 0, done.err
        first, second = (cv2.imread(str(folder / n)) for n in (out, f"{scale}-known.png"))
        assert np.array_equal(first, second)
    assert cli(picture, "-m", folder / "srcnn.pth", "-s", "2.5", "-o", folder / "a.png").code == 2


def test_what_is_no_checkpoint_has_a_remedy(cli: Cli, picture: Path) -> None:
    folder = picture.parent
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), folder / "script.pt")
    (folder / "net.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(40))
    for name, words in (
        ("script.pt", "a TorchScript archive"),
        ("script.pt", "state_dict()"),
        ("net.onnx", "an ONNX file, which is not run here; give the .pth or .safetensors"),
        ("none.onnx", "no checkpoint file"),
    ):
        done = cli(picture, "-m", folder / name)
        assert (done.code, done.out, len(done.lines)) == (2, b"", 1)
        assert words in done.err


def test_what_is_not_pulled_is_wrong_usage(cli: Cli, picture: Path) -> None:
    refused(run(cli, picture, "-m", "real-esrgan"), "upscale weights pull real-esrgan")
    refused(run(cli, picture, "-m", "no.pth"), "no checkpoint file no.pth")


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ([], (48, 36)),
        (["-s", "3"], (36, 27)),
        (["-s", "2.5"], (30, 23)),
        (["--size", "31x17"], (17, 31)),
    ],
)
def test_bicubic_is_a_model(
    cli: Cli, picture: Path, options: list[str], size: tuple[int, int]
) -> None:
    out = picture.parent / "out.png"
    done = run(cli, picture, "-m", "bicubic", "-o", out, "--json", *options)
    assert done[0] == 0, done
    record = json.loads(done[1])
    assert (record["model"], record["weights"], record["alpha"]) == ("bicubic", {}, None)
    lr = torch.from_numpy(cv2.imread(str(picture))).permute(2, 0, 1)[None].double()
    wanted = resize(lr, size).clamp(0, 255)[0].permute(1, 2, 0).numpy()
    found = cv2.imread(str(out))
    assert found.shape[:2] == size
    assert np.abs(found - wanted).max() < 0.502  # rounded once


def test_bicubic_takes_no_alpha(cli: Cli, picture: Path) -> None:
    refused(run(cli, picture, "-m", "bicubic", "--alpha", "0.5"), "bicubic", "takes no alpha")
