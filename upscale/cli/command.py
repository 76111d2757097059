"""From arguments to the command they name; only that command's module is imported."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand
from typer.main import get_command

from upscale.cli import COMMANDS, MAIN_JOB
from upscale.cli.console import printable
from upscale.errors import UsageError


class MainCommand(TyperCommand):
    """The main job; its help ends with the list of the other commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then the commands."""
        super().format_help(ctx, formatter)
        width = max(len(name) for name in COMMANDS)
        print("Other commands (upscale COMMAND --help tells more):\n")
        for name, (_, line) in COMMANDS.items():
            print(f"  {name:<{width}}  {line}")
        print()


def usage_error_type() -> type[Exception]:
    """The class of typer's usage errors (typer carries its own click since 0.2x)."""
    return cast(type[Exception], typer.BadParameter.__mro__[2])


def command_of(argv: list[str]) -> tuple[Any, str, list[str]]:
    """Return the click command that ``argv`` names, the program name to show, and its arguments."""
    if argv and argv[0] in COMMANDS:
        return load(argv[0]), f"upscale {argv[0]}", argv[1:]
    return load(None), "upscale", argv


def load(name: str | None) -> Any:
    """Import a command and return it as click's object; ``None`` is the main job at the top.

    Raises:
        UsageError: The module of the command is not part of this installation.
    """
    target = MAIN_JOB[0] if name is None else COMMANDS[name][0]
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise UsageError(
                f"'upscale {name}' needs the package {error.name!r}: pip install {error.name}"
            ) from error
        raise UsageError(f"'upscale {name}' is not part of this installation") from error
    if isinstance(found, typer.Typer):
        command = get_command(found)
        command.name = name
        return command
    app = typer.Typer(add_completion=name is None)
    if target == MAIN_JOB[0]:
        app.command(name, cls=MainCommand)(found)
    else:
        app.command(name)(found)
    return get_command(app)


def show_version(value: bool) -> None:
    """Print the version and leave, when asked for."""
    if value:
        from upscale import __version__

        print(f"upscale {printable(__version__)}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", callback=show_version, is_eager=True
    ),
]
