"""Run a network over a picture: tiles, batches, precision, memory.

In goes a network (``prepare``) and a picture in [0, 1], whole or by rows; out come strips of the
result, or whole results of small pictures of one size. Begin with ``runner.py`` (``run``, what a
caller may ask for); ``engine.py`` has a network on its device and the loop over the tiles,
``noise.py`` what networks draw from.
"""

from upscale.inference.engine import Prepared, Progress, RunReport, Strip, prepare
from upscale.inference.noise import Noise
from upscale.inference.runner import check_options, run, run_together, shared

__all__ = [
    "Noise",
    "Prepared",
    "Progress",
    "RunReport",
    "Strip",
    "check_options",
    "prepare",
    "run",
    "run_together",
    "shared",
]
