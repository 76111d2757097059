"""What makes a command start sooner."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Pause the collection of garbage while modules are imported and networks are loaded.

    PyTorch makes half a million objects of modules, functions and classes, and no garbage. Python
    would walk through them again and again on the way, and once more at the end of the process:
    a fifth of ``import torch``. Where it was imported in this context, what is there at the end is
    never walked through.
    """
    is_first, was_on = "torch" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_first and "torch" in sys.modules:
            gc.freeze()
        if was_on:
            gc.enable()
