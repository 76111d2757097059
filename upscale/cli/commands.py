"""The commands: one file each, imported only when it is called.

A command is a function in typer's style (its parameters are ``Annotated[..., typer.Option(...)]``,
its docstring is the help) or a typer application, named in ``COMMANDS`` by module and attribute.
Its module imports nothing heavier than typer and ``upscale.errors`` at its top. The function does
one library call and prints; it may return an ``int``, which becomes the exit status.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
import os
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from upscale.errors import UsageError

MAIN_JOB = "run"

COMMANDS: dict[str, tuple[str, str]] = {
    MAIN_JOB: ("upscale.cli.run:run", "Enlarge pictures (the default command)."),
    "models": ("upscale.cli.models:models", "List the models that can run."),
    "weights": ("upscale.cli.weights:app", "List, verify, pull, convert and blend checkpoints."),
    "evaluate": ("upscale.cli.evaluate:evaluate", "PSNR and SSIM by the papers' protocols."),
    "compare": ("upscale.cli.compare:compare", "Contact sheet, alpha sweep, HTML page."),
    "bench": ("upscale.cli.bench:bench", "Pixels per second on this machine."),
    "train": ("upscale.cli.train:train", "Train the networks by the recipes behind the weights."),
    "info": ("upscale.cli.info:info", "What a picture is, and the provenance written in it."),
    "doctor": ("upscale.cli.doctor:doctor", "What works on this machine, and what does not."),
}

# What other tools call something that is here under another name.
ELSEWHERE = {"help": "--help", "version": "--version"}
ELSEWHERE |= {verb: f"weights {verb}" for verb in ("pull", "verify", "convert", "blend", "export")}


class Commands(TyperGroup):
    """All commands; arguments that begin with none of their names are those of the main job."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command as a list shows it, with its line of help; nothing is imported."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1]) if cmd_name in COMMANDS else None

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Return the context of the command that the arguments name; its own for none at all."""
        lists_commands = extra.get("resilient_parsing") and not args
        if lists_commands:
            return super().make_context(info_name, args, parent, **extra)
        if args and args[0] in COMMANDS:
            return readable(load(args[0])).make_context(
                f"{info_name} {args[0]}", args[1:], parent, **extra
            )
        return readable(load(None)).make_context(info_name, args, parent, **extra)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the first word: a command, or an option of the main job."""
        own = [item for item in super().shell_complete(ctx, incomplete) if item.value != "--help"]
        if not incomplete.startswith("-"):
            return own
        main_job = load(None)
        context = main_job.make_context("upscale", ["-"], resilient_parsing=True)
        return own + list(main_job.shell_complete(context, incomplete))


class MainCommand(TyperCommand):
    """The main job; its help ends with the list of the other commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what is meant otherwise; then as click does."""
        if not ctx.resilient_parsing:
            _refuse_number_after_quiet(args)
            if ctx.parent is None and ctx.info_name == "upscale":
                _refuse_mistyped_command(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then the commands."""
        super().format_help(ctx, formatter)
        width = max(len(name) for name in COMMANDS)
        print("Other commands (upscale COMMAND --help tells more):\n")
        for name, (_, line) in COMMANDS.items():
            print(f"  {name:<{width}}  {line}")
        print()


def _refuse_number_after_quiet(args: list[str]) -> None:
    """Refuse ``-q 90``, which is the quality elsewhere, unless there is a file of that name.

    Raises:
        UsageError: With the option that was meant.
    """
    end = args.index("--") if "--" in args else len(args)
    for option, value in itertools.pairwise(args[:end]):
        if option == "-q" and re.fullmatch(r"\d+", value) and not os.path.lexists(value):
            raise UsageError(
                f"{value} after -q is no file, and -q (--quiet) takes no number: "
                f"did you mean --quality {value}?"
            )


def _refuse_mistyped_command(args: list[str]) -> None:
    """Refuse a first word that is no file and nearly a command.

    Raises:
        UsageError: With the command that was meant.
    """
    word = args[0] if args else ""
    if not re.fullmatch(r"[A-Za-z]+", word) or os.path.lexists(word):
        return
    near = difflib.get_close_matches(word.lower(), [*COMMANDS, *ELSEWHERE], 1, 0.7)
    if near:
        meant = ELSEWHERE.get(near[0], near[0])
        raise UsageError(f"{word!r} is no file and no command: did you mean 'upscale {meant}'?")


def load(name: str | None) -> Any:
    """Import a command and return it as click's object; ``None`` is the main job at the top.

    Raises:
        UsageError: The module of the command is not part of this installation.
    """
    target = COMMANDS[name or MAIN_JOB][0]
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
    app.command(name, cls=MainCommand if name in (None, MAIN_JOB) else None)(found)
    return get_command(app)


def readable(command: Any) -> Any:
    """A command whose help names no types of Python and breaks lines only where they end."""
    if command.help:
        paragraphs = command.help.split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for parameter in command.params:
        quick(parameter)
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None
        elif parameter.is_flag:
            parameter.metavar = ""
        else:
            parameter.metavar = metavar_of(parameter)
        default = default_of(parameter)
        if default:
            parameter.help = f"{parameter.help or ''} Default: {default}.".strip()
        parameter.show_default = False
    own_help = command.get_help_option

    def plain_help(context: Any) -> Any:
        found = own_help(context)
        if found is not None:
            found.metavar = ""
            quick(found)
        return found

    command.get_help_option = plain_help
    for child in getattr(command, "commands", {}).values():
        readable(child)
    return command


def quick(parameter: Any) -> None:
    """Let typer convert only what needs it: it asks pydantic, whose import takes 0.1 s.

    A default is right as it is, and so is text where text is wanted. Versions of typer that do
    without pydantic are left to convert everything.
    """
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None:
        return
    convert, is_text = parameter.process_value, descriptor.annotation in (str, list[str])

    def process(context: Any, value: Any) -> Any:
        is_default = value is parameter.default and not parameter.required
        if not (is_default or (is_text and value)):
            return convert(context, value)
        called = parameter.callback
        return value if called is None else called(context, parameter, value)

    parameter.process_value = process


def metavar_of(parameter: Any) -> str:
    """What stands for the value of a parameter."""
    return str(parameter.metavar or str(parameter.name).upper().replace("_", "-"))


def default_of(parameter: Any) -> str:
    """The default of a parameter for people; empty where there is nothing to say."""
    shown = parameter.show_default
    if isinstance(shown, str):
        return shown
    value = parameter.default
    if shown is False or value in (None, False, (), []) or callable(value):
        return ""
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return "on" if value is True else str(getattr(value, "value", value))


def complete() -> int:
    """Answer a shell that asks for completions or for its script; return the exit status."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    try:
        Commands(name="upscale").main(
            args=[], prog_name="upscale", complete_var="_UPSCALE_COMPLETE"
        )
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0
