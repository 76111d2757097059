"""A model, loaded and ready: picture, array, bytes or file in, the same out."""

from upscale.upscaler.entry import load
from upscale.upscaler.files import check_target, read, write
from upscale.upscaler.loading import Loaded, Options
from upscale.upscaler.result import Result
from upscale.upscaler.strips import Stream
from upscale.upscaler.upscaler import Size, Upscaler

__all__ = [
    "Loaded",
    "Options",
    "Result",
    "Size",
    "Stream",
    "Upscaler",
    "check_target",
    "load",
    "read",
    "write",
]
