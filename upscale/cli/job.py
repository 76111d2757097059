"""What was asked for on the command line, and the sum of what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upscale.batch.inputs import Input, discover
from upscale.batch.plan import Plan, plan_for
from upscale.errors import UsageError
from upscale.options import Outputs, RunOptions, Selection
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.upscaler import Result, Upscaler

MOST_NAMED = 8  # files that no format reads


@dataclass(frozen=True)
class MainJob:
    """What was asked for.

    Attributes:
        names: Files, folders, globs, URLs, or ``-``.
        settings: What the outputs depend on.
        outputs: Where they go.
        selection: What is taken from folders, and a list of further inputs.
        options: How it is carried out.
    """

    names: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    outputs: Outputs = field(default_factory=Outputs)
    selection: Selection = field(default_factory=Selection)
    options: RunOptions = field(default_factory=RunOptions)

    def discover(self, unread: list[str] | None = None) -> list[Input]:
        """Return the pictures that were named; ``unread`` takes those that no format reads.

        Raises:
            UsageError: There are no others.
        """
        unread = [] if unread is None else unread
        inputs = discover(self.names, self.selection, self.outputs.output, unread)
        if unread and not inputs:
            raise UsageError(f"no picture found that can be read: {unread_text(unread)}")
        return inputs

    def plan(self, sources: Sequence[Input], upscaler: Upscaler) -> Plan:
        """Name the outputs of the pictures."""
        return plan_for(upscaler, sources, self.settings, self.outputs)


def unread_text(paths: Sequence[str]) -> str:
    """Which files of folders no format reads, for people."""
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    files = "1 file is" if len(paths) == 1 else f"{len(paths)} files are"
    names = ", ".join(paths[:MOST_NAMED])
    return f"{files} of formats that are not read, convert them first: {names}{more}"


@dataclass
class Summary:
    """Counts over a run."""

    done: int = 0
    skipped: int = 0
    failures: list[Result] = field(default_factory=list)
    pixels: int = 0
    lossy: int = 0
    unread: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one picture."""
        if result.status == "ok":
            self.done += 1
            self.lossy += bool(result.losses)
            self.pixels += result.pixels
        elif result.status == "skipped":
            self.skipped += 1
        else:
            self.failures.append(result)

    @property
    def total(self) -> int:
        """Pictures counted."""
        return self.done + self.skipped + len(self.failures)

    def text(self, seconds: float, planned: int = 0) -> str:
        """Return the sum on one line; of the ``planned`` pictures, some may not have been tried."""
        parts = [f"{self.done} done"]
        if self.skipped:
            parts.append(f"{self.skipped} already there")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        if planned > self.total:
            parts.append(f"{planned - self.total} not tried")
        speed = f" ({self.pixels / 1e6:.2f} MP of input)" if self.pixels >= 10_000 else ""
        return f"{', '.join(parts)} in {seconds:.1f} s{speed}"
