"""Options that are said once: a field of a dataclass with its name, meaning, default and limits.

The command line, ``upscale.load``, ``upscale.batch`` and the journal's digest all follow from the
dataclasses of ``upscale.settings``, which are made of :func:`option`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from inspect import Parameter, Signature
from typing import Any

from upscale.errors import UsageError

Check = Callable[[Any], str]  # what is wrong with a value, or ""

OUTPUT, MODEL, COMPUTE = "Output", "Model and size", "Computing"  # panels of --help
FILES, RUNNING = "Many pictures", "Running and reporting"


@dataclass(frozen=True)
class Option:
    """How a field is an option of the command line.

    Attributes:
        flags: Names; empty: ``--`` and the field's name.
        help: What it means; empty: it is no option of the command line.
        panel: Where ``--help`` shows it.
        metavar: What stands for its value.
        shown: The default as ``--help`` shows it; None: the default itself, False: nothing.
        kind: The type of its value on the command line; None: that of the default.
        parse: From that value to the field's; it raises ``UsageError``.
        check: What is wrong with a value of the field.
    """

    flags: tuple[str, ...] = ()
    help: str = ""
    panel: str = ""
    metavar: str | None = None
    shown: str | bool | None = None
    kind: Any = None
    parse: Callable[[Any], Any] | None = None
    check: Check | None = None


def option(default: Any, *flags: str, **more: Any) -> Any:
    """A field that is an option; ``more`` are the attributes of :class:`Option`."""
    return field(default=default, metadata={"option": Option(flags, **more)})


def option_of(kind: type, name: str) -> Option:
    """The option behind a field of a dataclass."""
    found: Option = next(f for f in fields(kind) if f.name == name).metadata["option"]
    return found


def check_options(values: Any) -> None:
    """Check every field of a dataclass of options; ``None`` stands for a default and is right.

    Raises:
        UsageError: With the name, the value, and what can be given.
    """
    for f in fields(values):
        value = getattr(values, f.name)
        check = f.metadata["option"].check if "option" in f.metadata else None
        wrong = check(value) if check is not None and value is not None else ""
        if wrong:
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            raise UsageError(f"{f.name.replace('_', ' ')} {shown} {wrong}")


def divide(values: dict[str, Any], *kinds: type) -> tuple[Any, ...]:
    """Make one instance of each dataclass from the values that bear the names of its fields.

    Raises:
        UsageError: A name belongs to none, or a value is wrong.
    """
    names = {f.name: kind for kind in kinds for f in fields(kind) if "option" in f.metadata}
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(names)}"
            raise UsageError(f"there is no option {name!r}: {hint}")
    return tuple(
        kind(**{name: value for name, value in values.items() if names[name] is kind})
        for kind in kinds
    )


def signature(own: list[Parameter], *kinds: type) -> Signature:
    """The signature of a function that takes ``own`` and the fields of dataclasses by name."""
    taken = {parameter.name for parameter in own}
    more = [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for kind in kinds
        for f in fields(kind)
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


def is_option(f: Field[Any]) -> bool:
    """Whether a field is an option of the command line."""
    return "option" in f.metadata and bool(f.metadata["option"].help)
