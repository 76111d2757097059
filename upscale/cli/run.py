"""``upscale INPUT...``: the main job."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from upscale.cli.commands import COMMANDS, MAIN_JOB
from upscale.cli.console import printable
from upscale.cli.options import CommandOptions, spread
from upscale.errors import UsageError
from upscale.options import Outputs, RunOptions, Selection
from upscale.settings import Settings

OTHERS = "\n".join(
    ["Other commands (upscale COMMAND --help tells more):", ""]
    + [f"  {name:<8}  {line}" for name, line in COMMANDS.items() if name != MAIN_JOB]
)


def _show_version(value: bool) -> None:
    """Print the version and leave, when asked for."""
    if value:
        from upscale import __version__

        print(f"upscale {printable(__version__)}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        metavar="",
        help="Show the version and exit.",
        callback=_show_version,
        is_eager=True,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Files, folders, globs, URLs of any fsspec file system, or - (pictures on stdin).",
        show_default=False,
    ),
]
app = typer.Typer()


@app.command(epilog=OTHERS)
@spread
def run(
    inputs: Inputs = None,
    *,
    outputs: Outputs,
    settings: Settings,
    options: RunOptions,
    selection: Selection,
    command: CommandOptions,
    version: VersionOption = False,
) -> int:
    """Enlarge pictures with super-resolution networks.

    upscale photo.jpg                        four times as large, beside it
    upscale photos/ -r -o large/ -s 2        a tree of pictures, twice as large
    upscale scan.png --alpha 0 --denoise 0   faithful: no texture is invented
    upscale - -o - -m srcnn < a.png > b.png  a pipe, with the smallest network

    Nothing that exists is replaced silently, an output appears whole or not at all,
    and the same command resumes.
    """
    from upscale.cli import main_job

    _refuse_number_after_quiet(inputs or [], quiet=command.quiet)
    job = main_job.MainJob(tuple(inputs or ()), settings, outputs, selection, options)
    return main_job.dry_run(job, command) if command.dry_run else main_job.execute(job, command)


def _refuse_number_after_quiet(inputs: list[str], *, quiet: bool) -> None:
    """Refuse ``-q 90``, which is the quality elsewhere, unless there is a file of that name."""
    for word in inputs:
        if quiet and word.isdecimal() and not os.path.lexists(word):
            raise UsageError(
                f"{word} is no file, and -q (--quiet) takes no number: "
                f"did you mean --quality {word}?"
            )
