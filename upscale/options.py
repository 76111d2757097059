"""Options that are said once: a field of a dataclass with its name, meaning, default and limits.

The command line, ``upscale.load``, ``upscale.batch`` and the journal's digest all follow from the
dataclasses of ``upscale.settings``, which are made of :func:`option`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from upscale.errors import UsageError

Check = Callable[[Any], str]  # what is wrong with a value, or ""


@dataclass(frozen=True)
class Option:
    """How a field is an option of the command line.

    Attributes:
        usage: Its names and what stands for its value: ``-f, --format EXT``; empty: it is no option
            of the command line.
        help: What it means.
        panel: Where ``--help`` shows it.
        shown: The default as ``--help`` shows it; None: the default itself.
        parse: From the text on the command line to the field's value; it raises ``UsageError``.
        check: What is wrong with a value of the field.
    """

    usage: str = ""
    help: str = ""
    panel: str = ""
    shown: str | None = None
    parse: Callable[[str], Any] | None = None
    check: Check | None = None

    @property
    def names(self) -> list[str]:
        """``-f`` and ``--format`` of ``-f, --format EXT``."""
        return [word.rstrip(",") for word in self.usage.split() if word.startswith("-")]

    @property
    def metavar(self) -> str:
        """``EXT`` of ``-f, --format EXT``; empty for a flag."""
        return self.usage.split()[-1] if not self.usage.split()[-1].startswith("-") else ""


def option(default: Any, usage: str = "", help: str = "", **more: Any) -> Any:  # noqa: A002
    """A field that is an option; see :class:`Option`."""
    return field(default=default, metadata={"option": Option(usage, help, **more)})


# The same, in the panels of --help.
output_option = partial(option, panel="Output")
model_option = partial(option, panel="Model and size")
compute_option = partial(option, panel="Computing")
files_option = partial(option, panel="Many pictures")
running_option = partial(option, panel="Running and reporting")


def options_of(options: Any) -> dict[str, Option]:
    """The options among the fields of a dataclass, by name."""
    return {f.name: f.metadata["option"] for f in fields(options) if "option" in f.metadata}


def check_options(values: Any) -> None:
    """Check every field of a dataclass of options; ``None`` stands for a default and is right.

    Raises:
        UsageError: With the name, the value, and what can be given.
    """
    for name, declared in options_of(values).items():
        value = getattr(values, name)
        wrong = declared.check(value) if declared.check is not None and value is not None else ""
        if wrong:
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            raise UsageError(f"{name.replace('_', ' ')} {shown} {wrong}")


def divide(values: dict[str, Any], *classes: type) -> tuple[Any, ...]:
    """Make one instance of each dataclass from the values that bear the names of its fields.

    Raises:
        UsageError: A name belongs to none, or a value is wrong.
    """
    names = {name: options for options in classes for name in options_of(options)}
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(names)}"
            raise UsageError(f"there is no option {name!r}: {hint}")
    return tuple(
        options(**{name: value for name, value in values.items() if names[name] is options})
        for options in classes
    )


def signature(own: list[Parameter], *classes: Any) -> Signature:
    """The signature of a function that takes ``own`` and the fields of dataclasses by name."""
    taken = {parameter.name for parameter in own}
    more = [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for options in classes
        for f in fields(options)
        if f.name not in taken and "option" in f.metadata
    ]
    return Signature([*own, *more])


def one_of(*choices: str) -> Check:
    """A check for one of some words."""
    words = " or ".join([", ".join(choices[:-1]), choices[-1]])
    return lambda value: "" if value in choices else f"is unknown: give {words}"


def between(low: float, high: float, note: str = "") -> Check:
    """A check for numbers from ``low`` to ``high``, both included."""
    text = f"is outside [{low}, {high}]{note}"
    return lambda value: "" if low <= value <= high else text


def is_file(name: str) -> str:
    """A check for names of files."""
    return "" if Path(name).is_file() else "is no file: check the path"


def integers(pattern: str, refusal: str) -> Callable[[str], tuple[int, ...]]:
    """A parser of text that holds integers, in the groups of ``pattern``."""

    def parse(text: str) -> tuple[int, ...]:
        match = re.fullmatch(pattern, text.strip())
        if match is None:
            raise UsageError(refusal.format(text))
        return tuple(map(int, match.groups()))

    return parse


def word_or(number: type[int] | type[float]) -> Callable[[str], Any]:
    """A parser of numbers that takes what is none as a word."""

    def parse(text: str) -> Any:
        try:
            return number(text)
        except ValueError:
            return text.strip()

    return parse
