"""The command line: arguments in, an exit status out; one file per command, named in ``commands``.

Errors end here. ``UpscaleError``: one line on stderr, ``upscale: error: ...``, and its
``exit_code``. Wrong usage: 2. Ctrl-C: 130. SIGTERM: 143. A closed pipe: quietly 141, as any Unix
tool. Anything else is a bug: one line and 1, and the traceback with ``UPSCALE_DEBUG=1`` in the
environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from upscale.cli.console import Console
from upscale.cli.interrupt import INTERRUPTED, Terminated, signals
from upscale.errors import UpscaleError, reason

BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line, by default with ``sys.argv[1:]``, and leave with its exit status."""
    _hold_closed_streams()
    code = status(list(sys.argv[1:] if argv is None else argv))
    signals.ignore()  # Python's end takes a while, and nothing is left to interrupt
    sys.exit(code)


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
    with signals:
        try:
            code = _call(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            code = _close_pipes()
        except (KeyboardInterrupt, Terminated):
            signals.ignore()
            Console().error(signals.name)
            code = signals.status or INTERRUPTED
    return code


def _call(argv: list[str]) -> int:
    """Call the command that ``argv`` names; turn its errors into one line and an exit status."""
    import typer

    from upscale.cli.commands import app, quick_imports

    wrong_usage: Any = typer.BadParameter.__bases__[0]  # click's, which typer does not name
    try:
        with quick_imports():
            parsed = typer.main.get_command(app).make_context("upscale", list(argv))
        with parsed as context:
            result = context.command.invoke(context)
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, EOFError):
        Console().error("aborted")
        return 1
    except wrong_usage as error:
        return _usage(error, argv)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("UPSCALE_DEBUG"):
            raise
        Console().error(_described(error))
        return error.exit_code if isinstance(error, UpscaleError) else 1
    return result if isinstance(result, int) else 0


def _usage(error: Any, argv: list[str]) -> int:
    """One line for wrong usage, with the remedy or the command whose ``--help`` tells more."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help(), file=sys.stderr)
        return 2
    path = context.command_path if context is not None else "upscale"
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    remedy = f"see '{path} --help'"
    named = argv[: argv.index("--")] if "--" in argv else argv
    for word in named:
        if word.startswith("-") and word != "-" and os.path.lexists(word):
            remedy = f"if the file {word} is meant, give ./{word}, or -- before all files"
    Console().error(f"{message}; {remedy}")
    return 2


def _described(error: Exception) -> str:
    """What went wrong: in our words, in the operating system's, or as the bug that it is."""
    if isinstance(error, UpscaleError):
        return str(error)
    if not isinstance(error, OSError):
        what = f"{type(error).__name__}: {error}"
        return f"internal error: {what}; UPSCALE_DEBUG=1 shows where"
    return f"{os.fsdecode(error.filename)}: {reason(error)}" if error.filename else reason(error)


def _close_pipes() -> int:
    """Point stdout at nothing, so that the interpreter's last flush stays quiet."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    return BROKEN_PIPE
