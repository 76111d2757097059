"""``upscale INPUT...``: the main job."""

from __future__ import annotations

from typing import Annotated

import typer

from upscale.cli.command import VersionOption
from upscale.errors import UsageError


def run(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT...", help="Pictures.")
    ] = None,
    version: VersionOption = False,
) -> int:
    """Enlarge pictures."""
    raise UsageError("the main job is not built yet")
