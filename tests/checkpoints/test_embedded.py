"""The weights that come with the package are what their index, header, and card say."""

from __future__ import annotations

import re

import pytest
import torch

from upscale import checkpoints
from upscale.checkpoints.index import embedded_folder, read_index

FOLDER = embedded_folder()
ROWS = read_index(FOLDER, "embedded")
CARDS = (FOLDER / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", ROWS)
def test_row_file_and_card_agree(name: str) -> None:
    row = ROWS[name]
    assert row.path.stat().st_size == row.bytes
    loaded = checkpoints.load(row)  # compares the SHA-256
    assert loaded.architecture == row.architecture
    assert loaded.scale == row.scale
    assert loaded.parameters == row.parameters
    assert loaded.layout == "native"
    assert loaded.metadata.license == row.license != ""
    assert loaded.metadata.title == row.title != ""
    card = re.search(rf"^#+ {re.escape(name)}$(.*?)(?=^#+ |\Z)", CARDS, re.MULTILINE | re.DOTALL)
    assert card, "no card in README.md"
    score = row.scores.get("set5_psnr_y")
    assert score is None or f"| {score:.2f} dB |" in card[1]


def test_every_file_has_a_row() -> None:
    assert {p.name for p in FOLDER.glob("*.safetensors")} == {row.file for row in ROWS.values()}


def test_pairs_are_whole_and_fit() -> None:
    pairs = {(row.family, row.scale) for row in ROWS.values() if row.role}
    for family, scale in pairs:
        psnr, _, gan = (
            checkpoints.resolve(family, alpha=alpha, scale=scale) for alpha in (0.0, 0.5, 1.0)
        )
        same = [key for key in psnr.state if torch.equal(psnr.state[key], gan.state[key])]
        distinct = len(same) < len(psnr.state)
        assert distinct, f"{psnr.name} and {gan.name} hold the same network"
