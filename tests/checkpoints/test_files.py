"""Headers and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from upscale.checkpoints.files import read_header
from upscale.checkpoints.index import check_sha256, digest
from upscale.checkpoints.loading import read_tensors
from upscale.checkpoints.saving import write_tensors
from upscale.errors import CheckpointError, HashError

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([1, 2, 3]),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([0.25], dtype=torch.bfloat16),
    "flag": torch.tensor([True, False, True]),
    "scalar": torch.tensor(3.0),
    "none": torch.zeros(0, 4),
}


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "ü 本.safetensors"
    saved = write_tensors(path, TENSORS, {"title": "Ünïcode\n"}, overwrite=False)
    assert (saved.sha256, saved.bytes) == (digest(path), path.stat().st_size)
    for read in (load_file(path), read_tensors(path)[1]):
        assert set(read) == set(TENSORS)
        for key, tensor in TENSORS.items():
            assert read[key].dtype == tensor.dtype
            assert torch.equal(read[key], tensor), key
    header = read_header(path)
    assert header["title"] == "Ünïcode\n"
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert start % 8 == 0
    data = path.read_bytes()[start:]
    assert header["modelspec.hash_sha256"] == f"0x{hashlib.sha256(data).hexdigest()}"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", TENSORS, {"x": "1", "y": "2"}, overwrite=False)
    turned = dict(reversed(TENSORS.items()))
    write_tensors(tmp_path / "b", turned, {"y": "2", "x": "1"}, overwrite=False)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "empty": (b"", "is empty"),
    "short": (b"\x10\x00", "not a safetensors"),
    "gigabytes promised": (safetensors(b"{}", length=5 << 30), "truncated"),
    "largest number promised": (b"\xff" * 8 + b"{}", "truncated"),
    "header cut": (safetensors({"a": F32}, b"\0" * 8)[:30], "truncated"),
    "data cut": (safetensors({"a": F32}, b"\0" * 7), "truncated"),
    "data too long": (safetensors({"a": F32}, b"\0" * 9), "damaged"),
    "no json": (safetensors(b"{nonsense"), "damaged"),
    "deep json": (safetensors(b'{"a":' + b"[" * 100_000), "damaged"),
    "a list": (safetensors([1, 2]), "damaged"),
    "unknown dtype": (safetensors({"a": {**F32, "dtype": "F13"}}, b"\0" * 8), "damaged"),
    "negative shape": (safetensors({"a": {**F32, "shape": [-2]}}, b"\0" * 8), "damaged"),
    "shape too large": (safetensors({"a": {**F32, "shape": [1 << 40]}}, b"\0" * 8), "damaged"),
    "shape of text": (safetensors({"a": {**F32, "shape": ["2"]}}, b"\0" * 8), "damaged"),
    "no offsets": (safetensors({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8), "damaged"),
    "offsets backwards": (
        safetensors({"a": {**F32, "data_offsets": [8, 0]}}, b"\0" * 8),
        "damaged",
    ),
    "overlap": (safetensors({"a": F32, "b": F32}, b"\0" * 8), "damaged"),
    "gap": (safetensors({"a": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12), "damaged"),
    "metadata no text": (safetensors({"__metadata__": {"a": 1}}), "damaged"),
    "metadata a list": (safetensors({"__metadata__": [1]}), "damaged"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    "zip": (b"PK\x03\x04" + b"\0" * 60, "convert"),
    "pickle": (b"\x80\x02}q\x00." + b"\0" * 60, "convert"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    data, words = DAMAGED[kind]
    path = tmp_path / "net.safetensors"
    path.write_bytes(data)
    for read in (read_header, read_tensors):
        with pytest.raises(CheckpointError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    try:
        read_header(path)
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        read_header(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is a folder"):
        digest(tmp_path)


def test_hash_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    found = digest(path)
    check_sha256(path, found, found.upper(), "")
    check_sha256(path, found, found[:8], "")
    for wrong in ("0" * 64, ""):
        with pytest.raises(HashError, match="fetch it again"):
            check_sha256(path, found, wrong, "fetch it again")
