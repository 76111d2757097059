"""Shell completion: commands, options, and (by the shell itself) files."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from upscale.cli import COMMANDS
from upscale.cli.command import load


class CompletionTree(TyperGroup):
    """The commands as a tree, for completion; words that name no command go to the main job."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in that knows its name and its line of help; nothing is imported."""
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command itself, imported now."""
        return args[0], load(args[0]), args[1:]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` before arguments that name no command."""
        if args and args[0] not in COMMANDS:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the first word: a command, or an option of the main job."""
        own = [item for item in super().shell_complete(ctx, incomplete) if item.value != "--help"]
        if not incomplete.startswith("-"):
            return own
        main_job = load(None)
        return own + list(
            main_job.shell_complete(main_job.make_context("upscale", ["-"]), incomplete)
        )


def complete() -> int:
    """Answer a shell that asks for completions or for its script; return the exit status."""
    from typer.completion import (  # type: ignore[attr-defined]
        completion_init,
    )

    completion_init()
    tree = CompletionTree(name="upscale")
    try:
        tree.main(args=[], prog_name="upscale", complete_var="_UPSCALE_COMPLETE")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0
