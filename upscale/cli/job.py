"""What was asked for on the command line, and the sum of what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upscale.batch.inputs import Input, discover
from upscale.batch.plan import Plan, plan_for
from upscale.settings import Outputs, RunOptions, Selection, Settings

if TYPE_CHECKING:
    from upscale.upscaler import Result, Upscaler


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

    def discover(self) -> list[Input]:
        """Return the pictures that were named."""
        return discover(self.names, self.selection, self.outputs.output)

    def plan(self, sources: Sequence[Input], upscaler: Upscaler) -> Plan:
        """Name the outputs of the pictures."""
        return plan_for(upscaler, sources, self.settings, self.outputs)


@dataclass
class Summary:
    """Counts over a run."""

    done: int = 0
    skipped: int = 0
    failures: list[Result] = field(default_factory=list)
    pixels: int = 0
    lossy: int = 0

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
