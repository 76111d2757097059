"""The command line: one file per command, listed in ``commands``.

Errors end here. ``UpscaleError``: one line on stderr, ``upscale: error: ...``, and its
``exit_code``. Wrong usage: 2. Ctrl-C: 130. SIGTERM: 143. A closed pipe: quietly 141, as any Unix
tool. Anything else is a bug: one line and 1, and the traceback with ``UPSCALE_DEBUG=1`` in the
environment.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from upscale.cli.console import Console
from upscale.cli.startup import quick_imports
from upscale.errors import UpscaleError

INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141


class Terminated(BaseException):
    """SIGTERM arrived; like ``KeyboardInterrupt``, not to be caught by accident."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status.

    Args:
        argv: The arguments after the program's name; ``None`` takes them from ``sys.argv``.
    """
    _hold_closed_streams()
    sys.exit(status(list(sys.argv[1:] if argv is None else argv)))


def _hold_closed_streams() -> None:
    """Take the numbers of closed streams (``>&-``), so that no file opened later bears them."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        continue
    os.close(number)


def status(argv: list[str]) -> int:
    """Run the command line and return its exit status; nothing but ``SystemExit`` leaves here."""
    if "_UPSCALE_COMPLETE" in os.environ:
        from upscale.cli.commands import complete

        return complete()
    previous = _on_signal(signal.SIGTERM, _raise_terminated)
    try:
        code = _call(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _on_signal(signal.SIGTERM, previous)
        code = _close_pipes()
    except KeyboardInterrupt:
        code = _ended("interrupted", INTERRUPTED)
    except Terminated:
        code = _ended("terminated", TERMINATED)
    else:
        _on_signal(signal.SIGTERM, previous)
    return code


def _ended(how: str, code: int) -> int:
    """Say how the run ended; from here on, signals have nothing left to interrupt."""
    _on_signal(signal.SIGINT, signal.SIG_IGN)
    _on_signal(signal.SIGTERM, signal.SIG_IGN)
    Console().error(how)
    return code


def _call(argv: list[str]) -> int:
    """Call the command that ``argv`` names; turn its errors into one line and an exit status."""
    import typer

    from upscale.cli.commands import Commands

    usage_error: Any = typer.BadParameter.__bases__[0]  # click's, which typer does not name
    try:
        with quick_imports():
            parsed = Commands(name="upscale").make_context("upscale", argv)
        with parsed as context:
            result = context.command.invoke(context)
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, EOFError):
        Console().error("aborted")
        return 1
    except usage_error as error:
        return _usage(error)
    except UpscaleError as error:
        if os.environ.get("UPSCALE_DEBUG"):
            raise
        Console().error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as error:
        if os.environ.get("UPSCALE_DEBUG"):
            raise
        Console().error(_os_error(error))
        return 1
    except Exception as error:
        if os.environ.get("UPSCALE_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        Console().error(f"internal error: {what}; UPSCALE_DEBUG=1 shows where")
        return 1
    return result if isinstance(result, int) else 0


def _usage(error: Any) -> int:
    """One line for wrong usage, with the command whose ``--help`` tells more."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help(), file=sys.stderr)
        return 2
    path = context.command_path if context is not None else "upscale"
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    Console().error(f"{message}; see '{path} --help'")
    return 2


def _os_error(error: OSError) -> str:
    """The operating system's error with the file it is about, on one line."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOSPC:
        reason = "no space left on the device"
    return f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason


def _close_pipes() -> int:
    """Point stdout at nothing, so that the interpreter's last flush stays quiet."""
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    return BROKEN_PIPE


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _on_signal(number: int, handler: Any) -> Any:
    """Set the handler of a signal where that is possible (the main thread); return the previous."""
    try:
        return signal.signal(number, handler)
    except ValueError:
        return None
