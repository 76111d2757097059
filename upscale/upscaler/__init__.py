"""A model, loaded and ready: picture, array, bytes or file in, the same out.

``load`` gives an ``Upscaler`` (``upscaler.py``, open it first), which holds its networks
(``networks.py``). Whatever is enlarged is one ``Enlargement`` (``enlargement.py``): rows of a
Reader in, strips of the result out; ``process`` (``job.py``) writes it to memory or to a file
and says how it went, in a ``Result``; ``pages.py`` does so for page after page.

The names below are imported on first use: a ``Result`` needs no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscale.upscaler.enlargement import Enlargement
    from upscale.upscaler.job import (
        Write,
        bytes_of,
        encoded,
        encoding_of,
        goes_by_rows,
        process,
        process_together,
        save,
        to_file,
        to_memory,
    )
    from upscale.upscaler.pages import process_pages
    from upscale.upscaler.result import Result, model_label
    from upscale.upscaler.upscaler import Upscaler, load, load_settings, same_format

__all__ = [
    "Enlargement",
    "Result",
    "Upscaler",
    "Write",
    "bytes_of",
    "encoded",
    "encoding_of",
    "goes_by_rows",
    "load",
    "load_settings",
    "model_label",
    "process",
    "process_pages",
    "process_together",
    "same_format",
    "save",
    "to_file",
    "to_memory",
]

_HOMES = {
    "Enlargement": "enlargement",
    "process_pages": "pages",
    **dict.fromkeys(("Result", "model_label"), "result"),
    **dict.fromkeys(("Upscaler", "load", "load_settings", "same_format"), "upscaler"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'upscale.upscaler' has no attribute {name!r}")
    module = importlib.import_module(f"upscale.upscaler.{_HOMES.get(name, 'job')}")
    return getattr(module, name)
