"""How much of this package one command meets: modules that load and run, functions, hops.

    python tests/tools/trace.py PICTURE -o OUT.png -m srcnn [--list]

Runs the command line in this process and counts with ``sys.setprofile`` and
``threading.setprofile`` what of ``upscale/`` is called, imports left out.
"""

from __future__ import annotations

import inspect
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = str(ROOT / "upscale")
sys.path.insert(0, str(ROOT))


class Tally:
    """What was called."""

    def __init__(self) -> None:
        self.functions: dict[tuple[str, str], int] = {}
        self.hops: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # and no body of a module or a class
        if not is_function or code.co_name.startswith("<") or _is_import(frame):
            return
        name = (code.co_filename[len(PACKAGE) + 1 :], code.co_qualname)
        self.functions[name] = self.functions.get(name, 0) + 1
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != code.co_filename:
            self.hops.add((caller.f_code.co_filename[len(PACKAGE) + 1 :], name[0]))


def _is_import(frame: FrameType | None) -> bool:
    """Whether a call comes from a module that is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--list"]
    from upscale.cli import status

    tally = Tally()
    threading.setprofile(tally)
    sys.setprofile(tally)
    code = status(arguments)
    sys.setprofile(None)
    threading.setprofile(None)
    modules = sorted({module for module, _ in tally.functions})
    loaded = [name for name in sys.modules if name.partition(".")[0] == "upscale"]
    print(
        f"status {code}: {len(loaded)} modules load, {len(modules)} run, "
        f"{len(tally.functions)} functions, {len(tally.hops)} hops between files"
    )
    if "--list" in sys.argv:
        for module in modules:
            names = sorted(name for found, name in tally.functions if found == module)
            print(f"{module} ({len(names)}): {' '.join(names)}")


if __name__ == "__main__":
    main()
