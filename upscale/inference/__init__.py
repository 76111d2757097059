"""Run a network over a picture: tiles, batches, precision, memory."""

from upscale.inference.noise import Noise
from upscale.inference.prepared import Prepared, prepare
from upscale.inference.progress import Progress, shared
from upscale.inference.runner import check_options, run, run_together
from upscale.inference.source import Source
from upscale.inference.tiles import RunReport, Strip

__all__ = [
    "Noise",
    "Prepared",
    "Progress",
    "RunReport",
    "Source",
    "Strip",
    "check_options",
    "prepare",
    "run",
    "run_together",
    "shared",
]
