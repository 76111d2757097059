"""Options that are said once: a field of a dataclass with its name, meaning, default and limits.

The command line, ``upscale.load``, ``upscale.batch`` and the journal's digest all follow from
dataclasses that are made of :func:`option`: ``upscale.settings.Settings``, which decides the bytes
of an output, and here what does not: ``RunOptions``, ``Outputs`` (where they go), ``Selection``.
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
    """How a field is an option of the command line."""

    usage: str = ""  # names and what stands for the value: -f, --format EXT; empty: Python's alone
    help: str = ""  # what it means
    panel: str = ""  # where --help shows it
    shown: str | None = None  # the default as --help shows it; None: the default itself
    parse: Callable[[str], Any] | None = None  # from the command line's text; raises UsageError
    check: Check | None = None  # what is wrong with a value of the field

    @property
    def names(self) -> list[str]:
        """``-f`` and ``--format`` of ``-f, --format EXT``."""
        return [word.rstrip(",") for word in self.usage.split() if word.startswith("-")]

    @property
    def metavar(self) -> str:
        """``EXT`` of ``-f, --format EXT``; empty for a flag."""
        return " ".join(word for word in self.usage.split() if not word.startswith("-"))


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


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes a byte of an output.

    Raises:
        UsageError: A value is out of range.
    """

    device: str = compute_option(
        "auto", "--device NAME", "auto, cpu, cuda, cuda:N, mps; several with commas: cuda:0,cuda:1."
    )
    jobs: int = compute_option(
        0,
        "-j, --jobs N",
        "Threads that decode, and as many that encode.",
        shown="auto",
        check=between(0, 1024),
    )
    max_pixels: int | None = compute_option(
        None,
        "--max-pixels N",
        "Largest input, in pixels.",
        shown="268 million; 64 times that for what is read by rows",
        check=between(1, 1 << 40),
    )
    fail_fast: bool = running_option(False, "--fail-fast", "Stop at the first failure.")

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def devices(self) -> list[str]:
        """The names of the devices, each once."""
        names = [name.strip() for name in self.device.split(",")]
        if len(set(names)) < len(names) or "" in names:
            raise UsageError(f"device {self.device!r}: name each device once, with commas between")
        return names


@dataclass(frozen=True)
class Outputs:
    """Where outputs go and what may happen to what is there.

    Raises:
        UsageError: Two options do not go together.
    """

    output: str | None = output_option(
        None,
        "-o, --output PATH",
        "A file (one input), a folder (the tree is mirrored), - (stdout), or a template with "
        "{stem} {parent} {input_ext} {model} {scale} {alpha} {denoise} {sample} {page} {ext}.",
        shown="beside the input: {stem}_{model}_x{scale}.{ext}",
    )
    uncertainty: str | None = output_option(
        None,
        "--uncertainty FILE",
        "vae: write a map of where the result is a guess, the standard deviation of every pixel, "
        "as 16-bit gray; for several pictures a template.",
    )
    uncertainty_view: str | None = output_option(
        None, "--uncertainty-view FILE", "The same map in colour, with a legend."
    )
    keep_samples: bool = output_option(
        False, "--keep-samples", "vae: write each draw too: {sample} in a template, else _0, _1."
    )
    keep_dates: bool = output_option(
        False, "--keep-dates", "Give an output the modification time of its input."
    )
    overwrite: bool = output_option(False, "--overwrite", "Replace outputs that exist.")
    skip_existing: bool = output_option(
        False,
        "--skip-existing",
        "Leave outputs that exist. With neither, an output that exists is refused before any "
        "work, unless the folder's journal or the provenance in it tells that it was made from "
        "this input with these settings: then it is done already. What the journal records is "
        "made anew when its input or the settings have changed.",
    )
    shard: tuple[int, int] | None = files_option(
        None,
        "--shard I/N",
        "Do the I-th of N parts: one for each job of an array.",
        parse=integers(r"(\d+)/(\d+)", "shard {!r} is not I/N: give for example 3/16"),
    )

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing: give one of them")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise UsageError(f"shard {self.shard[0]}/{self.shard[1]}: give i/N with i from 1 to N")


@dataclass(frozen=True)
class Selection:
    """Which pictures are taken."""

    recursive: bool = files_option(False, "-r, --recursive", "Folders in folders too.")
    include: tuple[str, ...] = files_option(
        (), "--include GLOB", "Take only names or paths in a folder that match; may be repeated."
    )
    exclude: tuple[str, ...] = files_option(
        (), "--exclude GLOB", "Leave out names, paths, or folders that match; may be repeated."
    )
    files_from: str | None = files_option(
        None,
        "--files-from FILE|-",
        "Read inputs from a list, or the failures from an earlier --report.",
    )
    null: bool = files_option(False, "-0, --null", "The list is separated by NUL.")

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.null and self.files_from is None:
            raise UsageError("-0 tells how a list is separated: give --files-from too")
