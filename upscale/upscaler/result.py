"""How a picture was enlarged."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from upscale import __version__
from upscale.checkpoints.names import SUFFIXES


@dataclass(frozen=True)
class Result:
    """How a picture was enlarged.

    Attributes:
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
        seconds: Wall time; of :meth:`Upscaler.file` with reading and writing.
        network_seconds: Of these, those in which the networks ran.
        input: Path of the input, of :meth:`Upscaler.file`.
        output: Path of the output, of :meth:`Upscaler.file`.
        losses: What of the input the output does not hold, one sentence each.
        hint: Options that suit the picture better, and why; "" where there are none.
        samples: Draws whose mean it is; None where the model draws nothing.
        seed: Of the first draw.
        temperature: Of the draws.
    """

    model: str
    weights: dict[str, str]
    alpha: float | None
    denoise: float | None
    scale: float
    device: str
    dtype: str
    tile: int | None
    retries: int
    width: int
    height: int
    out_width: int
    out_height: int
    seconds: float
    network_seconds: float = 0.0
    input: str | None = None
    output: str | None = None
    losses: tuple[str, ...] = ()
    hint: str = ""
    samples: int | None = None
    seed: int | None = None
    temperature: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return asdict(self)

    def provenance(self) -> dict[str, Any]:
        """What is written into the output: how it was made, nothing that differs between runs."""
        return {
            "software": f"upscale {__version__}",
            "model": model_label(self.model),
            "weights": self.weights,
            "alpha": self.alpha,
            "denoise": self.denoise,
            "scale": round(self.scale, 6),
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
