"""Blends: exact at the ends, exact in between, and only of networks that fit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.nets import ESRGAN_CONFIG, assert_same, esrgan, srcnn
from upscale import checkpoints
from upscale.checkpoints import Checkpoint, CheckpointInfo, SourceFile, blend
from upscale.checkpoints.checkpoint import shares
from upscale.checkpoints.loading import DEFAULT_ALPHA
from upscale.errors import ArchitectureError, UsageError
from upscale.models import Network
from upscale.settings import DEFAULT_DENOISE


def held(network: Network, name: str, **more: str) -> Checkpoint:
    state = {k: v.detach().clone() for k, v in network.state_dict().items()}
    source = SourceFile(name, name * 8)
    return Checkpoint(
        network.architecture, network.config, state, CheckpointInfo(**more), name, (source,)
    )


def interpolate(psnr: Checkpoint, gan: Checkpoint, alpha: float) -> Checkpoint:
    return blend((psnr, gan), (1 - alpha, alpha))


PSNR = held(esrgan(1), "psnr", license="Apache-2.0", author="A")
GAN = held(esrgan(2), "gan", license="Apache-2.0", author="B")


@settings(deadline=None)
@given(alpha=st.floats(0, 1))
def test_tensors_are_the_weighted_mean(alpha: float) -> None:
    mixed = interpolate(PSNR, GAN, alpha)
    for key, tensor in mixed.state.items():
        a, b = PSNR.state[key].double(), GAN.state[key].double()
        assert tensor.dtype == torch.float32
        assert float((tensor - ((1 - alpha) * a + alpha * b)).abs().max()) <= 1e-7, key


@pytest.mark.parametrize(("alpha", "net"), [(0.0, PSNR), (1.0, GAN)])
def test_the_ends_are_the_nets_bit_for_bit(alpha: float, net: Checkpoint) -> None:
    mixed = interpolate(PSNR, GAN, alpha)
    assert_same(mixed.state, net.state)
    assert mixed.sources == net.sources
    lr = torch.rand(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = checkpoints.build(net)(lr)
        assert torch.equal(checkpoints.build(mixed)(lr), wanted)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan, math.inf, -math.inf])
def test_alpha_outside_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match=r"outside \[0, 1\]"):
        interpolate(PSNR, GAN, alpha)


def test_many_are_blended() -> None:
    third = held(esrgan(3), "third")
    mixed = blend([PSNR, GAN, third], [0.5, 0.3, 0.2])
    for key, tensor in mixed.state.items():
        parts = [c.state[key].double() for c in (PSNR, GAN, third)]
        wanted = 0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2]
        assert torch.allclose(tensor.double(), wanted, rtol=0, atol=1e-7)
    assert [(s.name, s.weight) for s in mixed.sources] == [
        ("psnr", 0.5),
        ("gan", 0.3),
        ("third", 0.2),
    ]


def test_what_went_in_stands_in_the_header() -> None:
    metadata = interpolate(PSNR, GAN, 0.25).metadata
    assert metadata.merged_from == "psnr, gan"
    assert metadata.license == "Apache-2.0"
    assert metadata.author == "A; B"
    assert json.loads(metadata.blend) == [
        {"name": "psnr", "sha256": "psnr" * 8, "weight": 0.75},
        {"name": "gan", "sha256": "gan" * 8, "weight": 0.25},
    ]


def test_a_blend_of_blends_keeps_the_sources(tmp_path: Path) -> None:
    once = interpolate(PSNR, GAN, 0.5)
    twice = blend([once, PSNR], [0.5, 0.5])
    assert [(s.name, s.weight) for s in twice.sources] == [
        ("psnr", 0.25),
        ("gan", 0.25),
        ("psnr", 0.5),
    ]
    saved = checkpoints.save(tmp_path / "twice.safetensors", twice)
    assert_same(checkpoints.load(saved.path).state, twice.state)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0.5, 0.4], "sum to 0.9"),
        ([0.7, 0.7], "sum to 1.4"),
        ([1.5, -0.5], "outside"),
        ([math.nan, 1.0], "outside"),
        ([1.0], "2 checkpoints and 1 weights"),
    ],
)
def test_wrong_weights_are_refused(weights: list[float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        blend([PSNR, GAN], weights)
    with pytest.raises(UsageError, match="0 checkpoints"):
        blend([], [])


def test_only_networks_that_fit_are_blended() -> None:
    other = held(srcnn(), "other")
    wide = held(esrgan(config=replace(ESRGAN_CONFIG, num_feat=5)), "wide")
    deep = held(esrgan(config=replace(ESRGAN_CONFIG, num_block=3)), "deep")
    three = held(esrgan(config=replace(ESRGAN_CONFIG, scale=3)), "three")
    two = held(esrgan(config=replace(ESRGAN_CONFIG, scale=2)), "two")
    for pair, words in (
        ((PSNR, other), "psnr is of esrgan and other of srcnn"),
        ((PSNR, wide), r"\[4, 3, 3, 3\] in psnr and \[5, 3, 3, 3\] in wide"),
        ((PSNR, deep), "missing in psnr"),
        ((two, three), "two has scale 2 and three 3"),
    ):
        for weights in ((0.5, 0.5), (1.0, 0.0)):
            with pytest.raises(ArchitectureError, match=words):
                blend(pair, weights)


def test_integers_are_not_blended() -> None:
    def counted(base: Checkpoint, count: int) -> Checkpoint:
        return replace(base, state=base.state | {"count": torch.tensor([count])})

    mixed = blend([counted(PSNR, 3), counted(GAN, 3)], [0.5, 0.5])
    assert torch.equal(mixed.state["count"], torch.tensor([3]))
    with pytest.raises(ArchitectureError, match="integers in count differ"):
        blend([counted(PSNR, 3), counted(GAN, 4)], [0.5, 0.5])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, None])
def test_resolve_blends_a_family(duo: str, alpha: float | None) -> None:
    psnr, gan = (checkpoints.load(f"duo-{role}-x2") for role in ("psnr", "gan"))
    found = checkpoints.resolve(duo, alpha=alpha)
    share = DEFAULT_ALPHA if alpha is None else alpha
    assert_same(found.state, interpolate(psnr, gan, share).state)
    names = ["duo-psnr-x2", "duo-gan-x2"]
    wanted = names if 0 < share < 1 else [names[int(share)]]
    assert [source.name for source in found.sources] == wanted


def test_resolve_refuses_alpha(duo: str) -> None:
    with pytest.raises(UsageError, match=r"1.5 is outside"):
        checkpoints.resolve(duo, alpha=1.5)
    for single in ("duo-gan-x2", "tiny"):
        with pytest.raises(UsageError, match="takes no alpha"):
            checkpoints.resolve(single, alpha=0.5)
        assert checkpoints.resolve(single)


ROLES = ("psnr", "gan", "real-psnr", "real-gan")


def test_two_pairs_are_blended_at_once(quad: str) -> None:
    nets = [checkpoints.load(f"quad-{role}-x2") for role in ROLES]
    found = checkpoints.resolve(quad, alpha=0.8, denoise=0.25)
    wanted = {"psnr": 0.15, "gan": 0.6, "real-psnr": 0.05, "real-gan": 0.2}
    assert {s.name: round(s.weight, 12) for s in found.sources} == {
        f"quad-{role}-x2": weight for role, weight in wanted.items()
    }
    assert [s.sha256 for s in found.sources] == [net.sha256 for net in nets]
    for key, tensor in found.state.items():
        mean = sum(
            w * net.state[key].double() for w, net in zip(wanted.values(), nets, strict=True)
        )
        assert float((tensor - mean).abs().max()) <= 1e-7, key
    assert (found.alpha, found.denoise) == (0.8, 0.25)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize(("denoise", "pair"), [(0.0, ROLES[:2]), (1.0, ROLES[2:])])
def test_the_ends_of_denoise_are_the_pairs_bit_for_bit(
    quad: str, alpha: float, denoise: float, pair: tuple[str, str]
) -> None:
    psnr, gan = (checkpoints.load(f"quad-{role}-x2") for role in pair)
    found = checkpoints.resolve(quad, alpha=alpha, denoise=denoise)
    wanted = interpolate(psnr, gan, alpha)
    assert_same(found.state, wanted.state)
    assert found.sources == wanted.sources


@pytest.mark.parametrize("given", [{}, {"alpha": 0.3}, {"denoise": 1.0}, {"denoise": 0.5}])
def test_only_files_with_a_share_are_read(
    quad: str, given: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = checkpoints.load

    def noted(entry: checkpoints.WeightsFile) -> Checkpoint:
        read.append(entry.name)
        return load(entry)

    monkeypatch.setattr("upscale.checkpoints.loading.load", noted)
    found = checkpoints.resolve(quad, **given)
    alpha = given.get("alpha", DEFAULT_ALPHA)
    denoise = given.get("denoise", DEFAULT_DENOISE)
    wanted = [f"quad-{r}-x2" for r, w in zip(ROLES, shares(alpha, denoise), strict=True) if w]
    assert read == wanted == [source.name for source in found.sources]
    assert (found.alpha, found.denoise) == (alpha, denoise)


@settings(deadline=None)
@given(alpha=st.floats(0, 1), denoise=st.floats(0, 1))
def test_shares_sum_to_one(alpha: float, denoise: float) -> None:
    found = shares(alpha, denoise)
    assert all(0 <= share <= 1 for share in found)
    assert abs(math.fsum(found) - 1) <= 1e-15
    assert abs(found[1] + found[3] - alpha) <= 1e-15
    assert abs(found[2] + found[3] - denoise) <= 1e-15


@pytest.mark.parametrize("denoise", [-0.1, 2, math.nan, math.inf])
def test_denoise_outside_is_refused(quad: str, denoise: float) -> None:
    with pytest.raises(UsageError, match=rf"denoise {denoise:g} is outside \[0, 1\]"):
        checkpoints.resolve(quad, denoise=denoise)


@pytest.mark.parametrize("denoise", [0.0, 0.5])
def test_denoise_needs_a_pair_for_real_pictures(duo: str, tmp_path: Path, denoise: float) -> None:
    own = checkpoints.save(tmp_path / "own.safetensors", esrgan()).path
    for name in (duo, "duo-gan-x2", "quad-real-gan-x2", "tiny", str(own)):
        with pytest.raises(UsageError, match=f"denoise {denoise:g} was given and .* leave it out"):
            checkpoints.resolve(name, denoise=denoise)
        assert checkpoints.resolve(name).denoise is None
