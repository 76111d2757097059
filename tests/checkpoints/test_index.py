"""Names, families, and the index file."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.checkpoints import WeightsFile, entries, families, find, select, update_index
from upscale.checkpoints.index import Role, cache_folder, embedded_folder, normal, read_index
from upscale.errors import CheckpointError, HashError, UsageError

SHA = "ab" * 32


def row(name: str, scale: int = 4, **more: object) -> WeightsFile:
    made = WeightsFile(name, f"{name}.safetensors", SHA, 3, "esrgan", scale, origin="cached")
    return replace(made, **more)  # type: ignore[arg-type]


def put(folder: Path, *rows: WeightsFile) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in rows:
        (folder / entry.file).write_bytes(b"xyz")
        update_index(folder, entry)


@pytest.fixture
def shelf(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with a family, a pair, and singles; nothing embedded."""
    monkeypatch.setattr("upscale.checkpoints.index.embedded_folder", lambda: tmp_path / "none")
    put(
        cache,
        row("light-x2", 2, family="light"),
        row("light-x3", 3, family="light"),
        row("light-x4", 4, family="light"),
        row("pair-gan-x4", family="pair", role="gan"),
        row("pair-psnr-x4", family="pair", role="psnr"),
        row("pair-x2", 2, family="pair"),
        row("better-gan-x4", family="pair", role="gan", default=True),
        row("better-psnr-x4", family="pair", role="psnr", default=True),
        row("single-x8", 8),
        row("quad-real-gan-x4", family="quad", role="real-gan"),
        row("quad-real-psnr-x4", family="quad", role="real-psnr"),
        row("quad-gan-x4", family="quad", role="gan"),
        row("quad-psnr-x4", family="quad", role="psnr", default=True),
        row("half-psnr-x4", family="half", role="psnr"),
        row("half-gan-x4", family="half", role="gan"),
        row("half-real-gan-x4", family="half", role="real-gan"),
        row("light-denoise-gray", 1, family="light-denoise-gray"),
        row("light-denoise", 1, family="light-denoise"),
        row("light-real-x4", family="light-real"),
    )
    return cache


@pytest.mark.parametrize(
    ("name", "scale", "chosen"),
    [
        ("light", None, ["light-x4"]),
        ("light", 2, ["light-x2"]),
        ("light", 2.1, ["light-x3"]),
        ("light", 3, ["light-x3"]),
        ("light", 16, ["light-x4"]),
        ("light", 0.5, ["light-x2"]),
        ("LIGHT", None, ["light-x4"]),
        ("pair", None, ["better-psnr-x4", "better-gan-x4"]),
        ("pair", 4, ["better-psnr-x4", "better-gan-x4"]),
        ("pair", 2, ["pair-x2"]),
        ("light-x3", 2, ["light-x3"]),
        ("Light_X3.safetensors", None, ["light-x3"]),
        ("single-x8", None, ["single-x8"]),
        ("quad", 4, ["quad-psnr-x4", "quad-gan-x4", "quad-real-psnr-x4", "quad-real-gan-x4"]),
        ("half", 4, ["half-psnr-x4", "half-gan-x4"]),
        ("light", 1, ["light-x2"]),
        ("light-denoise", None, ["light-denoise"]),
        ("light-denoise", 2, ["light-denoise"]),
        ("light-denoise-gray", 1, ["light-denoise-gray"]),
        ("light-real", 2, ["light-real-x4"]),
    ],
)
def test_select(shelf: Path, name: str, scale: float | None, chosen: list[str]) -> None:
    assert [entry.name for entry in select(name, scale=scale)] == chosen


def test_find(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("pair-psnr-x4").path == shelf / "pair-psnr-x4.safetensors"
    assert find("pair").name == "better-gan-x4"
    assert find("quad").name == "quad-gan-x4"
    assert find(shelf / "light-x2.safetensors").sha256 == SHA  # known by its path as well
    own = tmp_path / "own net.safetensors"
    own.write_bytes(b"12345")
    for given_path in (own, str(own)):
        found = find(given_path)
        assert (found.origin, found.sha256, found.bytes) == ("file", "", 5)
    monkeypatch.chdir(tmp_path)
    Path("light").write_bytes(b"a file called like a family")
    assert find("light").name == "light-x4"
    assert find("./light").origin == "file"
    assert find("own net.safetensors").origin == "file"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lihgt-x2", "did you mean light-x2"),
        ("single", "did you mean single-x8"),
        ("zzzzzz", "'upscale models' lists what there is"),
        ("none.safetensors", "no checkpoint file none.safetensors"),
        ("none/at/all", "no checkpoint file none/at/all"),
        ("real-esrgan-x4plus", "upscale weights pull real-esrgan-x4plus"),
        ("RealESRGAN_x4plus", "upscale weights pull real-esrgan-x4plus"),
        ("RealESRGAN_x4plus.pth", "upscale weights pull real-esrgan-x4plus"),
        ("esrgan-kair", "upscale weights pull esrgan-kair"),
        ("realesr-general-x4v3", "SRVGGNetCompact"),
        ("RRDB_PSNR_x4.pth", "Google Drive"),
        ("", "no model or weights named ''"),
        (".", "is a folder|no model"),
    ],
)
def test_unknown_names(shelf: Path, name: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        select(name)
    assert "\n" not in str(caught.value)


def test_folders_are_no_checkpoints(shelf: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        find(shelf)


def test_families_and_entries(shelf: Path) -> None:
    counts = {name: len(rows) for name, rows in families().items()}
    singles = {"light-denoise": 1, "light-denoise-gray": 1, "light-real": 1}
    assert counts == {"light": 3, "pair": 5, "quad": 4, "half": 3} | singles
    assert len(entries()) == 19


def test_embedded_rows_come_first(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = shelf.parent / "embedded"
    put(embedded, row("light-x2", 2, family="light", title="embedded"))
    monkeypatch.setattr("upscale.checkpoints.index.embedded_folder", lambda: embedded)
    assert find("light-x2").title == "embedded"
    assert find("light-x2").origin == "embedded"
    assert len(entries()) == 19


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=15, deadline=None)
@given(
    entry=st.builds(
        WeightsFile,
        name=TEXT.filter(bool),
        file=st.just("net.safetensors"),
        sha256=st.just(SHA),
        bytes=st.integers(0, 1 << 40),
        architecture=TEXT,
        scale=st.integers(1, 16),
        family=TEXT,
        role=st.sampled_from(get_args(Role)),
        default=st.booleans(),
        title=TEXT,
        license=TEXT,
        parameters=st.integers(0, 10**9),
        dtype=st.sampled_from(["float32", "float16"]),
        recipe=TEXT,
        data=TEXT,
        source=TEXT,
        source_sha256=TEXT,
        scores=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    )
)
def test_any_row_comes_back(entry: WeightsFile, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    put(folder, row("first"))
    entry = replace(entry, path=folder / entry.file, origin="cached")
    put(folder, entry, row("last"))
    assert read_index(folder, "cached")[entry.name] == entry
    again = tomllib.loads((folder / "index.toml").read_text("utf-8"))
    assert list(again) == list(dict.fromkeys(["first", entry.name, "last"]))


def test_a_row_is_replaced_in_place_and_comments_stay(tmp_path: Path) -> None:
    (tmp_path / "index.toml").write_text("# The weights.\n# Second line.\n")
    put(tmp_path, row("a"), row("b"), row("a", title="new"))
    text = (tmp_path / "index.toml").read_text()
    assert text.startswith("# The weights.\n# Second line.\n\n[a]\n")
    assert list(read_index(tmp_path, "cached")) == ["a", "b"]
    assert read_index(tmp_path, "cached")["a"].title == "new"
    with pytest.raises(UsageError, match="save the checkpoint there first"):
        update_index(tmp_path, row("absent"))


def _add(folder: Path, start: int) -> None:
    for number in range(start, start + 5):
        put(folder, row(f"n{number}"))


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    context = get_context("fork" if sys.platform.startswith("linux") else "spawn")
    writers = [context.Process(target=_add, args=(tmp_path, 10 * k)) for k in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(read_index(tmp_path, "cached")) == 15


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a", "not a readable index"),
        ("a = 1", "it is no table"),
        ("[a]\nfile = 'a'", "'architecture' is missing"),
        ("[a]\ncolour = 'red'", "unknown key 'colour'"),
        (
            "[a]\nfile='../../a'\nsha256='x'\nbytes=1\narchitecture='e'\nscale=2",
            "leaves the folder",
        ),
        ("[a]\nfile='a'\nsha256='x'\nbytes='1'\narchitecture='e'\nscale=2", "wrong type"),
        (
            "[a]\nfile='a'\nsha256='x'\nbytes=1\narchitecture='e'\nscale=2\nrole='reel-gan'",
            "role = 'reel-gan' is none of psnr, gan, real-psnr, real-gan",
        ),
        ("\xff", "not a readable index"),
    ],
)
def test_a_damaged_index_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "index.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=words) as caught:
        read_index(tmp_path, "cached")
    assert "index.toml" in str(caught.value)


def test_verify(tmp_path: Path) -> None:
    put(tmp_path, row("a"))
    with pytest.raises(HashError, match="pull a --overwrite"):
        read_index(tmp_path, "cached")["a"].verify()


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPSCALE_CACHE", "~/kept")
    assert cache_folder() == Path("~/kept").expanduser() / "weights"
    monkeypatch.delenv("UPSCALE_CACHE")
    assert "upscale" in str(cache_folder())
    assert (embedded_folder() / "index.toml").is_file()


def test_normal() -> None:
    names = ["SRCNN_x2.PTH", "srcnn-x2.pth.tar", " srcnn-x2 ", "srcnn_x2.safetensors"]
    assert {normal(name) for name in names} == {"srcnn-x2"}


def test_names_are_looked_up_without_torch() -> None:
    code = (
        "import sys; from upscale.checkpoints import entries, official, select\n"
        "entries(); official()\n"
        "try: select('no such thing')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(sorted({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["UnknownModelError", "[]"]
