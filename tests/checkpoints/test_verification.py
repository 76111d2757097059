"""Verdicts on files."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.checkpoints.nets import esrgan
from upscale import checkpoints
from upscale.checkpoints.files import check, check_all
from upscale.checkpoints.index import digest
from upscale.errors import CheckpointError


def test_by_index(tiny: str, tiny_cache: Path) -> None:
    verdicts = {v.name: v for v in check_all()}
    assert {"tiny-x2", "duo-psnr-x2", "duo-gan-x2"} <= set(verdicts)
    assert {v.status for v in verdicts.values()} == {"ok"}
    path = tiny_cache / "weights" / "tiny-x2.safetensors"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + b"!")
        failed = check("tiny-x2")
        assert failed.status == "failed"
        assert failed.sha256 == digest(path)
        assert "recorded is" in failed.detail
        path.unlink()
        missing = check("tiny-x2")
        assert (missing.status, missing.sha256) == ("failed", "")
    finally:
        path.write_bytes(whole)


def test_by_header(tmp_path: Path, cache: Path) -> None:
    path = checkpoints.save(tmp_path / "net.safetensors", esrgan()).path
    assert check(path).status == "ok"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert check(path).status == "failed"
    path.write_bytes(data[:-1])
    assert "truncated" in check(path).detail
    save_file(dict(esrgan().state_dict()), tmp_path / "bare.safetensors")
    assert check(tmp_path / "bare.safetensors").status == "unknown"
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        check(tmp_path / "none.safetensors")
