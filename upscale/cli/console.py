"""What the command line says to people: lines on stderr, where no name can act on the terminal."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Categories that a terminal may act on or that hide text: controls, formats (bidi overrides, zero
# width), surrogates (undecodable bytes), private use, line and paragraph separators.
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Return ``text`` on one line, with everything that is not plainly visible escaped.

    A newline becomes ``\n``, an escape character ``\x1b``, an undecodable byte ``\xff``.
    """
    return "".join(_escape(c) if unicodedata.category(c) in UNPRINTABLE else c for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, its middle replaced by an ellipsis."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


@contextmanager
def beside_bars() -> Iterator[None]:
    """Take bars away from the terminal while a line is written to it."""
    tqdm = sys.modules.get("tqdm.std")
    if tqdm is None:
        yield
        return
    with tqdm.tqdm.external_write_mode():
        yield


class _LogLines(logging.Handler):
    """The library's log as lines on stderr."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO if console.verbose else logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.note(f"upscale: {record.getMessage()}")


@dataclass(frozen=True)
class Console:
    """Writes to stderr."""

    quiet: bool = False  # only errors
    verbose: bool = False  # details too

    def error(self, message: str) -> None:
        """Write ``upscale: error: message`` on one line."""
        self._write(f"upscale: error: {printable(message)}")

    def warn(self, message: str) -> None:
        """Write a warning, unless quiet."""
        if not self.quiet:
            self._write(f"upscale: warning: {printable(message)}")

    def note(self, message: str) -> None:
        """Write a line, unless quiet."""
        if not self.quiet:
            self._write(printable(message))

    def detail(self, message: str) -> None:
        """Write a line when verbose."""
        if self.verbose and not self.quiet:
            self._write(printable(message))

    def show_log(self) -> None:
        """From now on, write what the library logs."""
        handler = _LogLines(self)
        logger = logging.getLogger("upscale")
        logger.handlers = [handler]
        logger.setLevel(handler.level)
        logger.propagate = False

    @staticmethod
    def _write(line: str) -> None:
        stream = sys.stderr
        if stream is None:
            return
        try:
            encoding = stream.encoding or "utf-8"
            with beside_bars():
                stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                stream.flush()
        except (BrokenPipeError, ValueError):  # nobody reads stderr any more
            return

    @staticmethod
    def is_terminal() -> bool:
        """Whether stderr is a terminal on which a progress bar can be drawn."""
        stream = sys.stderr
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
