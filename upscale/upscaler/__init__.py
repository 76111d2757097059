"""A model, loaded and ready: picture, array, bytes or file in, the same out."""

from upscale.upscaler.networks import Size
from upscale.upscaler.processing import bytes_of, goes_by_rows, process, process_together
from upscale.upscaler.result import Result, model_label
from upscale.upscaler.stream import Stream
from upscale.upscaler.targets import Behind, InFile, InMemory, Target, encoded, save
from upscale.upscaler.upscaler import Upscaler, load, load_settings, same_format

__all__ = [
    "Behind",
    "InFile",
    "InMemory",
    "Result",
    "Size",
    "Stream",
    "Target",
    "Upscaler",
    "bytes_of",
    "encoded",
    "goes_by_rows",
    "load",
    "load_settings",
    "model_label",
    "process",
    "process_together",
    "same_format",
    "save",
]
