"""Fetching from a server on this machine: verified, converted, and never half done."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from filelock import FileLock
from scipy.io import savemat

from tests.checkpoints.conftest import Site
from tests.checkpoints.nets import assert_same, esrgan, srcnn
from tests.checkpoints.test_conversion import matlab_srcnn
from upscale import checkpoints
from upscale.checkpoints import WeightsFile, download, pull
from upscale.checkpoints.index import read_index
from upscale.errors import CheckpointError, DownloadError, HashError, OutputError, UsageError

NAME = "net.pth"


def torch_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


STATE = dict(esrgan().state_dict())
DATA = torch_bytes({"params_ema": STATE})
OTHER = torch_bytes({"params_ema": dict(esrgan(9).state_dict())})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)


@pytest.fixture
def wanted(site: Site) -> WeightsFile:
    """A published checkpoint that the server has."""
    site.files[NAME] = DATA
    return WeightsFile(
        name="toy-x4",
        file=NAME,
        source=site.url(NAME),
        origin="published",
        architecture="esrgan",
        scale=4,
        title="Toy",
        license="MIT",
        task="sr",
        author="Nobody",
        bytes=len(DATA),
        sha256=hashlib.sha256(DATA).hexdigest(),
        family="toy",
        role="gan",
    )


def leftovers(cache: Path) -> list[str]:
    folder = cache / "downloads"
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return [name for name in found if not name.endswith(".lock")]


def test_fetched_verified_converted(
    cache: Path, site: Site, wanted: WeightsFile, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = pull(wanted, progress=True)
    assert "100%" in capsys.readouterr().err
    assert entry.path == cache / "toy-x4.safetensors"
    assert entry == read_index(cache, "cached")["toy-x4"]
    assert (entry.architecture, entry.scale, entry.family, entry.role) == (
        "esrgan",
        4,
        "toy",
        "gan",
    )
    assert (entry.license, entry.source) == ("MIT", wanted.source)
    assert entry.source_sha256 == wanted.sha256
    loaded = checkpoints.load("toy-x4")
    assert_same(loaded.state, STATE)
    assert loaded.metadata.license == "MIT"
    assert loaded.metadata.source == wanted.source
    assert leftovers(cache) == []


def test_the_second_time_nothing_is_fetched(cache: Path, site: Site, wanted: WeightsFile) -> None:
    first = pull(wanted)
    assert pull(wanted) == first
    assert pull(wanted, offline=True) == first
    assert len(site.requests) == 1
    assert pull(wanted, overwrite=True) == first
    assert len(site.requests) == 2
    first.path.write_bytes(b"damaged")
    with pytest.raises(HashError, match="pull toy-x4 --overwrite"):
        pull(wanted)
    assert pull(wanted, overwrite=True) == first


def test_offline_touches_nothing(
    cache: Path, wanted: WeightsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr("requests.Session.send", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(DownloadError, match="without --offline"):
        pull(wanted, offline=True)
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")
    with pytest.raises(DownloadError, match="not in the cache"):
        pull(wanted)
    assert not cache.exists()


def test_a_broken_connection_is_tried_again(cache: Path, site: Site, wanted: WeightsFile) -> None:
    site.cut_after = 5000
    pull(wanted)
    assert site.requests == [(NAME, None), (NAME, None)]
    assert_same(checkpoints.load("toy-x4").state, STATE)
    assert leftovers(cache) == []


def test_a_server_without_lengths(cache: Path, site: Site, wanted: WeightsFile) -> None:
    site.length = False
    pull(replace(wanted, bytes=0))
    assert_same(checkpoints.load("toy-x4").state, STATE)


def test_a_busy_server_is_asked_again(cache: Path, site: Site, wanted: WeightsFile) -> None:
    site.statuses = [503, 429, 500]
    pull(wanted)
    assert len(site.requests) == 4


def refused(
    cache: Path, wanted: WeightsFile, kind: type[Exception], words: str, **more: Any
) -> str:
    with pytest.raises(kind, match=words) as caught:
        pull(wanted, **more)
    assert "\n" not in str(caught.value)
    assert read_index(cache, "cached") == {}
    assert not list(cache.glob("*.safetensors"))
    return str(caught.value)


def test_a_wrong_hash(cache: Path, site: Site, wanted: WeightsFile) -> None:
    changed = bytearray(DATA)
    changed[-1] ^= 1
    site.files[NAME] = bytes(changed)
    refused(cache, wanted, DownloadError, "SHA-256 .* pull it again")
    assert leftovers(cache) == []
    refused(cache, replace(wanted, sha256="", sha256_prefix="12345678"), DownloadError, "12345678")
    assert leftovers(cache) == []


def test_a_404_page(cache: Path, site: Site, wanted: WeightsFile) -> None:
    del site.files[NAME]
    message = refused(cache, wanted, DownloadError, "answers 404")
    assert wanted.source in message
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><h1>Not found</h1>", b"version https://git-lfs.github.com/spec/v1"]
)
def test_a_page_in_place_of_the_file(
    cache: Path, site: Site, wanted: WeightsFile, page: bytes
) -> None:
    site.files[NAME] = page
    for unknown in ({"bytes": 0}, {"bytes": 0, "sha256": ""}):
        refused(cache, replace(wanted, **unknown), DownloadError, "in place of the file")
    refused(cache, wanted, DownloadError, f"offers {len(page)} bytes")
    assert leftovers(cache) == []


def test_another_size(cache: Path, site: Site, wanted: WeightsFile) -> None:
    site.files[NAME] = DATA + b"more"
    refused(cache, wanted, DownloadError, "published are")
    site.length = False
    refused(cache, wanted, DownloadError, "published are")
    assert leftovers(cache) == []


def test_no_server(cache: Path, wanted: WeightsFile) -> None:
    closed = replace(wanted, source="http://127.0.0.1:9/net.pth")
    refused(cache, closed, DownloadError, "check the connection")


def test_a_connection_that_keeps_breaking(cache: Path, site: Site, wanted: WeightsFile) -> None:
    site.statuses = [502] * download.ATTEMPTS
    refused(cache, wanted, DownloadError, "cannot be fetched")


def test_addresses(cache: Path, site: Site, wanted: WeightsFile, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(DATA)
    for address in ((tmp_path / "net.pth").as_uri(), "ftp://127.0.0.1/net.pth", "net.pth"):
        refused(cache, wanted, UsageError, "no http", url=address)
    site.redirects["moved"] = site.url(NAME)
    assert pull(replace(wanted, source=site.url("moved")))
    mirror = site.url("mirror.pth")
    site.files["mirror.pth"] = DATA
    assert pull(wanted, url=mirror, overwrite=True).source == mirror


def test_https_is_not_left(wanted: WeightsFile, tmp_path: Path) -> None:
    answer = requests.Response()
    answer.url, answer.status_code = "https://example.org/a.pth", 302
    answer.headers["Location"] = "http://example.org/a.pth"
    with pytest.raises(DownloadError, match="not https"):
        download._check(wanted, tmp_path, answer)
    answer.headers["Location"] = "/b.pth"
    download._check(wanted, tmp_path, answer)


def test_content_must_be_the_network(cache: Path, site: Site, wanted: WeightsFile) -> None:
    unchecked = replace(wanted, bytes=0, sha256="")
    for data, words in (
        (torch_bytes(dict(srcnn().state_dict())), "srcnn with 1 channels"),
        (torch_bytes({"net": {"stem.weight": torch.zeros(2, 2)}}), "no network known"),
        (b"PK\x03\x04 no zip", "damaged"),
    ):
        site.files[NAME] = data
        refused(cache, unchecked, CheckpointError, words)
    site.files[NAME] = DATA
    refused(cache, replace(wanted, scale=2), CheckpointError, "enlarge by 4, not by the 2 given")


def test_a_malicious_download_runs_nothing(
    cache: Path, site: Site, wanted: WeightsFile, tmp_path: Path
) -> None:
    from tests.checkpoints.test_conversion import evil

    site.files[NAME] = torch_bytes({"params": STATE, "x": evil(tmp_path / "owned")[0]})
    refused(cache, replace(wanted, bytes=0, sha256=""), CheckpointError, "asks to run")
    assert not (tmp_path / "owned").exists()


def test_a_member_of_an_archive(cache: Path, site: Site, wanted: WeightsFile) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for scale in (2, 3):
            mat = io.BytesIO()
            savemat(mat, matlab_srcnn((9, 1, 5), seed=scale))
            archive.writestr(f"SRCNN_v1/SRCNN/model/9-1-5(91 images)/x{scale}.mat", mat.getvalue())
    data = packed.getvalue()
    site.files["SRCNN.zip"] = data
    three = replace(
        wanted,
        name="srcnn-x3",
        file="SRCNN.zip",
        source=site.url("SRCNN.zip"),
        architecture="srcnn",
        scale=3,
        channels=1,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        member="9-1-5(91 images)/x3.mat",
    )
    assert pull(three).scale == 3
    two = replace(three, name="srcnn-x2", scale=2, member="9-1-5(91 images)/x2.mat")
    assert pull(two).scale == 2
    assert len(site.requests) == 1  # the archive is kept for the others in it
    assert leftovers(cache) == ["SRCNN.zip"]
    with pytest.raises(CheckpointError, match="holds 0 files that end in"):
        pull(replace(three, name="srcnn-x9", member="x9.mat"))


def test_one_at_a_time(cache: Path, wanted: WeightsFile) -> None:
    (cache / "downloads").mkdir(parents=True)
    with FileLock(cache / "downloads" / f".{NAME}.lock"):
        refused(cache, wanted, DownloadError, "another process is fetching")
    assert pull(wanted)


def test_a_cache_that_cannot_be_written(
    wanted: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be written"):
        pull(wanted)


def test_a_full_disk(
    cache: Path, site: Site, wanted: WeightsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Usage)
    refused(cache, wanted, DownloadError, "free some space, or set UPSCALE_CACHE")


def test_unknown_names(cache: Path) -> None:
    for name, words in (
        ("swinir-s-x9", "did you mean swinir-s-x"),
        ("realesr-animevideov3", "SRVGGNetCompact"),
        ("RRDB_ESRGAN_x4", "Google Drive"),
    ):
        with pytest.raises(CheckpointError, match=words):
            pull(name)
