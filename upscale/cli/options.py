"""Options of the command line, made from the dataclasses that say them once.

``flat`` gives typer a function of plain options: each parameter of a command that is a dataclass of
:func:`upscale.options.option` becomes one option for each of its fields. Other commands take
single ones with ``typed``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any

import typer

from upscale.cli import completion
from upscale.cli.console import Console, printable
from upscale.options import (
    COMPUTE,
    FILES,
    RUNNING,
    Option,
    between,
    check_options,
    is_option,
    one_of,
    option,
    option_of,
)
from upscale.settings import Settings


def flat(command: Callable[..., int]) -> Callable[..., int]:
    """A command whose dataclasses of options are spread out into options of their own."""
    hints = typing.get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if is_dataclass(hints[name]):
            parameters += _spread(hints[name])
        else:
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            parameters.append(parameter.replace(annotation=hints[name], kind=kind))

    def called(**values: Any) -> int:
        dataclasses = {name: hints[name] for name in own if is_dataclass(hints[name])}
        made = {name: _gathered(kind, values) for name, kind in dataclasses.items()}
        return command(**{name: made[name] if name in made else values[name] for name in own})

    called.__doc__ = command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _spread(kind: Any) -> list[inspect.Parameter]:
    """One parameter for each option of a dataclass."""
    hints = typing.get_type_hints(kind)
    found = []
    for one in filter(is_option, fields(kind)):
        declared: Option = one.metadata["option"]
        value: Any = declared.kind or _plain(hints[one.name])
        default = one.default
        if declared.parse is not None and not isinstance(default, str):
            value, default = value | None, None
        annotation = Annotated[value, typed(kind, one.name)]
        found.append(
            inspect.Parameter(
                one.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=default,
                annotation=annotation,
            )
        )
    return found


def _plain(hint: Any) -> Any:
    """A type that typer knows: a choice of words is a string."""
    return str if typing.get_origin(hint) is typing.Literal else hint


def _gathered(kind: Any, values: dict[str, Any]) -> Any:
    """The dataclass of some options as they were given."""
    taken = {}
    for one in filter(is_option, fields(kind)):
        value, parse = values[one.name], one.metadata["option"].parse
        if value is None and one.default is not None:
            continue
        taken[one.name] = parse(value) if parse is not None and value is not None else value
    return kind(**taken)


def typed(kind: type, name: str) -> Any:
    """A field of a dataclass of options, as typer takes it."""
    declared = option_of(kind, name)
    flags = declared.flags or ("--" + name.replace("_", "-"),)
    shown = True if declared.shown is None else declared.shown
    return typer.Option(
        *flags,
        help=declared.help,
        rich_help_panel=declared.panel or None,
        metavar=declared.metavar,
        show_default=shown,
        autocompletion=(
            completion.models if name == "model" else completion.words_of(declared.metavar)
        ),
    )


def tile_of(text: str) -> Any:
    """``auto``, ``off`` or a number, as the library takes it; what is none of them is passed on."""
    parse = option_of(Settings, "tile").parse
    assert parse is not None
    return parse(text)


@dataclass(frozen=True)
class CommandOptions:
    """What the command line alone knows: where it runs, and what it shows."""

    watch: bool = option(
        False,
        panel=FILES,
        help="Keep looking into the folders; a file is taken when it has stopped growing.",
    )
    engine: str = option(
        "local",
        metavar="local|ray",
        panel=FILES,
        help="ray: on the cluster of RAY_ADDRESS, or on this machine (extra ray).",
        check=one_of("local", "ray"),
    )
    workers: int = option(
        0,
        metavar="N",
        panel=FILES,
        shown="by GPUs, else cores",
        help="Workers of --engine ray.",
        check=between(0, 1 << 16),
    )
    json: bool = option(False, panel=RUNNING, help="One JSON object per picture on stdout.")
    report: str | None = option(
        None, metavar="FILE", panel=RUNNING, shown=False, help="The same in a file."
    )
    dry_run: bool = option(
        False,
        panel=RUNNING,
        help="Show outputs, sizes, memory, disk, and what will fail; write nothing.",
    )
    quiet: bool = option(False, "-q", "--quiet", panel=RUNNING, help="Only errors.")
    verbose: bool = option(
        False, "-v", "--verbose", panel=RUNNING, help="One line for each picture."
    )

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def console(self) -> Console:
        """Where lines for people go."""
        return Console(self.quiet, self.verbose)


def _same(kind: type, name: str) -> Any:
    """The option of this name once more, for another command."""
    found = next(f for f in fields(kind) if f.name == name)
    return field(default=found.default, metadata=found.metadata)


@dataclass(frozen=True)
class Computing:
    """How the models of a comparison run, all of them alike."""

    device: str = option(
        "auto", metavar="NAME", panel=COMPUTE, help="auto, cpu, cuda, cuda:N, or mps."
    )
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
        names = {f.name for f in fields(Settings)}
        return Settings(**{name: value for name, value in vars(self).items() if name in names})


def _show_version(value: bool) -> None:
    """Print the version and leave, when asked for."""
    if value:
        from upscale import __version__

        print(f"upscale {printable(__version__)}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders, globs, URLs of any fsspec file system, or - (one picture on stdin).",
        show_default=False,
    ),
]
MODELS: Any = option(  # of commands that take several
    None,
    "-m",
    "--model",
    metavar="NAME",
    shown="esrgan",
    help="Family, weights name, checkpoint file, or bicubic; may be repeated.",
)
ALPHAS: Any = option(
    None,
    metavar="A,A,...",
    shown="0.8",
    help="esrgan: a list like 0,0.5,1 or a range like 0:1:0.2.",
)
