"""The published checkpoints that ``pull`` knows, from ``published.toml``. Loads no torch."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from upscale.checkpoints.names import Role, normal, suggestion
from upscale.errors import CheckpointError, UnknownModelError

TABLE = Path(__file__).with_name("published.toml")
Task = Literal["sr", "real", "denoise", "jpeg"]


@dataclass(frozen=True)
class Official:
    """A checkpoint as its authors publish it.

    Attributes:
        name: Weights name that it gets here.
        url: Published address.
        architecture: Key of ``MODELS``.
        scale: Enlargement.
        title: One line for people.
        license: SPDX identifier, or a sentence.
        task: "sr" clean pictures, "real" real-world pictures, "denoise", "jpeg" artefacts.
        author: Who made it.
        bytes: Size of the file; 0 where it is not published.
        sha256: Of the file; empty where it is not published.
        sha256_prefix: Its first digits, where only these are published.
        member: End of the path inside a zip archive, for an archive of several.
        channels: 1 gray, 3 RGB.
        family: Family name, as in :class:`~upscale.checkpoints.index.Entry`.
        role: As in :class:`~upscale.checkpoints.index.Entry`.
        data: What it was trained on.
        note: What a user should know.
    """

    name: str
    url: str
    architecture: str
    scale: int
    title: str
    license: str
    task: Task
    author: str
    bytes: int = 0
    sha256: str = ""
    sha256_prefix: str = ""
    member: str = ""
    channels: int = 3
    family: str = ""
    role: Role = ""
    data: str = ""
    note: str = ""

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return unquote(urlsplit(self.url).path).rsplit("/", 1)[-1]

    @property
    def expected(self) -> str:
        """The SHA-256 or as much of it as is published; may be empty."""
        return self.sha256 or self.sha256_prefix

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` is the weights name, or the published file's, in any case."""
        wanted = normal(name)
        return wanted == self.name or (not self.member and wanted == normal(self.filename))


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads(TABLE.read_text("utf-8"))


@lru_cache(maxsize=1)
def official() -> dict[str, Official]:
    """All published checkpoints by weights name, in the order of the table."""
    return {name: Official(name=name, **row) for name, row in _tables()["weights"].items()}


def lookup(name: str) -> Official | None:
    """The published checkpoint of that name or file name; None where there is none."""
    return next((entry for entry in official().values() if entry.answers_to(name)), None)


def require(name: str) -> Official:
    """The published checkpoint of that name or file name.

    Raises:
        CheckpointError: There is none; close names are in the message.
    """
    found = lookup(name)
    if found is None:
        if (reason := refused(name)) is not None:
            raise CheckpointError(reason)
        close = suggestion(name, official())
        raise UnknownModelError(f"no official checkpoint is named {name!r}; {close}")
    return found


def members(name: str) -> list[Official]:
    """The published checkpoint of that name, or all of the family of that name.

    Raises:
        CheckpointError: There is none; close names are in the message.
    """
    family = [entry for entry in official().values() if entry.family == normal(name)]
    return family or [require(name)]


def refused(name: str) -> str | None:
    """Why a published checkpoint of that name cannot be had here; None for other names."""
    for row in _tables()["refused"].values():
        if normal(name) in map(normal, row["names"]):
            reason = row.get("reason", f"is an {row.get('network')} network, which is not run here")
            return f"{name} {reason}; or take {row['instead']}"
    return None
