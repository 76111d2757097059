"""Networks one after the other, and the share of the nets for real pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

import upscale
from upscale.checkpoints import save
from upscale.errors import UsageError
from upscale.models import SwinIR, SwinIRConfig
from upscale.settings import DEFAULT_DENOISE


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """(96, 96, 3) uint8, never compressed at this size."""
    return cv2.resize(data.astronaut()[:192, 128:320], (96, 96), interpolation=cv2.INTER_AREA)


def noisy(x: np.ndarray, sigma: float) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(0, sigma, x.shape)
    return np.clip(np.rint(x + drawn), 0, 255).astype(np.uint8)


def test_a_chain_is_its_networks_in_turn(duo: str, quad: str, clean: np.ndarray) -> None:
    lr = clean[:37, :50].astype(np.float32) / 255
    first = upscale.load(duo, device="cpu").image(lr)
    wanted = upscale.load(quad, device="cpu").image(first)
    chain = upscale.load(f"{duo},{quad}", device="cpu", tile=16)
    assert chain.scale == chain.native_scale == 4
    found = chain.image(lr)
    whole = upscale.load(f"{duo},{quad}", device="cpu").image(lr)
    assert found.shape == (148, 200, 3)
    worst = np.abs(whole - wanted).max()
    print(f"worst difference {worst:.2e}")
    assert worst < 1e-5
    assert np.abs(found - whole).max() < 2 / 255  # by tiles


def test_a_chain_enlarges_as_far_as_is_asked_for(duo: str, quad: str, clean: np.ndarray) -> None:
    half = upscale.load(f"{duo},{quad}", device="cpu", scale=3).image(clean[:20, :30])
    assert half.shape == (60, 90, 3)


def test_alpha_and_denoise_go_to_those_that_take_them(duo: str, quad: str) -> None:
    stages = upscale.load(f"{duo},{quad}", device="cpu", alpha=0.3, denoise=0.5).chain()
    assert [stage.alpha for stage in stages] == [0.3, 0.3]
    assert [stage.denoise for stage in stages] == [None, 0.5]


def test_the_order_of_a_chain_is_in_its_digest_and_name(
    cli: Callable[..., object], tmp_path: Path, duo: str, quad: str, clean: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), clean[:24, :24])
    for chain in (f"{duo},{quad}", f"{quad},{duo}"):
        done = cli(tmp_path / "a.png", "-m", chain, "--json")
        record = json.loads(done.out)  # type: ignore[attr-defined]
        assert record["model"] == chain
        assert Path(record["output"]).name == f"a_{chain.replace(',', '+')}_x4.png"
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), clean[:24, :24])
    states = []
    for chain in (f"{duo},{quad}", f"{duo},{quad}", f"{quad},{duo}"):
        done = cli(folder, "-o", f"{out}/", "-m", chain, "--json")
        states.append(json.loads(done.out)["status"])  # type: ignore[attr-defined]
    assert states == ["ok", "skipped", "ok"]


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ("tiny,duo", "takes RGB"),
        ("duo,tiny", "Y of the studio range"),
        ("duo,,quad", "a name is missing"),
        ("duo,nothing", "nothing"),
    ],
)
def test_a_chain_that_does_not_fit_is_wrong_usage(
    cli: Callable[..., object], tmp_path: Path, quad: str, chain: str, words: str
) -> None:
    del quad
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    done = cli(tmp_path / "a.png", "-m", chain)
    assert done.code == 2  # type: ignore[attr-defined]
    assert words in done.err  # type: ignore[attr-defined]
    assert len(done.err.strip().splitlines()) == 1  # type: ignore[attr-defined]
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_gray_of_two_ranges_is_no_chain(tmp_path: Path, tiny: str) -> None:
    net = SwinIR(
        SwinIRConfig(scale=1, channels=1, embed_dim=4, depths=(1,), num_heads=(1,), upsampler="")
    )
    save(tmp_path / "gray.safetensors", net)
    with pytest.raises(UsageError, match=r"gives gray and .* takes Y of the studio range"):
        upscale.load(f"{tmp_path / 'gray.safetensors'},{tiny}", device="cpu")


def test_a_share_is_the_same_for_every_picture(quad: str, clean: np.ndarray) -> None:
    """The default has a number of its own, which the word auto stands for too."""
    fixed = upscale.load(quad, device="cpu", denoise=DEFAULT_DENOISE)
    for up in (upscale.load(quad, device="cpu"), upscale.load(quad, device="cpu", denoise="auto")):
        assert up.settings.denoise is None
        for picture in (clean, noisy(clean, 15)):
            big, result = up.enlarge(upscale.Image(picture))
            assert result.denoise == DEFAULT_DENOISE
            assert np.array_equal(big.pixels, fixed.image(picture))


def test_the_share_is_in_the_record(
    cli: Callable[..., object], tmp_path: Path, quad: str, clean: np.ndarray
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), clean[:20, :20])
    for given, share in (("auto", DEFAULT_DENOISE), ("0.25", 0.25)):
        out = tmp_path / f"{given}.png"
        done = cli(tmp_path / "a.png", "-o", out, "-m", quad, "--denoise", given, "--json", "-v")
        assert json.loads(done.out)["denoise"] == share  # type: ignore[attr-defined]
        assert f"denoise {share:g}" in done.err  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "much"])
def test_denoise_out_of_range(
    cli: Callable[..., object], tmp_path: Path, quad: str, value: str
) -> None:
    done = cli(tmp_path / "a.png", "-m", quad, "--denoise", value)
    assert done.code == 2  # type: ignore[attr-defined]
    assert "denoise" in done.err  # type: ignore[attr-defined]


def test_denoise_of_a_model_without_such_nets(
    cli: Callable[..., object], tmp_path: Path, duo: str
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    assert cli(tmp_path / "a.png", "-m", duo, "--denoise", "auto").code == 0  # type: ignore[attr-defined]
    done = cli(tmp_path / "a.png", "-m", duo, "--denoise", "0.5", "--overwrite")
    assert done.code == 2  # type: ignore[attr-defined]
    assert "pair of nets for real pictures" in done.err  # type: ignore[attr-defined]


def test_evaluate_at_several_shares(
    cli: Callable[..., object], tmp_path: Path, quad: str, clean: np.ndarray
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), cv2.resize(clean, (288, 288), interpolation=cv2.INTER_CUBIC))
    done = cli(
        "evaluate",
        folder,
        "-m",
        quad,
        "--denoise",
        "0,0.5,auto",
        "--degrade",
        "clean,noise:20",
        "--json",
    )
    rows = [json.loads(line) for line in done.out.splitlines()]  # type: ignore[attr-defined]
    found = {(r["denoise"], r["degrade"]): r["psnr_y"] for r in rows if r["picture"] is None}
    shares = (0, 0.5, DEFAULT_DENOISE)
    assert set(found) == {(share, damage) for share in shares for damage in (None, "noise:20")}
    assert len(set(found.values())) == 6
    wrong = cli("evaluate", folder, "-m", "srcnn", "-s", "2", "--denoise", "0.5")
    assert wrong.code == 2  # type: ignore[attr-defined]
    assert "--denoise does not apply" in wrong.err  # type: ignore[attr-defined]
