"""Options of the command line, made from the dataclasses that say them once.

``flat`` gives typer a function of plain options: each parameter of a command that is a dataclass of
:func:`upscale.options.option` becomes one option for each of its fields. Other commands take
single ones with ``typed``.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
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
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        parameters += (
            _spread(kind)
            if is_dataclass(kind)
            else [
                parameter.replace(
                    annotation=kind,
                    default=None if parameter.default is parameter.empty else parameter.default,
                )
            ]
        )

    @functools.wraps(command)
    def called(**values: Any) -> int:
        given = {}
        for name in inspect.signature(command).parameters:
            kind = hints[name]
            given[name] = _gathered(kind, values) if is_dataclass(kind) else values[name]
        return command(**given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    del called.__wrapped__
    return called


def _spread(kind: Any) -> list[inspect.Parameter]:
    """One parameter for each option of a dataclass."""
    hints = typing.get_type_hints(kind)
    found = []
    for field in filter(is_option, fields(kind)):
        declared: Option = field.metadata["option"]
        value: Any = declared.kind or _plain(hints[field.name])
        default = field.default
        if declared.parse is not None and not isinstance(default, str):
            value, default = value | None, None
        annotation = Annotated[value, typed(kind, field.name)]
        found.append(
            inspect.Parameter(
                field.name,
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
    for field in filter(is_option, fields(kind)):
        value, parse = values[field.name], field.metadata["option"].parse
        if value is None and field.default is not None:
            continue
        taken[field.name] = parse(value) if parse is not None and value is not None else value
    return kind(**taken)


def typed(kind: type, name: str) -> Any:
    """A field of a dataclass of options, as typer takes it."""
    declared = option_of(kind, name)
    flags = declared.flags or ("--" + name.replace("_", "-"),)
    shown = True if declared.shown is None else declared.shown
    return typer.Option(
        *flags,
        help=declared.help,
        rich_help_panel=declared.panel,
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
Models = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME",
        show_default="esrgan",
        help="Family, weights name, checkpoint file, or bicubic; may be repeated.",
        autocompletion=completion.models,
    ),
]
Denoises = Annotated[
    str | None,
    typer.Option(
        "--denoise",
        metavar="D,D,...",
        show_default="auto",
        help="esrgan: auto, or a list like 0,0.5,1.",
    ),
]
Alphas = Annotated[
    str | None,
    typer.Option(
        "--alpha",
        metavar="A,A,...",
        show_default="0.8",
        help="esrgan: a list like 0,0.5,1 or a range like 0:1:0.2.",
    ),
]
OneDevice = Annotated[
    str,
    typer.Option(metavar="NAME", rich_help_panel=COMPUTE, help="auto, cpu, cuda, cuda:N, or mps."),
]
Tta = Annotated[bool, typed(Settings, "tta")]
Tile = Annotated[str, typed(Settings, "tile")]
Overlap = Annotated[int | None, typed(Settings, "overlap")]
Dtype = Annotated[str, typed(Settings, "dtype")]
Samples = Annotated[int, typed(Settings, "samples")]
Seed = Annotated[int, typed(Settings, "seed")]
Temperature = Annotated[float, typed(Settings, "temperature")]
Quiet = Annotated[bool, typed(CommandOptions, "quiet")]

__all__ = [
    "Alphas",
    "CommandOptions",
    "Denoises",
    "Dtype",
    "Inputs",
    "Models",
    "OneDevice",
    "Overlap",
    "Quiet",
    "Samples",
    "Seed",
    "Temperature",
    "Tile",
    "Tta",
    "VersionOption",
    "flat",
    "tile_of",
    "typed",
]
