"""What a shell offers for the values of options and arguments: models, weights, recipes, words.

Nothing here imports torch: a shell asks at every press of the key. An index that cannot be read
offers nothing; the command itself says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from upscale.errors import CheckpointError

if TYPE_CHECKING:
    from upscale.checkpoints import WeightsFile

Found = list[tuple[str, str]]  # what is offered, and a line of help that some shells show

WORD = re.compile(r"[a-z][a-z0-9]*")


def weights(incomplete: str) -> Found:
    """Names of the weights on this machine, and of their families."""
    return _beginning_with(incomplete, _present())


def models(incomplete: str) -> Found:
    """What ``--model`` takes by name; behind a comma, what it takes next."""
    before, comma, last = incomplete.rpartition(",")
    found = _beginning_with(last, [("bicubic", "no network"), *_present()])
    return [(before + comma + name, title) for name, title in found]


def published(incomplete: str) -> Found:
    """Names of the checkpoints that can be fetched, and of their families."""
    from upscale.checkpoints import official

    return _beginning_with(incomplete, _with_families(list(official().values())))


def recipes(incomplete: str) -> Found:
    """Names of the recipes of ``upscale train``."""
    import tomllib
    from importlib.resources import files

    text = files("upscale.training").joinpath("recipes.toml").read_text("utf-8")
    tables = tomllib.loads(text)  # the recipes themselves load torch
    return _beginning_with(incomplete, [(name, table["title"]) for name, table in tables.items()])


def words_of(metavar: str, incomplete: str) -> Found:
    """The words among what an option takes, of ``auto|off|N`` the first two."""
    words = [(word, "") for word in metavar.strip("[]").split("|") if WORD.fullmatch(word)]
    return _beginning_with(incomplete, words)


def _present() -> Found:
    from upscale.checkpoints import entries

    try:
        return _with_families(entries())
    except CheckpointError:
        return []


def _with_families(rows: list[WeightsFile]) -> Found:
    """The families of rows; then the rows themselves."""
    families = dict.fromkeys(row.family for row in rows if row.family)
    return [*((name, "family") for name in families), *((row.name, row.title) for row in rows)]


def _beginning_with(incomplete: str, found: Iterable[tuple[str, str]]) -> Found:
    return [(name, title) for name, title in dict(found).items() if name.startswith(incomplete)]
