"""The commands: one file each, imported when its command is called.

``upscale.cli.NAME`` holds ``app``, a ``typer.Typer`` with one command, or with several. Its module
imports nothing heavier than typer, ``upscale.settings`` and ``upscale.errors`` at its top. The
command does one library call and prints; it may return an ``int``, which becomes the exit status.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from upscale.errors import UsageError

MAIN_JOB = "run"

COMMANDS = {
    MAIN_JOB: "Enlarge pictures (the default command).",
    "models": "List the models that can run.",
    "weights": "List, verify, pull, convert and blend checkpoints.",
    "evaluate": "PSNR and SSIM by the papers' protocols.",
    "compare": "Contact sheet, alpha sweep, HTML page.",
    "bench": "Pixels per second on this machine.",
    "train": "Train the networks by the recipes behind the weights.",
    "info": "What a picture is, and the provenance written in it.",
    "doctor": "What works on this machine, and what does not.",
}

# What other tools call something that is here under another name.
ELSEWHERE = {"help": "--help", "version": "--version"}
ELSEWHERE |= {verb: f"weights {verb}" for verb in ("pull", "verify", "convert", "blend", "export")}


class Commands(TyperGroup):
    """All commands; arguments that begin with none of their names are those of the main job."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; a package that it needs and that is not installed is wrong usage."""
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"upscale.cli.{cmd_name}")
        except ModuleNotFoundError as error:
            raise UsageError(
                f"'upscale {cmd_name}' needs the package {error.name!r}: pip install {error.name}"
            ) from error
        command = get_command(module.app)
        command.name = cmd_name
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """The context of the main job, unless a command is named or a shell asks for all."""
        args = _with_axes(args)
        if (args and args[0] in COMMANDS) or (extra.get("resilient_parsing") and not args):
            return super().make_context(info_name, args, parent, **extra)
        _refuse_mistyped_command(args[0] if args else "")
        return self.get_command(None, MAIN_JOB).make_context(info_name, args, parent, **extra)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the first word: a command, or an option of the main job."""
        own = [item for item in super().shell_complete(ctx, incomplete) if item.value != "--help"]
        if not incomplete.startswith("-"):
            return own
        context = self.make_context("upscale", ["-"], resilient_parsing=True)
        return own + list(context.command.shell_complete(context, incomplete))


def _with_axes(args: list[str]) -> list[str]:
    """``--seamless=xy`` for a ``--seamless`` that no axis follows: typer has no optional values."""
    end = args.index("--") if "--" in args else len(args)
    given = list(args)
    for at, (word, following) in enumerate(zip(args, [*args[1:], ""], strict=False)):
        if at < end and word == "--seamless" and following not in ("x", "y", "xy"):
            given[at] = "--seamless=xy"
    return given


app = typer.Typer(cls=Commands, add_completion=False)


@app.callback()
def upscale() -> None:
    """Enlarge pictures with super-resolution networks."""


def _refuse_mistyped_command(word: str) -> None:
    """Refuse a first word that is no file and nearly a command."""
    if not re.fullmatch(r"[A-Za-z]+", word) or os.path.lexists(word):
        return
    near = difflib.get_close_matches(word.lower(), [*COMMANDS, *ELSEWHERE], 1, 0.7)
    if near:
        meant = ELSEWHERE.get(near[0], near[0])
        raise UsageError(f"{word!r} is no file and no command: did you mean 'upscale {meant}'?")


def complete() -> int:
    """Answer a shell that asks for completions or for its script; return the exit status."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    try:
        get_command(app).main(args=[], prog_name="upscale", complete_var="_UPSCALE_COMPLETE")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


@contextmanager
def quick_imports() -> Iterator[None]:
    """Pause the collection of garbage while modules are imported and networks are loaded.

    PyTorch makes half a million objects of modules, functions and classes, and no garbage. Python
    would walk through them again and again on the way, and once more at the end of the process:
    a fifth of ``import torch``. Where it was imported in this context, what is there at the end is
    never walked through.
    """
    is_first, was_on = "torch" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_first and "torch" in sys.modules:
            gc.freeze()
        if was_on:
            gc.enable()
