"""``upscale evaluate``: the table, the JSON lines, and what is refused before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.io import imread
from skimage.metrics import peak_signal_noise_ratio

from tests.known import known_models_fixture, photo_fixture, write_fixture  # noqa: F401
from upscale import perceptual
from upscale.evaluate import Baseline

Writer = Callable[..., Path]
Cli = Callable[..., Any]

KEYS = """
    set picture model weights scale alpha protocol psnr_y ssim_y psnr_rgb bicubic_psnr_y
    bicubic_ssim_y lr_consistency seconds megapixels degrade mean_gradient
    mean_gradient_truth denoise rank_correlation coverage bits
"""


@pytest.fixture
def folder(write: Writer, photo: np.ndarray, known_models: Path) -> Path:
    """Two pictures, named so that a terminal or a table could take harm."""
    write("Set5/a[bold].png", photo)
    return write("Set5/b\x1b[2J.png", photo[::-1]).parent


def test_json_is_a_line_per_picture_and_one_per_set(cli: Cli, folder: Path) -> None:
    done = cli(
        "evaluate", folder, "-m", "known-pair", "--alpha", "0,1", "--json", "--device", "cpu"
    )
    assert (done.code, done.lines) == (0, [])
    records = [json.loads(line) for line in done.text.splitlines()]
    assert all(list(record) == KEYS.split() for record in records)
    assert [(r["alpha"], r["picture"]) for r in records] == [
        (alpha, name) for alpha in (0.0, 1.0) for name in ("a[bold].png", "b\x1b[2J.png", None)
    ]
    a, b, mean = records[:3]
    assert mean["psnr_y"] == pytest.approx((a["psnr_y"] + b["psnr_y"]) / 2, abs=1e-5)
    assert mean["megapixels"] == pytest.approx(2 * 60 * 60e-6)
    assert {r["set"] for r in records} == {"Set5"}
    assert {r["protocol"] for r in records} == {"edsr"}
    assert list(records[0]["weights"]) == ["known-psnr-x4"]


def test_bicubic_beside_does_not_depend_on_the_model(cli: Cli, folder: Path) -> None:
    by_model = [
        json.loads(cli("evaluate", folder, "-m", m, "-s", "2", "--json").text.splitlines()[-1])
        for m in ("bicubic", "known-srcnn")
    ]
    assert by_model[0]["bicubic_psnr_y"] == by_model[1]["bicubic_psnr_y"]
    assert by_model[0]["psnr_y"] == by_model[0]["bicubic_psnr_y"]


def test_the_table_has_a_row_per_set_and_escapes_names(cli: Cli, folder: Path) -> None:
    done = cli("evaluate", folder, "-m", "bicubic", "-s", "2,4", "-v")
    assert done.code == 0
    assert "\x1b" not in done.text
    assert "Set5/a[bold].png" in done.text
    assert "Set5/b\\x1b[2J.png" in done.text
    assert len([line for line in done.text.splitlines() if line.startswith("Set5 ")]) == 2
    brief = cli("evaluate", folder, "-m", "bicubic", "-s", "2,4").text.splitlines()
    assert [line.split()[:3] for line in brief[1:]] == [
        ["Set5", "bicubic", s] for s in ("x2", "x4")
    ]
    assert "alpha" not in brief[0]


def test_the_published_row_beside(cli: Cli, folder: Path) -> None:
    options = ("evaluate", folder, "-m", "bicubic", "-s", "4", "--paper")
    assert "28.42 0.8104" in cli(*options).text
    records = [json.loads(line) for line in cli(*options, "--json").text.splitlines()]
    assert [r["paper_psnr_y"] for r in records] == [None, None, 28.42]
    assert records[-1]["paper_ssim_y"] == 0.8104
    assert "28.42" not in cli(*options[:-1]).text


def test_both_protocols_and_given_pictures(
    cli: Cli, folder: Path, write: Writer, photo: np.ndarray
) -> None:
    common = ("evaluate", folder, "-m", "known-srcnn", "--json")
    values = [
        json.loads(cli(*common, "--protocol", p).text.splitlines()[-1]) for p in ("edsr", "srcnn")
    ]
    assert [v["protocol"] for v in values] == ["edsr", "srcnn"]
    assert values[1]["psnr_rgb"] is None
    for name in ("a[bold]", "b\x1b[2J"):
        write(f"lr/{name}x2.png", photo[:30, :31])
    given = json.loads(cli(*common, "--lr-dir", folder.parent / "lr").text.splitlines()[-1])
    assert given["psnr_y"] < values[0]["psnr_y"] - 3


def test_damage_makes_a_row_for_each_chain(cli: Cli, folder: Path) -> None:
    options = ("evaluate", folder, "-m", "bicubic", "-s", "2", "--degrade", "clean,jpeg:75")
    chain = "blur:0.8+noise:5+jpeg:30"
    done = cli(*options, "--degrade", chain, "--json")
    records = [json.loads(line) for line in done.text.splitlines()]
    assert [r["degrade"] for r in records] == [None] * 3 + ["jpeg:75"] * 3 + [chain] * 3
    clean, jpeg, worst = records[2::3]
    assert clean["psnr_y"] > jpeg["psnr_y"] > worst["psnr_y"]
    assert clean["mean_gradient_truth"] == worst["mean_gradient_truth"] > 0
    again = cli(*options, "--degrade", chain, "--json").text.splitlines()
    for line, record in zip(again, records, strict=True):
        assert json.loads(line) | {"seconds": 0} == record | {"seconds": 0}
    brief = cli(*options, "--degrade", chain, "--paper").text.splitlines()
    assert "gradient" in brief[0]
    assert [line.split()[3] for line in brief[1:]] == ["clean", "jpeg:75", chain]
    assert "33.66" in brief[1]  # a paper prints what bicubic reaches on clean pictures alone
    assert "33.66" not in "".join(brief[2:])
    assert "damage" not in cli("evaluate", folder, "-m", "bicubic", "-s", "2").text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("missing",), 2, "does not exist"),
        (("Set5/a[bold].png",), 2, "is a file"),
        (("empty",), 1, "holds no picture"),
        (("Set5", "-m", "nothing"), 2, "nothing"),
        (("Set5", "-s", "2.5"), 2, "'2.5'"),
        (("Set5", "-m", "known-pair", "--alpha", "2"), 2, "outside"),
        (("Set5", "-m", "known-pair", "--alpha", "0:1"), 2, "'0:1'"),
        (("Set5", "-m", "known-srcnn", "--alpha", "1"), 2, "--alpha"),
        (("Set5", "-m", "known-srcnn", "--protocol", "x"), 2, "'x'"),
        (("Set5", "-m", "known-srcnn", "--lr-dir", "nowhere"), 2, "nowhere"),
        (("Set5", "-m", "known-srcnn", "--lr-dir", "Set5"), 1, "a[bold]x2.png"),
        (("Set5", "-m", "known-srcnn", "--tile", "few"), 2, "few"),
        (("Set5", "-m", "known-srcnn", "--degrade", "jpg:50"), 2, "'jpg' is no kind"),
        (("Set5", "-m", "known-srcnn", "--degrade", "jpeg:50,noise:0"), 2, "'0' is no sigma"),
        (("Set5", "-m", "known-srcnn", "--degrade", "jpeg:101"), 2, "from 1 to 100"),
        (("missing", "-m", "nothing", "--degrade", "blur"), 2, "'' is no sigma"),
        (("Set5", "-m", "known-srcnn", "--degrade", "noise-float:25"), 2, "scale 1"),
        (
            ("Set5", "-m", "known-srcnn", "--degrade", "jpeg:50", "--protocol", "srcnn"),
            2,
            "--protocol srcnn",
        ),
        (("Set5", "-m", "known-srcnn", "--device", "tpu"), 2, "tpu"),
        ((), 2, "HR_DIR"),
    ],
)
def test_bad_input_is_one_line_and_nothing_on_stdout(
    cli: Cli,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    (folder.parent / "empty").mkdir()
    monkeypatch.chdir(folder.parent)
    done = cli("evaluate", *arguments)
    assert (done.code, done.out) == (code, b"")
    assert [line for line in done.lines if "error" in line and words in line], done.err
    assert len(done.lines) == 1


def test_a_picture_that_is_too_small_stops_before_the_others(
    cli: Cli, folder: Path, write: Writer, photo: np.ndarray
) -> None:
    write("Set5/z.png", photo[:12, :12])
    done = cli("evaluate", folder, "-m", "bicubic", "-s", "4", "--json")
    assert (done.code, done.out) == (1, b"")
    assert "z.png" in done.err
    assert "12x12" in done.err


# --- another program's results --------------------------------------------------------------------

LIKENESS = """
    set picture model weights scale alpha denoise against psnr_rgb psnr_y ssim_y gradient
    perceptual near pictures seconds megapixels
"""


@pytest.fixture
def theirs(write: Writer, photo: np.ndarray, known_models: Path) -> Path:
    """Results at x2 of two pictures, both alike: of nine tenths of the contrast, and of half."""
    small = np.ascontiguousarray(photo[::2, ::2])
    large = Baseline(scale=2).image(small).astype(float)
    for name, contrast in (("a.png", 0.9), ("b_out.png", 0.5)):
        write(f"small/{name[0]}.png", small)
        write(f"theirs/{name}", (large * contrast + 128 * (1 - contrast)).astype(np.uint8))
    return write("theirs/of_none.png", small).parent


def test_against_compares_with_the_other_results_alone(
    cli: Cli, theirs: Path, photo: np.ndarray
) -> None:
    small = theirs.parent / "small"
    done = cli("evaluate", small, "--against", theirs, "-m", "known-srcnn", "--json")
    records = [json.loads(line) for line in done.text.splitlines()]
    assert all(list(record) == LIKENESS.split() for record in records)
    assert [(r["model"], r["picture"]) for r in records] == [
        (model, name) for model in ("bicubic", "known-srcnn") for name in ("a.png", "b.png", None)
    ]
    sr = Baseline(scale=2).image(np.ascontiguousarray(photo[::2, ::2]))
    inner = slice(2, -2)
    for record, name in zip(records[:2], ("a.png", "b_out.png"), strict=True):
        a, b = (x[inner, inner] for x in (sr, imread(theirs / name)))
        want = peak_signal_noise_ratio(b, a, data_range=255)
        assert record["psnr_rgb"] == pytest.approx(want, abs=1e-6)
        a, b = (rgb2ycbcr(x)[..., 0] for x in (a, b))
        edges = [np.hypot(np.diff(x, axis=1)[:-1], np.diff(x, axis=0)[:, :-1]) for x in (a, b)]
        assert record["gradient"] == pytest.approx(edges[0].mean() / edges[1].mean(), rel=1e-4)
        assert record["psnr_y"] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255))
    a, b, mean = records[:3]
    assert [r["near"] for r in (a, b, mean)] == [1, 0, 1]  # of half the contrast
    assert (mean["pictures"], mean["psnr_y"]) == (2, pytest.approx((a["psnr_y"] + b["psnr_y"]) / 2))


@pytest.mark.parametrize("installed", [True, False])
def test_the_table_has_a_column_for_the_perceptual_distance_where_it_can(
    cli: Cli, theirs: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(perceptual, "is_installed", lambda: installed)
    monkeypatch.setattr(perceptual, "distance", lambda a, b: ((a - b) ** 2).mean())
    small = theirs.parent / "small"
    done = cli("evaluate", small, "--against", theirs, "-m", "known-srcnn", "-v")
    head, *rows = done.text.splitlines()
    assert ("perceptual" in head) == installed
    assert any("pip install 'upscale[perceptual]'" in line for line in done.lines) == (
        not installed
    )
    assert [row.split()[1] for row in rows] == ["bicubic"] * 3 + ["known-srcnn-x2"] * 3
    assert "1 of 2" in rows[2]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--against", "nowhere"), 2, "'nowhere' is no folder"),
        (("--against", "empty"), 1, "holds no result for 'a.png'"),
        (("--against", "theirs", "-s", "4"), 1, "62x60 pixels where 124x120"),
        (("--against", "theirs", "--paper"), 2, "--paper goes with ground truth"),
        (("--against", "theirs", "--lr-dir", "small"), 2, "--lr-dir goes with"),
        (("--against", "theirs", "--degrade", "jpeg:50"), 2, "--degrade goes with"),
        (("--against", "theirs", "--protocol", "srcnn"), 2, "--protocol goes with"),
    ],
)
def test_bad_input_of_against(
    cli: Cli,
    theirs: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    (theirs.parent / "empty").mkdir()
    monkeypatch.chdir(theirs.parent)
    done = cli("evaluate", "small", "-m", "bicubic", "-s", "2", *arguments)
    assert (done.code, done.out) == (code, b"")
    assert len(done.lines) == 1
    assert words in done.lines[0]
