"""A finished run's files: checkpoint, index row, card; a better one stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny import TINY, recipe
from upscale import checkpoints
from upscale.checkpoints.index import embedded_folder, read_index
from upscale.errors import CheckpointError, UsageError
from upscale.training import release, trainer
from upscale.training.recipes import FILE, find_recipe
from upscale.training.release import run_recipe, write_card
from upscale.training.trainer import RunSettings, build_network, load_watched, watch


def test_a_finished_run_can_be_loaded_and_scores_as_its_card_says(
    pictures: Path, tmp_path: Path
) -> None:
    settings = recipe(name="esrgan-tiny-psnr-x2", family="esrgan", role="psnr", steps=3)
    run = RunSettings(pictures, tmp_path / "run", watch=pictures)
    done = run_recipe(settings, run, folder=tmp_path / "weights", data_note="made pictures")
    assert done.saved is not None
    assert done.psnr is not None
    entry = read_index(tmp_path / "weights", "embedded")[settings.name]
    assert entry.verify() == done.saved.sha256
    assert (entry.role, entry.family, entry.scale) == ("psnr", "esrgan", 2)
    assert entry.scores == {"set5_psnr_y": round(done.psnr, 3)}
    loaded = checkpoints.load(done.saved.path)
    assert loaded.config == settings.network
    assert loaded.metadata.data == "made pictures"
    assert json.loads(loaded.metadata.training)["steps"] == 3
    network = checkpoints.build(loaded)
    found = watch(network, load_watched(pictures, 2), torch.device("cpu"))
    assert found == done.psnr
    card = (tmp_path / "weights" / "README.md").read_text()
    assert f"{done.psnr:.2f} dB" in card
    assert "made pictures" in card


def test_a_better_checkpoint_stays(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(steps=2)
    folder = tmp_path / "weights"
    first = run_recipe(
        settings, RunSettings(pictures, tmp_path / "a", watch=pictures), folder=folder
    )
    assert first.saved is not None
    before = first.saved.path.read_bytes()
    worse = replace(settings, seed=1, learning_rate=0.1)
    second = run_recipe(worse, RunSettings(pictures, tmp_path / "b", watch=pictures), folder=folder)
    assert second.saved is None
    assert "it stays" in second.reason
    assert first.saved.path.read_bytes() == before


def test_a_mix_is_the_interpolation_with_the_start(pictures: Path, tmp_path: Path) -> None:
    start = {k: torch.randn_like(v) for k, v in build_network(TINY["esrgan"]).state_dict().items()}
    settings = recipe(steps=1, mix=0.75, ema=0.0)
    run = RunSettings(pictures, tmp_path, weights=start)
    done = run_recipe(settings, run)
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["ema"]
    assert done.saved is not None
    for key, value in checkpoints.load(done.saved.path).state.items():
        wanted = (0.75 * trained[key] + 0.25 * start[key]).half().float()
        torch.testing.assert_close(value, wanted, atol=2e-3, rtol=1e-3)


def test_a_mix_with_another_network_is_refused() -> None:
    network = build_network(TINY["esrgan"])
    with pytest.raises(CheckpointError, match=r"conv_first\.weight of the weights to mix"):
        release.mixed(network, {"other": torch.zeros(1)}, 0.5)


def test_an_unfinished_run_releases_nothing(pictures: Path, tmp_path: Path) -> None:
    done = run_recipe(TINY["esrgan"], RunSettings(pictures, tmp_path, minutes=0.0))
    assert done.saved is None
    assert "stopped at step 1 of 6" in done.reason
    assert not list(tmp_path.glob("*.safetensors"))


def test_card_is_replaced_between_its_markers(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Weights\n\nWritten by hand.\n")
    write_card(path, "a", "first")
    write_card(path, "b", "other")
    write_card(path, "a", "second")
    text = path.read_text()
    assert text.startswith("# Weights\n\nWritten by hand.\n")
    assert "first" not in text
    assert text.count("second") == text.count("other") == 1


def test_curve_is_drawn(pictures: Path, tmp_path: Path) -> None:
    run = RunSettings(pictures, tmp_path, watch=pictures, watch_every=2)
    run_recipe(recipe(steps=4), run)
    (tmp_path / "log.ndjson").open("a").write('{"step": 5, "cut o')
    trainer.plot(tmp_path / "log.ndjson", tmp_path / "curve.png", "tiny")
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not list(tmp_path.glob("*.part*"))


def test_recipes_say_what_the_embedded_index_says() -> None:
    """Title, family and role of every released checkpoint are those of its recipe."""
    rows = read_index(embedded_folder(), "embedded")
    assert rows
    for name, row in rows.items():
        made = find_recipe(row.recipe)
        assert made.name == name
        assert (made.title, made.family, made.role) == (row.title, row.family, row.role)
        assert (made.architecture, made.scale) == (row.architecture, row.scale)


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    text = FILE.read_text()
    own = text[text.index("[srcnn-x2]") : text.index("[srcnn-x3]")]
    (tmp_path / "own.toml").write_text(own.replace("srcnn-x2", "mine").replace("4_000", "3"))
    assert find_recipe(str(tmp_path / "own.toml")) == replace(
        find_recipe("srcnn-x2"), name="mine", steps=3
    )
    for change, words in (
        (("steps", "stops"), "unexpected keyword argument 'stops'"),
        (('loss = "mse"', 'loss = "psnr"'), "loss 'psnr' is none of l1, mse"),
        (('re = "srcnn"', 're = "srgan"'), "architecture 'srgan' is none of srcnn, esrgan"),
        (("kernels", "kernel"), "unexpected keyword argument 'kernel'"),
        (("patch = 48", ""), "missing 1 required positional argument: 'patch'"),
        (("[srcnn-x2]", "[srcnn-x2"), "no file of recipes"),
        (("[srcnn-x2]", ""), "architecture None"),
    ):
        (tmp_path / "wrong.toml").write_text(own.replace(*change))
        with pytest.raises(UsageError) as caught:
            find_recipe(str(tmp_path / "wrong.toml"))
        assert words in str(caught.value)
        assert "wrong.toml" in str(caught.value)
