"""What a run says to the person who started it, through the real command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Finished, png

Cli = Callable[..., Finished]
Command = Callable[..., subprocess.Popen[bytes]]


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.decode(), err.decode()


def test_a_missing_gpu_is_a_detail(command: Command, picture: Path) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    said = "no GPU that PyTorch can use; running on the CPU"
    code, out, err = finish(command(picture, "-m", "tiny", "--json", env=hidden))
    assert code == 0, err
    assert "GPU" not in err
    assert json.loads(out)["device"] == "cpu"
    loud = finish(command(picture, "-m", "tiny", "-v", "--overwrite", env=hidden))
    assert loud[2].count(said) == 1
    asked = finish(command(picture, "-m", "tiny", "--device", "cuda", env=hidden))
    assert asked[0] == 2
    assert "finds no CUDA GPU" in asked[2]
