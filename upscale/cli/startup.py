"""What makes a command start sooner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Pause the collection of garbage while modules are imported and networks are loaded.

    PyTorch makes half a million objects of modules, functions and classes, and no garbage. Python
    would walk through them again and again on the way, and once more at the end of the process:
    a fifth of ``import torch``. What is there at the end of this context is never walked through.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
