"""Named damage against other implementations of the same, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from upscale.checkpoints import save
from upscale.degradations import CLEAN, degrade, parse_degradations
from upscale.errors import DataError, UsageError
from upscale.evaluate import (
    Baseline,
    Candidate,
    evaluate,
    find_sets,
    load_candidate,
    make_pair,
)
from upscale.evaluate.pictures import to_pixels, to_tensor
from upscale.metrics import psnr
from upscale.models import SwinIR, SwinIRConfig
from upscale.settings import Settings

Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(150, 181, 3) uint8 of a photograph."""
    return np.ascontiguousarray(data.astronaut()[40:190, 140:321])


def damaged(picture: np.ndarray, chain: str, name: str = "a") -> np.ndarray:
    (made,) = parse_degradations([chain])
    return degrade(picture, made, name)


# --- each kind ----------------------------------------------------------------------------------


def test_blur_is_a_gaussian_with_mirrored_borders(picture: np.ndarray) -> None:
    exact = gaussian_filter(picture.astype(float), (0.8, 0.8, 0), mode="reflect", radius=(4, 4, 0))
    got = damaged(picture, "blur:0.8")
    assert np.abs(got - exact).max() <= 0.5 + 1e-9
    assert np.array_equal(got, np.round(got))


@pytest.mark.parametrize(("kind", "independent"), [("noise:10", True), ("gray-noise:10", False)])
def test_noise_has_its_sigma_and_channels(
    picture: np.ndarray, kind: str, independent: bool
) -> None:
    middle = picture * 0 + np.uint8([128, 100, 90])
    noise = damaged(middle, kind) - middle
    assert noise.std() == pytest.approx(np.hypot(10, 12**-0.5), rel=0.015)
    assert noise.mean() == pytest.approx(0, abs=0.1)
    across = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.allclose(across, np.eye(3) if independent else 1, atol=0.02)
    along = np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]
    assert abs(along) < 0.02
    got = damaged(picture, kind)
    assert np.array_equal(got, np.round(got))
    assert (got.min(), got.max()) == (0, 255)


def test_noise_is_the_same_everywhere_and_of_its_own_for_each_picture_and_step(
    picture: np.ndarray,
) -> None:
    flat = picture[:2, :3] * 0 + np.uint8([128, 100, 90])
    known = [[[114, 96, 81], [111, 108, 102], [115, 109, 90]]]  # of NumPy's frozen stream
    assert damaged(flat, "noise:10", "baby")[:1].tolist() == known
    assert not np.array_equal(damaged(picture, "noise:10"), damaged(picture, "noise:10", "b"))
    first, second = damaged(flat, "noise:10") - flat, damaged(flat, "noise:10+noise:10") - flat
    assert not np.array_equal(2 * first, second)


def test_unrounded_noise_is_that_of_the_denoising_papers(picture: np.ndarray) -> None:
    """By the steps of SwinIR's test script: OpenCV's order of channels, float32, seed 0."""
    bgr = picture[..., ::-1].astype(np.float32) / 255
    np.random.seed(0)
    want = bgr + np.random.normal(0, 25 / 255.0, bgr.shape)
    got = damaged(picture, "noise-float:25")
    np.testing.assert_allclose(got, want[..., ::-1] * 255, rtol=0, atol=2e-5)
    assert got.min() < 0
    assert got.max() > 255


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_jpeg_is_420_by_the_real_codec(picture: np.ndarray, quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=quality, subsampling="4:2:0")
    want = np.asarray(Image.open(file), float)
    got = damaged(picture, f"jpeg:{quality}")
    assert np.abs(got - want).max() <= 1
    full = io.BytesIO()
    Image.fromarray(picture).save(full, "jpeg", quality=quality, subsampling="4:4:4")
    assert np.abs(got - np.asarray(Image.open(full), float)).max() > 4


def test_webp_by_the_real_codec(picture: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "webp", quality=50, method=4)
    want = np.asarray(Image.open(file), float)
    assert psnr(to_tensor(damaged(picture, "webp:50")), to_tensor(want)) > 40


def test_a_gray_picture_stays_gray(picture: np.ndarray) -> None:
    gray = np.repeat(picture[..., 1:2], 3, 2)
    for chain in ("jpeg:30", "webp:30", "noise:10", "noise-float:15", "blur:1"):
        got = damaged(gray, chain)
        assert got.shape == gray.shape
        assert (got == got[..., :1]).all()
        assert not np.array_equal(got, gray)


def test_chains_run_from_left_to_right(picture: np.ndarray) -> None:
    blurred = damaged(picture, "blur:0.8").astype(np.uint8)
    assert np.array_equal(damaged(picture, "blur:0.8+jpeg:75"), damaged(blurred, "jpeg:75"))
    assert not np.array_equal(
        damaged(picture, "blur:0.8+jpeg:30"), damaged(picture, "jpeg:30+blur:0.8")
    )


def test_a_picture_too_large_for_a_codec_is_named() -> None:
    with pytest.raises(DataError, match=r"17000x1 pixels are too many for a \.webp"):
        damaged(np.zeros((1, 17000, 3), np.uint8), "webp:50")


# --- names --------------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.sampled_from(["jpeg", "webp"]), st.integers(1, 100)),
    st.tuples(st.sampled_from(["noise", "gray-noise"]), st.integers(1, 2550).map(lambda v: v / 10)),
    st.tuples(st.just("blur"), st.integers(1, 200).map(lambda v: v / 10)),
)


@given(st.lists(STEPS, min_size=1, max_size=5))
def test_names_are_read_back(steps: list[tuple[str, float]]) -> None:
    text = "+".join(f"{kind}:{value:g}" for kind, value in steps)
    (made,) = parse_degradations([text])
    assert made.name == text
    assert list(made) == steps


def test_lists_and_the_clean_picture() -> None:
    made = parse_degradations(["clean,jpeg:075, noise:5.0+jpeg:75", "blur:1"])
    assert [m.name for m in made] == [None, "jpeg:75", "noise:5+jpeg:75", "blur:1"]
    assert made[0] == CLEAN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jpg:50", "'jpg' is no kind of damage"),
        ("", "'' is no kind"),
        ("jpeg:50+", "'' is no kind"),
        ("clean+jpeg:50", "'clean' is no kind"),
        ("jpeg", "'' is no quality"),
        ("jpeg:0", "'0' is no quality: give a whole number from 1 to 100"),
        ("jpeg:101", "'101' is no quality"),
        ("jpeg:50.5", "'50.5' is no quality"),
        ("noise:0", "'0' is no sigma in 8-bit levels: give a number above 0, at most 255"),
        ("noise:-1", "'-1' is no sigma"),
        ("noise:nan", "'nan' is no sigma"),
        ("noise:ten", "'ten' is no sigma"),
        ("blur:inf", "'inf' is no sigma in pixels"),
        ("noise-float:25+jpeg:50", "stands alone"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_degradations([f"jpeg:75,{text}"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- in scores ----------------------------------------------------------------------------------


def test_the_candidate_and_bicubic_see_the_damaged_picture(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("A/1.png", photo)
    seen: list[np.ndarray] = []

    class Watching(Baseline):
        def image(self, lr: np.ndarray) -> np.ndarray:
            seen.append(lr)
            return super().image(lr)

    chains = parse_degradations(["clean,jpeg:10+noise:20"])
    scores = list(evaluate(find_sets([tmp_path / "A"]), [Watching(scale=2)], degradations=chains))
    small = to_pixels(make_pair(photo, 2, "edsr").lr).astype(np.uint8)
    np.testing.assert_array_equal(seen[0], small)
    np.testing.assert_array_equal(seen[1], damaged(small, "jpeg:10+noise:20", "1"))
    assert [(s.picture, s.degrade) for s in scores] == [
        (name, chain) for chain in (None, "jpeg:10+noise:20") for name in ("1.png", None)
    ]
    clean, _, bad, _ = scores
    assert bad.psnr_y == bad.bicubic_psnr_y < clean.psnr_y - 1
    assert bad.mean_gradient_truth == clean.mean_gradient_truth > clean.mean_gradient


def test_consistency_is_with_the_picture_before_the_damage(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    """A result that takes the noise away is nearer to it than one that keeps it."""
    write("A/1.png", photo)
    hr = photo[:60, :62]

    class Truth(Baseline):
        def image(self, lr: np.ndarray) -> np.ndarray:
            return hr

    (noise,) = parse_degradations(["noise:20"])
    sets = find_sets([tmp_path / "A"])
    best, _, kept, _ = evaluate(sets, [Truth(scale=2), Baseline(scale=2)], degradations=[noise])
    assert best.lr_consistency == float("inf")
    assert kept.lr_consistency < 30


def test_restoration_needs_no_folder(tmp_path: Path, write: Writer, photo: np.ndarray) -> None:
    """At scale 1 the damaged picture itself stands for bicubic, rounded as a file would be."""
    write("A/1.png", photo)
    sets = find_sets([tmp_path / "A"])
    chains = parse_degradations(["jpeg:10", "noise-float:25"])
    jpeg, _, noise, _ = evaluate(sets, [Baseline(scale=1)], degradations=chains)
    want = psnr(to_tensor(damaged(photo, "jpeg:10")), to_tensor(photo))
    assert jpeg.psnr_y == jpeg.bicubic_psnr_y == pytest.approx(want, abs=1e-9)
    rounded = np.clip(np.floor(damaged(photo, "noise-float:25") + 0.5), 0, 255)
    want = psnr(to_tensor(rounded), to_tensor(photo), luma=False)
    assert noise.psnr_rgb == pytest.approx(want, abs=1e-4)  # through float32


def test_unrounded_noise_reaches_the_network_unclipped(
    tmp_path: Path, write: Writer, photo: np.ndarray
) -> None:
    write("rgb/1.png", photo)
    write("gray/1.png", photo[..., :1])
    seen = []

    class Network(Baseline):
        def tensor(self, lr: torch.Tensor) -> torch.Tensor:
            seen.append(lr)
            return lr

    colour, gray = Network(scale=1, takes="rgb"), Network(scale=1, takes="gray")
    sets = find_sets([tmp_path / "rgb", tmp_path / "gray"])
    chains = parse_degradations(["noise-float:25"])
    list(evaluate(sets, [colour], degradations=chains))
    list(evaluate(sets[1:], [gray], degradations=chains))
    assert [tuple(x.shape[1:]) for x in seen] == [(3, 60, 62), (3, 60, 62), (1, 60, 62)]
    assert all(x.min() < 0 and x.max() > 1 for x in seen[:1])
    want = damaged(np.repeat(photo[..., :1], 3, 2), "noise-float:25")[..., 0] / 255
    np.testing.assert_allclose(seen[2][0, 0].numpy(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_restoring_network_from_its_file(
    tmp_path: Path, write: Writer, photo: np.ndarray, channels: int
) -> None:
    """A SwinIR of scale 1 whose residual is nothing gives back what it was given."""
    config = SwinIRConfig(
        scale=1, channels=channels, embed_dim=4, depths=(1,), num_heads=(1,), upsampler=""
    )
    network = SwinIR(config)
    for parameter in network.conv_last.parameters():
        parameter.data.zero_()
    save(tmp_path / "restore.safetensors", network)
    write("A/1.png", photo[..., :channels])
    candidate = load_candidate(Settings(model=str(tmp_path / "restore.safetensors")), "cpu")
    sets = find_sets([tmp_path / "A"])
    chains = parse_degradations(["noise-float:25"])
    restored, _, same, _ = evaluate(sets, [candidate, Baseline(scale=1)], degradations=chains)
    assert restored.psnr_rgb == pytest.approx(same.psnr_rgb, abs=0.01)
    assert restored.psnr_y == pytest.approx(restored.bicubic_psnr_y, abs=0.01)


@pytest.mark.parametrize(
    ("scale", "protocol", "chain", "words"),
    [
        (2, "srcnn", "jpeg:50", "--protocol srcnn"),
        (2, "edsr", "noise-float:25", "networks of scale 1"),
        (1, "edsr", "clean", "give --degrade, or --lr-dir"),
    ],
)
def test_what_does_not_go_together(
    tmp_path: Path,
    write: Writer,
    photo: np.ndarray,
    scale: int,
    protocol: str,
    chain: str,
    words: str,
) -> None:
    write("A/1.png", photo)
    candidates: list[Candidate] = [Baseline(scale=scale)]
    chains = parse_degradations([chain])
    with pytest.raises(UsageError, match=words):
        list(
            evaluate(
                find_sets([tmp_path / "A"]), candidates, protocol=protocol, degradations=chains
            )
        )
