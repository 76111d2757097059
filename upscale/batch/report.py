"""What happened to each picture: one record, one line of JSON, and the sum of them all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from upscale.batch.task import Task
    from upscale.upscaler import Result

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True)
class Record:
    """The result of one picture, in the order of the fields of a report.

    Attributes:
        input: Location of the input.
        output: Location of the output.
        status: ``ok``, ``skipped`` (it was there), or ``failed``.
        error: Why it failed or was skipped; ``None`` when all is well.
        model: And all below: as in ``upscale.upscaler.Result``.
        seconds: Work on this picture from the first byte read to the last one written, without
            the time in which it waited for others.
        network_seconds: Of these, those in which the networks ran.
        losses: What of the input the output does not hold, one sentence each.
    """

    input: str
    output: str
    status: Status
    error: str | None = None
    model: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    alpha: float | None = None
    denoise: float | None = None
    scale: float | None = None
    device: str | None = None
    dtype: str | None = None
    tile: int | None = None
    retries: int = 0
    width: int | None = None
    height: int | None = None
    out_width: int | None = None
    out_height: int | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0
    losses: tuple[str, ...] = ()

    @staticmethod
    def of(task: Task, result: Result, seconds: float) -> Record:
        """The record of a picture that was written."""
        own = {"input", "output", "scale", "seconds", "network_seconds"}
        names = {f.name for f in fields(Record)} - own
        how = {name: value for name, value in vars(result).items() if name in names}
        return Record(
            task.source.location,
            task.output,
            "ok",
            scale=round(result.scale, 6),
            seconds=round(seconds, 4),
            network_seconds=round(result.network_seconds, 4),
            **how,
        )

    def line(self) -> str:
        """Return the record as one line of ASCII JSON, with its newline."""
        return json.dumps(asdict(self), allow_nan=False) + "\n"


@dataclass
class Summary:
    """Counts over a run."""

    done: int = 0
    skipped: int = 0
    failures: list[Record] = field(default_factory=list)
    pixels: int = 0
    lossy: int = 0

    def add(self, record: Record) -> None:
        """Count one record."""
        if record.status == "ok":
            self.done += 1
            self.lossy += bool(record.losses)
            self.pixels += (record.width or 0) * (record.height or 0)
        elif record.status == "skipped":
            self.skipped += 1
        else:
            self.failures.append(record)

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
