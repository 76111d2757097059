"""``--samples``, ``--uncertainty`` and their kin, by the command line on real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.test_bad_input import refused, snapshot
from tests.conftest import Finished, png
from upscale.image import decode, provenance

Cli = Callable[..., Finished]


def pixels(path: Path) -> np.ndarray:
    return decode(path.read_bytes()).pixels


def test_the_mean_each_draw_and_the_map(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    folder = picture.parent
    done = cli(
        picture, "-m", tiny_vae, "-o", folder / "out.png", "--samples", "3", "--seed", "5",
        "--keep-samples", "--uncertainty", folder / "map.tif",
        "--uncertainty-view", folder / "view.png",
    )  # fmt: skip
    assert done.code == 0, done.err
    draws = [pixels(folder / f"out_{k}.png").astype(np.float64) for k in range(3)]
    assert np.abs(draws[0] - draws[1]).mean() > 1
    mean = pixels(folder / "out.png")
    inside = ((np.array(draws) > 0) & (np.array(draws) < 255)).all(0)  # draws are clipped
    assert inside.mean() > 0.9
    np.testing.assert_allclose(mean[inside], np.mean(draws, 0)[inside], atol=1.01)
    for k in range(3):
        single = folder / f"single_{k}.png"
        options = ("-m", tiny_vae, "-o", single, "--seed", str(5 + k))
        assert cli(picture, *options).code == 0
        np.testing.assert_array_equal(pixels(single), draws[k])
    found = cv2.imread(str(folder / "map.tif"), cv2.IMREAD_UNCHANGED)  # by another reader
    assert found.dtype == np.uint16
    assert found.shape == mean.shape[:2]
    record = provenance(decode((folder / "map.tif").read_bytes()).metadata)
    assert record["uncertainty"]["full_scale"] == 0.25
    assert (record["samples"], record["seed"], record["temperature"]) == (3, 5, 0.8)
    between = np.sqrt(np.var(draws, 0, ddof=1).mean(-1)) / 255
    std = found / 65535 * 0.25
    assert (std > between - 1.5 / 255).all()
    view = pixels(folder / "view.png")
    assert view.shape[0] > mean.shape[0]
    assert view.dtype == np.uint8


def test_same_seed_same_bytes(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    folder = picture.parent
    for name in ("a.png", "b.png"):
        options = ("--samples", "2", "--uncertainty", folder / f"map-{name}")
        assert cli(picture, "-m", tiny_vae, "-o", folder / name, *options).code == 0
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()
    assert (folder / "map-a.png").read_bytes() == (folder / "map-b.png").read_bytes()


def test_a_folder_with_templates(cli: Cli, tiny_vae: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "maps").mkdir()
    for k in range(2):
        (tmp_path / "in" / f"p{k}.png").write_bytes(png(8, 9, seed=k))
    arguments = (
        tmp_path / "in", "-m", tiny_vae, "-o", tmp_path / "out" / "{stem}-{sample}.png",
        "--samples", "2", "--keep-samples", "--uncertainty", tmp_path / "maps" / "{stem}.png",
    )  # fmt: skip
    assert cli(*arguments).code == 0
    names = {p.name for p in (tmp_path / "out").glob("*.png")}
    assert names == {f"p{k}-{sample}.png" for k in range(2) for sample in ("mean", "0", "1")}
    assert {p.name for p in (tmp_path / "maps").iterdir()} == {"p0.png", "p1.png"}
    before = snapshot(tmp_path / "out") | snapshot(tmp_path / "maps")
    again = cli(*arguments, "--json")
    assert again.code == 0, again.err
    assert {json.loads(line)["status"] for line in again.text.splitlines()} == {"skipped"}
    assert snapshot(tmp_path / "out") | snapshot(tmp_path / "maps") == before


def test_stdin_to_a_file(cli: Cli, tiny_vae: Path, tmp_path: Path) -> None:
    out, chart = tmp_path / "out.png", tmp_path / "map.png"
    options = ("-m", tiny_vae, "-o", out, "--samples", "2", "--uncertainty", chart)
    assert cli("-", *options, stdin=png(8, 9)).code == 0
    assert pixels(out).shape == (16, 18, 3)
    assert pixels(chart).shape == (16, 18, 1)


@pytest.mark.parametrize("by_rows", [False, True])
def test_large_pictures_go_by_rows(
    by_rows: bool, cli: Cli, tiny_vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upscale import memory

    monkeypatch.setattr(memory, "AT_ONCE", 1 if by_rows else 1 << 27)
    (tmp_path / "in.png").write_bytes(png(60, 50))
    out, chart = tmp_path / "out.png", tmp_path / "map.png"
    options = ("-m", tiny_vae, "-o", out, "--samples", "2", "--uncertainty", chart, "--tile", "16")
    assert cli(tmp_path / "in.png", *options).code == 0
    found = (pixels(out).astype(int), pixels(chart).astype(int))
    whole = tmp_path / "whole.png", tmp_path / "whole-map.png"
    options = ("-m", tiny_vae, "-o", whole[0], "--samples", "2", "--uncertainty", whole[1])
    assert cli(tmp_path / "in.png", *options).code == 0
    assert np.abs(found[0] - pixels(whole[0])).max() <= 2
    assert np.abs(found[1] - pixels(whole[1])).max() <= 65535 / 100


def test_memory_does_not_grow_with_the_number_of_draws(tiny_vae: Path) -> None:
    import tracemalloc

    import torch

    from upscale.checkpoints import build, load
    from upscale.inference import Noise, prepare, run

    prepared = prepare(build(load(tiny_vae)))
    lr = torch.rand(1, 3, 64, 64)
    peaks = []
    for samples in (2, 12):
        noise = Noise(samples=samples, spread=True)
        list(run(prepared, lr, tile=32, noise=noise))
        tracemalloc.start()  # numpy's arrays: the noise is drawn there
        list(run(prepared, lr, tile=32, noise=noise))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    print(peaks)
    assert peaks[1] < 1.2 * peaks[0]


def bad(cli: Cli, picture: Path, *options: object, words: tuple[str, ...]) -> None:
    before = snapshot(picture.parent)
    refused(cli(picture, *options), 2, *words)
    assert snapshot(picture.parent) == before


def test_no_draws_at_all(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    options = ("-m", tiny_vae, "-o", picture.parent / "o.png")
    bad(cli, picture, *options, "--samples", "0", words=("samples 0 is outside [1,",))
    bad(cli, picture, *options, "--seed", "-1", words=("seed -1 is outside [0,",))
    bad(cli, picture, *options, "--temperature", "nan", words=("temperature nan",))


@pytest.mark.parametrize(
    ("option", "word"),
    [
        (("--uncertainty", "map.png"), "--uncertainty: tiny"),
        (("--uncertainty-view", "map.png"), "--uncertainty-view: tiny"),
        (("--samples", "2"), "--samples: tiny"),
        (("--keep-samples",), "--keep-samples: tiny"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_network_without_noise(
    option: tuple[str, ...], word: str, cli: Cli, tiny: str, picture: Path
) -> None:
    bad(cli, picture, "-m", tiny, *option, words=(word, "-m vae"))


def test_a_map_that_is_something_else(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    out = picture.parent / "o.png"
    options = ("-m", tiny_vae, "-o", out, "--uncertainty")
    bad(cli, picture, *options, out, words=("o.png is the output too",))
    bad(cli, picture, *options, picture, words=("picture.png is an input too",))
    both = picture.parent / "m.png"
    view = ("--uncertainty-view", both)
    bad(cli, picture, *options, both, *view, words=("m.png is another map too",))
    bad(cli, picture, *options, picture.parent / "m.jpg", words=("give .png or .tif",))
    bad(cli, picture, *options, picture.parent / "no" / "m.png", words=("no folder",))
    bad(cli, picture, *options, "-", words=("a map goes to a file",))
    both.write_bytes(b"mine")
    bad(cli, picture, *options, both, words=("m.png exists; give --overwrite",))


def test_several_pictures_need_a_template(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    other = picture.parent / "other.png"
    other.write_bytes(png(8, 8, seed=3))
    options = ("-m", tiny_vae, "--uncertainty", picture.parent / "m.png")
    bad(cli, picture, other, *options, words=("give a template",))


def test_several_draws_and_stdout(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    options = ("-m", tiny_vae, "-o", "-")
    bad(cli, picture, *options, "--samples", "2", words=("samples 2 and -o -", "-o FILE"))
    bad(cli, picture, *options, "--keep-samples", words=("--keep-samples", "-o FILE"))


def test_one_draw_goes_to_stdout(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    done = cli(picture, "-m", tiny_vae, "-o", "-")
    assert done.code == 0
    assert decode(done.out).pixels.shape == (24, 18, 3)


def test_evaluate_says_how_well_errors_are_known(cli: Cli, tiny_vae: Path, tmp_path: Path) -> None:
    from upscale.evaluate.scores import coverage, rank_correlation

    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(png(40, 36))
    arguments = ("evaluate", tmp_path / "set", "-m", tiny_vae, "--samples", "3", "--json")
    done = cli(*arguments)
    assert done.code == 0, done.err
    found = json.loads(done.text.splitlines()[0])
    small, out, chart = (tmp_path / name for name in ("lr.png", "out.png", "map.png"))
    truth = pixels(tmp_path / "set" / "a.png")
    from upscale.evaluate import make_pair
    from upscale.evaluate.pictures import to_pixels
    from upscale.image import Image, encode

    pair = make_pair(truth, 2, "edsr")
    small.write_bytes(encode(Image(to_pixels(pair.lr).astype(np.uint8)), "png"))
    options = ("-m", tiny_vae, "-o", out, "--samples", "3", "--uncertainty", chart)
    assert cli(small, *options).code == 0
    error = (pixels(out).astype(float) - truth)[2:-2, 2:-2]
    std = pixels(chart)[2:-2, 2:-2, 0] / 65535 * 0.25 * 255
    correlation = rank_correlation(std, np.sqrt((error**2).mean(-1)))
    assert found["rank_correlation"] == pytest.approx(correlation, abs=2e-3)
    assert found["coverage"] == pytest.approx(coverage(std[..., None], error), abs=2e-3)


def test_compare_shows_draws_mean_and_map(cli: Cli, tiny_vae: Path, picture: Path) -> None:
    folder = picture.parent
    page = folder / "page.html"
    done = cli("compare", picture, "-m", tiny_vae, "--samples", "3", "-o", page, "--json")
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.text.splitlines()]
    assert [r["variant"] for r in records] == ["", "draw 0", "draw 1", "draw 2", "mean of 3", "map"]
    assert records[-1]["lr_consistency"] is None
    assert records[1]["lr_consistency"] is not None
    text = page.read_text()
    assert all(f">{label}</option>" in text for label in ("draw 0", "draw 2", "mean of 3", "map"))
    sheet = folder / "sheet.png"
    assert cli("compare", picture, "-m", tiny_vae, "--samples", "2", "-o", sheet).code == 0
    assert pixels(sheet).shape[2] == 3
