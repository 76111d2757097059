"""What became of a picture: what Python gets, and the line of a report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from upscale import __version__
from upscale.checkpoints.index import SUFFIXES

UNREPORTED = ("hint", "samples", "seed", "temperature", "is_fatal", "data")


@dataclass(frozen=True)
class Result:
    """What became of a picture; up to ``losses``, the fields in the order of a report.

    Attributes:
        input: Location of the input.
        output: Location of the output.
        status: ``ok``, ``skipped`` (it was there), or ``failed``.
        error: Why it failed or was skipped; None when all is well.
        model: The model as it was asked for.
        weights: SHA-256 of each checkpoint that took part, by its name.
        alpha: Share of the GAN net; None where the model is no pair.
        denoise: Share of the pair for real pictures; None where the model has none.
        scale: Final enlargement (of the longer ratio, where a size was asked for).
        device: Where it was computed.
        dtype: In which precision: "fp32", "fp16", "bf16".
        tile: Useful side of the tiles in LR pixels; None: the picture whole.
        retries: Tiles computed again, for want of memory or because they were not finite.
        width: Columns of the input.
        height: Rows of the input.
        out_width: Columns of the output.
        out_height: Rows of the output.
        seconds: Work on this picture; of a file from the first byte read to the last one written,
            without the time in which it waited for others.
        network_seconds: Of these, those in which the networks ran.
        losses: What of the input the output does not hold, one sentence each.
        hint: Options that suit the picture better, and why; "" where there are none.
        samples: Draws whose mean it is; None where the model draws nothing.
        seed: Of the first draw.
        temperature: Of the draws.
        is_fatal: Why it failed will meet every further picture too.
        data: The bytes of an output that goes to stdout.
    """

    input: str | None = None
    output: str | None = None
    status: Literal["ok", "skipped", "failed"] = "ok"
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
    hint: str = ""
    samples: int | None = None
    seed: int | None = None
    temperature: float | None = None
    is_fatal: bool = False
    data: bytes | memoryview | None = field(default=None, repr=False, compare=False)

    @property
    def pixels(self) -> int:
        """Pixels of the input."""
        return (self.width or 0) * (self.height or 0)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return {
            name: value for name, value in vars(self).items() if name not in ("data", "is_fatal")
        }

    def line(self) -> str:
        """The line of a report: ASCII JSON, with its newline."""
        values = {name: v for name, v in self.to_dict().items() if name not in UNREPORTED}
        if self.scale is not None:
            values["scale"] = round(self.scale, 6)
        for name in ("seconds", "network_seconds"):
            values[name] = round(values[name], 4)
        return json.dumps(values, allow_nan=False) + "\n"

    def provenance(self) -> dict[str, Any]:
        """What is written into the output: how it was made, nothing that differs between runs."""
        return {
            "software": f"upscale {__version__}",
            "model": model_label(self.model or ""),
            "weights": self.weights,
            "alpha": self.alpha,
            "denoise": self.denoise,
            "scale": round(self.scale or 1, 6),
            "dtype": self.dtype,
            "samples": self.samples,
            "seed": self.seed,
            "temperature": self.temperature,
        }


def model_label(model: str) -> str:
    """What a model is called in names and pictures: of a checkpoint file its stem, ``a+b``."""
    paths = [PurePath(name.strip()) for name in model.split(",")]
    return "+".join(
        path.stem if len(path.parts) > 1 or path.suffix in SUFFIXES else str(path) for path in paths
    )
