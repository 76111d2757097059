"""Options of the command line, made from the dataclasses that say them once.

``spread`` gives typer a function of plain options: each parameter of a command that is a dataclass
of :func:`upscale.options.option` becomes an option for each of its fields.

What a shell offers for their values comes last (``complete_...``). Nothing there imports torch: a
shell asks at every press of the key. An index that cannot be read offers nothing; the command
itself says what is wrong with it.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli.console import Console
from upscale.errors import CheckpointError
from upscale.options import (
    between,
    check_options,
    compute_option,
    files_option,
    one_of,
    option,
    options_of,
    running_option,
)
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.checkpoints import WeightsFile

Found = list[tuple[str, str]]  # what a shell offers, and a line of help that some shells show

WORD = re.compile(r"[a-z][a-z0-9]*")


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """A command whose dataclasses of options are spread out into options of their own."""
    hints = typing.get_type_hints(command, include_extras=True)
    classes = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in classes:
            parameters += [_parameter(classes[name], option) for option in options_of(hints[name])]
        else:
            kind = Parameter.POSITIONAL_OR_KEYWORD
            parameters.append(parameter.replace(annotation=hints[name], kind=kind))

    def call(**values: Any) -> int:
        gathered = {name: _gathered(options, values) for name, options in classes.items()}
        return command(**values, **gathered)

    call.__doc__ = command.__doc__
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _parameter(options: Any, name: str) -> Parameter:
    """A field of a dataclass of options as a parameter in typer's style."""
    declared, hint = options_of(options)[name], typing.get_type_hints(options)[name]
    default = next(f.default for f in fields(options) if f.name == name)
    if declared.parse is not None:
        hint = str if isinstance(default, str) else str | None
    elif typing.get_origin(hint) is typing.Literal:
        hint = str
    elif hint == tuple[str, ...]:
        hint, default = list[str] | None, None
    annotation = typer.Option(
        *declared.names,
        help=declared.help,
        rich_help_panel=declared.panel or None,
        metavar=declared.metavar,
        show_default=True if declared.shown is None else declared.shown,
        autocompletion=_offered(name, declared.metavar),
    )
    kind = Parameter.POSITIONAL_OR_KEYWORD
    return Parameter(name, kind, default=default, annotation=Annotated[hint, annotation])


def _offered(name: str, metavar: str) -> Callable[[str], Any] | None:
    """What a shell offers for the value of an option, where that is more than names of files."""
    if name in COMPLETED:
        return COMPLETED[name]
    if metavar == metavar.upper():
        return None

    def complete(incomplete: str) -> Any:
        return _words_of(metavar, incomplete)

    return complete


def _gathered(options: Any, values: dict[str, Any]) -> Any:
    """The dataclass of some options, taken out of all that was given."""
    given = {}
    for name, declared in options_of(options).items():
        if (value := values.pop(name)) is not None:
            given[name] = value if declared.parse is None else declared.parse(value)
    made = options(**given)
    check_options(made)
    return made


@dataclass(frozen=True)
class CommandOptions:
    """What the command line alone knows: where it runs, and what it shows."""

    watch: bool = files_option(
        False,
        "--watch",
        "Keep looking into the folders; a file is taken when it has stopped growing.",
    )
    engine: str = files_option(
        "local",
        "--engine local|ray",
        "ray: on the cluster of RAY_ADDRESS, or on this machine (extra ray).",
        check=one_of("local", "ray"),
    )
    workers: int = files_option(
        0,
        "--workers N",
        "Workers of --engine ray.",
        shown="by GPUs, else cores",
        check=between(0, 1 << 16),
    )
    json: bool = running_option(False, "--json", "One JSON object per picture on stdout.")
    report: str | None = running_option(None, "--report FILE", "The same in a file.")
    dry_run: bool = running_option(
        False, "--dry-run", "Show outputs, sizes, memory, disk, and what will fail; write nothing."
    )
    quiet: bool = running_option(False, "-q, --quiet", "Only errors.")
    verbose: bool = running_option(
        False, "-v, --verbose", "One line for each picture: files, sizes, networks, losses."
    )

    @property
    def console(self) -> Console:
        """Where lines for people go."""
        return Console(self.quiet, self.verbose)


def _same(options: Any, name: str) -> Any:
    """The option of this name once more, for another command."""
    (same,) = (f for f in fields(options) if f.name == name)
    return field(default=same.default, metadata=same.metadata)


@dataclass(frozen=True)
class Computing:
    """How the models of a comparison run, all of them alike."""

    device: str = compute_option("auto", "--device NAME", "auto, cpu, cuda, cuda:N, or mps.")
    dtype: str = _same(Settings, "dtype")
    tile: int | str = _same(Settings, "tile")
    overlap: int | None = _same(Settings, "overlap")
    tta: bool = _same(Settings, "tta")
    samples: int = _same(Settings, "samples")
    seed: int = _same(Settings, "seed")
    temperature: float = _same(Settings, "temperature")
    quiet: bool = _same(CommandOptions, "quiet")

    @property
    def settings(self) -> Settings:
        """The main job's, with these."""
        names = options_of(Settings)
        return Settings(**{name: value for name, value in vars(self).items() if name in names})


MODELS: Any = option(  # of commands that take several
    None,
    "-m, --model NAME",
    "Family, weights name, checkpoint file, or bicubic; may be repeated.",
    shown="esrgan",
)
ALPHAS: Any = option(
    None, "--alpha A,A,...", "esrgan: a list like 0,0.5,1 or a range like 0:1:0.2.", shown="0.8"
)


def complete_weights(incomplete: str) -> Found:
    """Names of the weights on this machine, and of their families."""
    return _beginning(incomplete, _present())


def complete_models(incomplete: str) -> Found:
    """What ``--model`` takes by name; behind a comma, what it takes next."""
    before, comma, last = incomplete.rpartition(",")
    found = _beginning(last, [("bicubic", "no network"), *_present()])
    return [(before + comma + name, title) for name, title in found]


def complete_published(incomplete: str) -> Found:
    """Names of the checkpoints that can be fetched, and of their families."""
    from upscale.checkpoints import official

    return _beginning(incomplete, _with_families(list(official().values())))


def complete_recipes(incomplete: str) -> Found:
    """Names of the recipes of ``upscale train``."""
    import tomllib
    from importlib.resources import files

    text = files("upscale.training").joinpath("recipes.toml").read_text("utf-8")
    tables = tomllib.loads(text)  # the recipes themselves load torch
    return _beginning(incomplete, [(name, table["title"]) for name, table in tables.items()])


def _words_of(metavar: str, incomplete: str) -> Found:
    """The words among what an option takes, of ``auto|off|N`` the first two."""
    words = [(word, "") for word in metavar.strip("[]").split("|") if WORD.fullmatch(word)]
    return _beginning(incomplete, words)


def _present() -> Found:
    from upscale.checkpoints import entries

    try:
        return _with_families(entries())
    except CheckpointError:
        return []


def _with_families(rows: list[WeightsFile]) -> Found:
    """The families of rows; then the rows themselves."""
    families = dict.fromkeys(row.family for row in rows if row.family)
    return [*((name, "family") for name in families), *((row.name, row.title) for row in rows)]


def _beginning(incomplete: str, found: Iterable[tuple[str, str]]) -> Found:
    return [(name, title) for name, title in dict(found).items() if name.startswith(incomplete)]


# Options whose values have names.
COMPLETED: dict[str, Callable[[str], Found]] = {
    "model": complete_models,
    "start_from": complete_weights,
    "teacher": complete_weights,
}
