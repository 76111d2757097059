"""``upscale weights`` and ``upscale models``: what they print, write, refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.checkpoints.conftest import Site, cache, site  # noqa: F401
from tests.checkpoints.nets import assert_same, esrgan, srcnn
from tests.checkpoints.test_conversion import evil
from tests.checkpoints.test_download import DATA, NAME, STATE, wanted  # noqa: F401
from tests.checkpoints.test_layouts import to_old
from tests.conftest import Finished
from upscale import checkpoints
from upscale.checkpoints import WeightsFile
from upscale.checkpoints.index import official

Cli = Callable[..., Finished]


def rows(done: Finished) -> list[dict[str, object]]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.text.splitlines()]


def failed(done: Finished, words: str, code: int = 1) -> None:
    assert done.code == code
    assert done.out == b""
    assert len(done.lines) == 1
    assert done.err.startswith("upscale: error: ")
    assert words in done.err


def test_list(cli: Cli, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {row["name"]: row for row in rows(cli("weights", "list", "--json"))}
    assert found["tiny-x2"]["origin"] == "cached"
    assert len(str(found["tiny-x2"]["sha256"])) == 64
    done = cli("weights", "list")
    assert done.code == 0
    assert done.text.splitlines()[0].split()[:3] == ["weights", "network", "scale"]
    assert any(line.startswith("duo-gan-x2") for line in done.text.splitlines())


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("command", [["models"], ["weights", "list"], ["weights", "verify"]])
def test_tables_fit_the_terminal(
    cli: Cli, tiny: str, width: int, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli(*command).text.splitlines()
    assert max(map(len, lines)) <= width
    if width >= 40:
        assert any("tiny" in line for line in lines)


def test_models(cli: Cli, tiny: str) -> None:
    found = rows(cli("models", "--json"))
    names = [row["weights"] for row in found]
    assert set(official()) <= set(names)
    assert {row["where"] for row in found} >= {"cached", "pull"}
    assert (found[0]["model"], found[0]["weights"], found[0]["scale"]) == ("bicubic", None, None)
    done = cli("models")
    lines = done.text.splitlines()
    duo = next(line for line in lines if line.startswith("duo"))
    assert "alpha" in duo
    assert "denoise" not in duo
    assert "alpha, denoise" in next(line for line in lines if line.startswith("quad"))
    assert {row["model"]: row["takes"] for row in found}["quad"] == ["alpha", "denoise"]
    assert "x2" in duo
    assert any("x1 x2 x4 x8 x16" in line for line in lines)
    assert "upscale weights pull" in done.err
    installed = rows(cli("models", "--installed", "--json"))
    assert {row["where"] for row in installed} <= {"cached", "embedded", "built in"}
    assert cli("models", "--installed").err == ""


def test_info(cli: Cli, tmp_path: Path, tiny: str) -> None:
    torch.save({"params_ema": to_old(STATE)}, tmp_path / "net.pth")
    (found,) = rows(cli("weights", "info", tmp_path / "net.pth", "--json"))
    assert (found["architecture"], found["scale"], found["layout"]) == ("esrgan", 4, "esrgan-old")
    assert found["parameters"] == sum(v.numel() for v in STATE.values())
    text = cli("weights", "info", tmp_path / "net.pth").text
    assert "esrgan-old" in text
    assert "num_feat" in text
    assert "cached" not in cli("weights", "info", "tiny-x2").err
    saved = checkpoints.save(
        tmp_path / "a.safetensors", esrgan(), checkpoints.CheckpointInfo(title="\x1b[31mred\n")
    )
    text = cli("weights", "info", saved.path).text
    assert "\x1b" not in text
    assert r"\x1b[31mred\n" in text


def test_verify(cli: Cli, tmp_path: Path, tiny: str) -> None:
    found = rows(cli("weights", "verify", "tiny-x2", "duo-psnr-x2", "--json"))
    assert [row["status"] for row in found] == ["ok", "ok"]
    own = checkpoints.save(tmp_path / "own.safetensors", esrgan()).path
    assert cli("weights", "verify", own).code == 0
    own.write_bytes(own.read_bytes()[:-1] + b"!")
    done = cli("weights", "verify", "tiny-x2", own)
    assert done.code == 1
    assert "failed" in done.text
    assert "tiny-x2" in done.text
    failed(cli("weights", "verify", "nothing-x2"), "no model or weights named", 2)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, wanted: WeightsFile) -> WeightsFile:  # noqa: F811
    """The toy in the table, under its name and in a family of two."""
    second = replace(wanted, name="toy-psnr-x4", role="psnr")
    table = {"toy-x4": wanted, "toy-psnr-x4": second}
    monkeypatch.setattr("upscale.checkpoints.index.official", lambda: table)
    return wanted


def test_pull(cli: Cli, cache: Path, published: WeightsFile, site: Site) -> None:  # noqa: F811
    done = cli("weights", "pull", "toy-x4")
    assert done.code == 0
    assert done.out == b""
    assert "licence MIT" in done.lines[0]
    assert str(cache / "toy-x4.safetensors") in done.lines[-1]
    assert cli("weights", "pull", "toy-x4", "--quiet", "--offline").err == ""
    (row,) = rows(cli("weights", "pull", NAME, "--json", "--offline"))
    assert row["license"] == "MIT"
    assert len(site.requests) == 1
    assert len(rows(cli("weights", "pull", "toy", "--json"))) == 2
    assert cli("weights", "verify").code == 0
    assert len(checkpoints.select("toy")) == 2


def test_pull_refuses(cli: Cli, cache: Path, published: WeightsFile, site: Site) -> None:  # noqa: F811
    def last(*arguments: str) -> tuple[int, str]:
        done = cli("weights", "pull", "--quiet", *arguments)
        assert done.out == b""
        return done.code, done.err

    assert last("toy-x4", "--offline") == (
        1,
        f"upscale: error: toy-x4 is not in the cache ({cache}); run 'upscale weights pull toy-x4' "
        f"once without --offline\n",
    )
    assert last("toy-x5")[0] == 2
    assert last("toy", "--url", site.url(NAME))[0] == 2
    site.files[NAME] = DATA[:-1] + b"!"
    code, message = last("toy-x4")
    assert code == 1
    assert "SHA-256" in message
    del site.files[NAME]
    code, message = last("toy-x4")
    assert code == 1
    assert "404" in message
    assert not list(cache.glob("*.safetensors"))


def test_convert(cli: Cli, tmp_path: Path) -> None:
    source, target = tmp_path / "net.pth", tmp_path / "net.safetensors"
    torch.save(to_old(STATE), source)
    done = cli("weights", "convert", source, target, "--title", "My net", "--license", "CC0-1.0")
    assert done.code == 0
    assert done.out == b""
    loaded = checkpoints.load(target)
    assert_same(loaded.state, STATE)
    assert (loaded.metadata.title, loaded.metadata.license) == ("My net", "CC0-1.0")
    failed(cli("weights", "convert", source, target), "--overwrite")
    (row,) = rows(cli("weights", "convert", source, target, "--overwrite", "--half", "--json"))
    assert row["bytes"] == target.stat().st_size


def test_convert_says_what_a_rule_decided(cli: Cli, tmp_path: Path) -> None:
    torch.save(dict(srcnn().state_dict()), tmp_path / "best.pth")
    out = tmp_path / "out.safetensors"
    failed(cli("weights", "convert", tmp_path / "best.pth", out), "--scale", code=2)
    done = cli("weights", "convert", tmp_path / "best.pth", out, "--scale", "3")
    assert done.code == 0
    assert "note: scale 3" in done.err


def test_convert_refuses(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    torch.save(evil(tmp_path / "owned")[0], tmp_path / "evil.pth")
    failed(cli("weights", "convert", tmp_path / "evil.pth", out), "do not trust it", code=2)
    assert not (tmp_path / "owned").exists()
    torch.save({f"body.{n}.weight": torch.zeros(2) for n in range(9)}, tmp_path / "srvgg.pth")
    failed(cli("weights", "convert", tmp_path / "srvgg.pth", out), "SRVGGNetCompact", code=2)
    failed(cli("weights", "convert", tmp_path / "none.pth", out), "no checkpoint file", code=2)
    torch.save(STATE, tmp_path / "net.pth")
    nowhere = tmp_path / "no" / "out.safetensors"
    failed(cli("weights", "convert", tmp_path / "net.pth", nowhere), "create it first")
    failed(cli("weights", "convert", tmp_path / "net.pth", tmp_path / "a.pt"), "suffix", code=2)
    assert not out.exists()


def test_blend(cli: Cli, tmp_path: Path, duo: str) -> None:
    out = tmp_path / "mix.safetensors"
    done = cli("weights", "blend", "duo-psnr-x2=0.2", "duo-gan-x2=0.8", "-o", out)
    assert done.code == 0
    assert done.out == b""
    for key, tensor in checkpoints.resolve(duo, alpha=0.8).state.items():
        difference = (checkpoints.load(out).state[key] - tensor).abs().max()
        assert float(difference) <= 1e-7, key  # 1 - 0.8 is not quite 0.2
    assert checkpoints.load(out).metadata.merged_from == "duo-psnr-x2, duo-gan-x2"
    one = ["weights", "blend", "duo-psnr-x2=0", "duo-gan-x2=1", "-o", out]
    failed(cli(*one), "--overwrite")
    assert cli(*one, "--overwrite").code == 0
    assert_same(checkpoints.load(out).state, checkpoints.load("duo-gan-x2").state)
    (row,) = rows(cli(*one, "--overwrite", "--half", "--json"))
    assert row["architecture"] == "esrgan"


def test_four_are_blended(cli: Cli, tmp_path: Path, quad: str) -> None:
    out = tmp_path / "mix.safetensors"
    given = {"psnr": 0.1, "gan": 0.4, "real-psnr": 0.1, "real-gan": 0.4}
    parts = [f"quad-{role}-x2={share}" for role, share in given.items()]
    assert cli("weights", "blend", *parts, "-o", out).code == 0
    mixed = checkpoints.load(out)
    for key, tensor in checkpoints.resolve(quad, alpha=0.8, denoise=0.5).state.items():
        assert float((mixed.state[key] - tensor).abs().max()) <= 1e-7, key
    found = json.loads(mixed.metadata.blend)
    assert {row["name"]: row["weight"] for row in found} == {
        f"quad-{role}-x2": share for role, share in given.items()
    }
    assert [row["sha256"] for row in found] == [
        checkpoints.load(f"quad-{role}-x2").sha256 for role in given
    ]


def test_blend_refuses(cli: Cli, tmp_path: Path, duo: str) -> None:
    out = tmp_path / "mix.safetensors"
    for parts, words in (
        (["duo-psnr-x2=0.5", "duo-gan-x2=0.6"], "sum to 1.1"),
        (["duo-psnr-x2=-0.5", "duo-gan-x2=1.5"], "outside [0, 1]"),
        (["duo-psnr-x2", "duo-gan-x2=1"], "NAME=SHARE"),
        (["duo-psnr-x2=much", "duo-gan-x2=1"], "NAME=SHARE"),
        (["duo-psnr-x2=0.5", "tiny-x2=0.5"], "esrgan and tiny-x2 of srcnn"),
        (["duo-psnr-x2=0.5", "duo-gna-x2=0.5"], "did you mean duo-gan-x2"),
    ):
        failed(cli("weights", "blend", *parts, "-o", out), words, code=2)
    assert not out.exists()


def test_export(cli: Cli, tmp_path: Path, quad: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra onnx, is not installed")
    out = tmp_path / "net.onnx"
    done = cli("weights", "export", quad, "-o", out, "--alpha", "1", "--denoise", "0.5")
    assert (done.code, done.out) == (0, b"")
    assert "net.onnx: esrgan x2" in done.err
    props = {prop.key: prop.value for prop in onnx.load(out).metadata_props}
    assert list(json.loads(props["weights"])) == ["quad-gan-x2", "quad-real-gan-x2"]
    failed(cli("weights", "export", quad, "-o", out), "--overwrite")
    (row,) = rows(cli("weights", "export", "tiny", "-o", out, "--overwrite", "--json"))
    assert (row["path"], row["bytes"]) == (str(out), out.stat().st_size)
    for arguments, words in (
        ([quad, "-o", tmp_path / "net.pt"], "change the suffix"),
        (["tiny", "-o", out, "--denoise", "0.5"], "denoise 0.5 was given"),
        ([quad, "-o", out, "--denoise", "2"], "denoise 2 is outside [0, 1]"),
        (["bicubic", "-o", out], "bicubic, which is not exported"),
        (["nothing", "-o", out], "no model or weights named 'nothing'"),
    ):
        failed(cli("weights", "export", *arguments), words, code=2)


def test_lists_do_not_import_torch(tiny_cache: Path) -> None:
    code = (
        "import sys; from upscale.cli import status\n"
        "for command in (['models'], ['weights', 'list'], ['weights', 'verify']):\n"
        "    status([*command, '--json'])\n"
        "heavy = {'torch', 'numpy', 'cv2', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_names_everything(cli: Cli) -> None:
    text = cli("weights", "--help").text
    for name in ("list", "info", "verify", "pull", "convert", "blend", "export"):
        assert name in text
        assert cli("weights", name, "--help").code == 0
