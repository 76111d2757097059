"""Batches: plan (discover, name, refuse), run (decode | network | encode), journal, report.

``upscale.batch(...)`` is ``upscale.batch.api.batch``: this package can be called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from upscale.batch.report import Record

__all__ = ["Record"]


class _Callable(ModuleType):
    """A module that can be called: ``upscale.batch(...)`` beside ``upscale.batch.run``."""

    def __call__(self, *args: Any, **options: Any) -> Iterator[Record]:
        from upscale.batch.api import batch

        return batch(*args, **options)


sys.modules[__name__].__class__ = _Callable
