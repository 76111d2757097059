"""The table of published checkpoints holds together."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from upscale.checkpoints.index import WeightsFile, members, normal, official, refused, require
from upscale.errors import CheckpointError
from upscale.models import MODELS

ALL = list(official().values())


@pytest.mark.parametrize("entry", ALL, ids=lambda e: e.name)
def test_rows(entry: WeightsFile) -> None:
    assert entry.name == normal(entry.name)
    assert entry.architecture in MODELS
    assert entry.license
    assert entry.title
    assert entry.author
    assert entry.task in ("sr", "real", "denoise", "jpeg")
    assert entry.role in ("", "psnr", "gan")
    assert not entry.role or entry.family
    assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256)
    assert re.fullmatch(r"([0-9a-f]{8})?", entry.sha256_prefix)
    assert not (entry.sha256 and entry.sha256_prefix)
    assert 0 <= entry.bytes < 1 << 28
    assert entry.scale == 1 if entry.task in ("denoise", "jpeg") else entry.scale in range(1, 17)
    secure = urlsplit(entry.source).scheme == "https"
    assert secure or entry.sha256, "what comes over plain HTTP needs a whole hash"
    assert f"x{entry.scale}" in entry.name or entry.scale == 1
    if entry.sha256_prefix:
        assert entry.sha256_prefix in entry.file


def test_all_that_have_an_address() -> None:
    files = {entry.file for entry in ALL}
    for count, pattern in (
        (8, r"001_classicalSR_(DIV2K_s48w8|DF2K_s64w8)_SwinIR-M_x[2348]\.pth"),
        (3, r"002_lightweightSR_DIV2K_s64w8_SwinIR-S_x[234]\.pth"),
        (6, r"003_realSR_BSRGAN_DFO(WMFC)?_s64w8_SwinIR-[ML]_x[24]_(GAN|PSNR)\.pth"),
        (3, r"004_grayDN_DFWB_s128w8_SwinIR-M_noise(15|25|50)\.pth"),
        (3, r"005_colorDN_DFWB_s128w8_SwinIR-M_noise(15|25|50)\.pth"),
        (4, r"006_CAR_DFWB_s126w7_SwinIR-M_jpeg[1234]0\.pth"),
        (4, r"006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg[1234]0\.pth"),
        (4, r"RealESR(GAN|Net)_x[24]plus(_anime_6B)?\.pth"),
        (2, r"BSRGAN(x2)?\.pth"),
        (2, r"(RRDB|ESRGAN)\.pth"),
        (5, r"\d+x-ESRGAN\.pth"),
        (1, r"ESRGAN_SRx4_DF2KOST_official-ff704c30\.pth"),
        (1, r"SRCNN_v1\.zip"),
        (1, r"srcnn_x4k915_.*\.pth"),
    ):
        assert len([f for f in files if re.fullmatch(pattern, f)]) == count, pattern
    assert len([entry for entry in ALL if entry.member]) == 8


def test_no_two_answer_to_one_name() -> None:
    for entry in ALL:
        assert [e.name for e in ALL if e.answers_to(entry.name)] == [entry.name]
        if not entry.member:
            assert [e.name for e in ALL if e.answers_to(entry.file)] == [entry.name]
    families = {entry.family for entry in ALL} - {""}
    assert not families & {entry.name for entry in ALL}


def test_pairs_are_whole() -> None:
    pairs = {(e.family, e.scale) for e in ALL if e.role}
    for family, scale in pairs:
        roles = sorted(e.role for e in ALL if (e.family, e.scale) == (family, scale))
        assert roles == ["gan", "psnr"], family


def test_names() -> None:
    assert require("RealESRGAN_x4plus").name == "real-esrgan-x4plus"
    assert require("REALESRGAN_X4PLUS.PTH").name == "real-esrgan-x4plus"
    assert [e.role for e in members("esrgan-kair")] == ["psnr", "gan"]
    assert [e.name for e in members("bsrgan-x2")] == ["bsrgan-x2"]
    assert refused("real-esrgan-x4plus") is None
    assert "real-esrgan-x4plus" in str(refused("RealESRGANv2-animevideo-xsx2.pth"))
    with pytest.raises(CheckpointError, match="did you mean"):
        members("bsrgn")
